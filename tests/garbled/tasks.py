"""Task lines and messages as no publisher should write them, each a function of its dice."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

DIGITS, FLOAT = "@digits@", "@float@"
"""Stand for numbers that Python's JSON would not write."""
TOKENS = {f'"{DIGITS}"': "9" * 5_000, f'"{FLOAT}"': "1e999"}


def nested(levels: int, inner: Any = 1) -> Any:
    for level in range(levels):
        inner = [inner] if level % 2 else {"in": inner}
    return inner


TEXTS = (
    *(
        "",
        " ",
        "\0",
        "\x07",
        "\x1b[31m",
        "\x0b",
        "\ud800",
        "\udfff\ud800",
        "\ufffe",
        "\uffff",
        "\u2028",
        "\u202e",
        "\ufeff",
    ),
    *(
        "a\nb",
        "a\r\nb",
        "\t",
        "é" * 300,
        "\U0001f600",
        "x" * 300,
        "x" * 70_000,
        "e\u0301\u0323" * 300,
        "../../etc/passwd",
    ),
    *(
        "fraud_detection ",
        "Fraud-Detection",
        "SAFETY CHECK",
        "content_generation\u200b",
        "LOW",
        "low",
        "NaN",
        "null",
        "0",
    ),
    *(
        "2026-02-30T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "2026-03-05",
        "[sim:500]",
        "[sim:garbage]",
        "{}",
        "gpt-5-mini ",
    ),
)
NUMBERS = (
    *(0, -1, 1, 2, 1.5, -0.0, 1e308, 5e-324, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10_000_001),
    *(float("nan"), float("inf"), float("-inf"), True, False, DIGITS, FLOAT),
)
SHAPES = (
    *(None, [], {}, [[]], [None], {"": {}}, {"a": None}, nested(60), nested(101), nested(400), {"tasks": []}),
    *({"role": "user"}, ["a"] * 3_000, {str(n): n for n in range(300)}, {"type": "image_generation"}, {"$ref": "#"}),
)
BODY_FIELDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("max_completion_tokens", NUMBERS),
    ("max_tokens", (*NUMBERS, None)),
    ("max_output_tokens", NUMBERS),
    ("n", NUMBERS),
    ("best_of", NUMBERS),
    ("stream", (True, False, "true", None)),
    ("service_tier", ("auto", "default", "flex", "priority", "scale", None, 7)),
    ("tools", (*SHAPES, [{"type": "image_generation", "model": "gpt-5"}], [{"type": "function"}])),
    ("models", (*SHAPES, ["gpt-5"])),
    ("metadata", SHAPES),
    ("input", (*SHAPES, *TEXTS)),
    ("messages", SHAPES),
    ("prompt", (*SHAPES, {"id": "pmpt_1"})),
)
SCHEMAS = (
    *(True, False, None, 7, {}, {"$ref": "#"}, {"$ref": "#/" + "9" * 5_000}, {"type": ["object", 7]}, {"enum": {}}),
    *({"pattern": "a{4294967296}"}, {"pattern": "(" * 300 + ")" * 300}, {"pattern": "(a+)+$"}, {"pattern": "(?=a)"}),
    *({"anyOf": [{"$ref": "#"}] * 3}, {"type": "object", "properties": 7, "required": "x"}, {"uniqueItems": True}),
    *({"multipleOf": 1e-308, "minimum": "x"}, {"items": [], "prefixItems": {}}, {"allOf": [{"allOf": []}] * 50}),
)
ENVELOPES: tuple[Callable[[bytes], bytes], ...] = (
    lambda line: line,
    lambda line: b"\xef\xbb\xbf" + line,
    lambda line: line + b"\r",
    lambda line: line + line,
    lambda line: line[: len(line) // 2],
    lambda line: b"[" + line + b"]",
    lambda line: b'{"tasks":[' + line + b",7,null]}",
    lambda line: b'{"tasks":[' + line + b"," + line + b"]}",
    lambda line: b'{"Records":[{"body":' + json.dumps(line.decode("latin-1")).encode() + b"}]}",
    lambda line: json.dumps(line.decode("latin-1")).encode(),
    lambda line: line.replace(b'"', b"'"),
    lambda line: gzip.compress(line, mtime=0),
    lambda line: line.decode("utf-8", "replace").encode("utf-16", "surrogatepass"),
)


def good_task(dice: Random, task_id: str) -> dict[str, Any]:
    """One that every deployment takes."""
    request = {"url": "/v1/chat/completions", "body": _chat(dice)}
    kind = dice.choice(("email_draft", "content_generation", "meeting_summary", "safety_check", "bulk_classification"))
    return {"task_id": task_id, "type": kind, "request": request}


def task_line(dice: Random, task_id: str) -> bytes:
    r"""A line without ``\n``: a task with a few things wrong with it, or something else altogether."""
    raw = dice.choice((good_task, _never_batched, _response, _embedding, _payload, _batch_line))(dice, task_id)
    for _ in range(dice.choice((0, 0, 1, 1, 1, 3))):
        dice.choice((_spoil, _field, _body_field, _body_field, _schema))(dice, raw)
    line = _written(dice, raw)
    if dice.random() < 0.15:
        line = dice.choice(ENVELOPES)(line)
    if dice.random() < 0.15:
        line = _bytes(dice, line)
    return line.replace(b"\n", b" ")


def _chat(dice: Random) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "messages": [{"role": "user", "content": f"Hello {dice.randrange(99)}."}]}


def _response(dice: Random, task_id: str) -> dict[str, Any]:
    body = {"model": "gpt-5-mini", "input": f"Hello {dice.randrange(99)}."}
    return {"task_id": task_id, "type": "data_enrichment", "request": {"url": "/v1/responses", "body": body}}


def _never_batched(dice: Random, task_id: str) -> dict[str, Any]:
    """It asks for LOW, under a name that is spelt in one way or another."""
    name = dice.choice(("fraud_detection", "safety_check", "content_moderation"))
    for _ in range(dice.randint(0, 3)):
        how = dice.choice((str.upper, str.title, lambda text: text.replace("_", "-"), lambda text: f" {text} "))
        name = how(name).replace("a", dice.choice(("a", "а", "á", "a")))  # the second is Cyrillic
    return good_task(dice, task_id) | {"type": name, "priority": dice.choice(("LOW", 3))}


def _embedding(dice: Random, task_id: str) -> dict[str, Any]:
    body = {"model": "text-embedding-3-small", "input": dice.choice(("Hello.", ["a", "b"], [1, 2], [[1], [2]]))}
    return {"task_id": task_id, "priority": "LOW", "request": {"url": "/v1/embeddings", "body": body}}


def _payload(dice: Random, task_id: str) -> dict[str, Any]:
    return {"task_id": task_id, "type": "ticket_classification", "payload": {"text": "Hello.", "n": dice.randrange(9)}}


def _batch_line(dice: Random, task_id: str) -> dict[str, Any]:
    return {"custom_id": task_id, "method": "POST", "url": "/v1/chat/completions", "body": _chat(dice)}


def _any(dice: Random) -> Any:
    return _copy(dice.choice(dice.choice((TEXTS, NUMBERS, SHAPES))))


def _copy(value: Any) -> Any:
    """What is spoilt later must not be what others are made of."""
    return json.loads(json.dumps(value)) if isinstance(value, dict | list) else value


def _spoil(dice: Random, raw: dict[str, Any]) -> None:
    """Another value, or none, in place of one inside."""
    *way, last = dice.choice(list(_ways(raw)))
    inner: Any = raw
    for step in way:
        inner = inner[step]
    if dice.random() < 0.2:
        del inner[last]
    else:
        inner[last] = _any(dice)


def _field(dice: Random, raw: dict[str, Any]) -> None:
    names = ("type", "priority", "tenant", "tags", "reply_to", "traceparent", "deadline_at", "deadline_seconds")
    raw[dice.choice((*names, "created_at", "retry_count", "payload", "custom_id", *TEXTS))] = _any(dice)
    if dice.random() < 0.3:
        raw["tags"] = {dice.choice(TEXTS): dice.choice((*TEXTS, 7)) for _ in range(3)}


def _body(raw: dict[str, Any]) -> dict[str, Any] | None:
    request = raw.get("request", raw)
    body = request.get("body") if isinstance(request, dict) else None
    return body if isinstance(body, dict) else None


def _body_field(dice: Random, raw: dict[str, Any]) -> None:
    if (body := _body(raw)) is not None:
        name, values = dice.choice(BODY_FIELDS)
        body[name] = _copy(dice.choice(values))


def _schema(dice: Random, raw: dict[str, Any]) -> None:
    if (body := _body(raw)) is not None:
        schema = _copy(dice.choice((*SCHEMAS, {"type": "object", "properties": {"a": dice.choice(SCHEMAS)}})))
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
        body["text"] = {"format": {"type": "json_schema", "name": "f", "schema": _copy(schema)}}


def _ways(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in list(steps)[:50]:
        yield (*so_far, step)
        if len(so_far) < 8:
            yield from _ways(inner, (*so_far, step))


def _written(dice: Random, raw: dict[str, Any]) -> bytes:
    text = json.dumps(raw, ensure_ascii=dice.random() < 0.6)
    for stand_in, number in TOKENS.items():
        text = text.replace(stand_in, number)
    if dice.random() < 0.1:
        place = dice.choice([place for place, char in enumerate(text) if char == "{"])
        text = text[: place + 1] + f'"{dice.choice(("type", "model", "task_id", "x"))}":1,' * 2 + text[place + 1 :]
    return text.encode("utf-8", "surrogatepass")


def _bytes(dice: Random, line: bytes) -> bytes:
    mutable = bytearray(line or b" ")
    for _ in range(dice.randint(1, 6)):
        mutable[dice.randrange(len(mutable))] = dice.choice(
            (0, 9, 34, 39, 44, 58, 92, 0x80, 0xC3, 0xED, 0xFF, 123, 125)
        )
    return bytes(mutable)
