"""Input that strangers may send, as costly as so many bytes can be. A case makes it, and gives what parses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import httpx2

from lowtide.adapters.openai.ranges import total_of
from lowtide.adapters.openai.reading import moment_of, provider_batch
from lowtide.adapters.openai.wire import json_body, retry_after_s
from lowtide.core.acceptance import accept
from lowtide.core.documents import kept, refused_letter
from lowtide.core.errors import ConfigError, Refused
from lowtide.core.json_schema import Effort, first_fault
from lowtide.core.jsontext import carriable
from lowtide.core.message import MOST_TASKS, split_message
from lowtide.core.names import folded
from lowtide.core.outcomes import judge_line
from lowtide.core.overlays import overlaid
from lowtide.core.packs import packs, unpack
from lowtide.core.patterns import Patterns
from lowtide.core.prefixes import prefix_key
from lowtide.core.prompts import request_body
from lowtide.core.result_lines import parse_result_line
from lowtide.core.routes import Limits, NeverBatch, Routes
from lowtide.core.task import AcceptedTask, Endpoint
from lowtide.core.toml_lines import MOST_CHARACTERS
from lowtide.core.webhooks import BODY_BYTES, Delivery, read, signature, signing_key
from lowtide.core.weights import weigh

MIB = 1_048_576
NOW = datetime(2026, 3, 5, 8, 0, tzinfo=UTC)
KEY = b"k" * 32

Case = Callable[[int], Callable[[], object]]
"""From a size in bytes to the parsing of that much."""


@cache
def routes() -> Routes:
    """With everything that a deployment may have checked."""
    shipped = Routes.load(files("lowtide").joinpath("routes.toml").read_text(encoding="utf-8"))
    held = shipped.types["email_draft"].model_copy(update={"validate_output": True})
    return shipped.model_copy(
        update={
            "limits": Limits(
                models=frozenset({"gpt-6-luna", "gpt-6.1-terra", "text-embedding-3-small"}), max_tokens=1_000
            ),
            "never_batch": NeverBatch(types=frozenset({"fraud_detection"}), tags=frozenset({"pii", "risk=high"})),
            "types": shipped.types | {"email_draft": held},
        }
    )


def filled(size: int, unit: str, before: str = "", after: str = "", between: str = ",") -> str:
    """``unit`` as often as it fits, its ``{n}`` numbered."""
    width = len(unit.replace("{n}", "1234567").encode()) + len(between)
    number = max(2, (size - len(before) - len(after)) // width)
    return before + between.join(unit.replace("{n}", str(n)) for n in range(number)) + after


def door(make: Callable[[int], str]) -> Case:
    """A message at the intake, split and judged; what is refused becomes a letter."""

    def case(size: int) -> Callable[[], object]:
        text = make(size)

        def parse() -> object:
            try:
                raws = split_message(text)
            except Refused as refusal:
                return refused_letter(carriable(text), refusal.code, refusal.message, NOW).model_dump_json()
            return [_judged(raw) for raw in raws]

        return parse

    return case


def _judged(raw: Any) -> AcceptedTask | str:
    try:
        return accept(raw, origin="m/0", sent_at=NOW, routes=routes())
    except Refused as refusal:
        return refused_letter(carriable(raw), refusal.code, refusal.message, NOW).model_dump_json()


def rendered(make: Callable[[int], str]) -> Case:
    """An accepted task on its way: weighed, its beginning compared."""

    def case(size: int) -> Callable[[], object]:
        [raw] = split_message(make(size))
        made = accept(raw, origin="m/0", sent_at=NOW, routes=routes())
        return lambda: (weigh(made), prefix_key(request_body(made)))

    return case


def carried(make: Callable[[int], str]) -> Case:
    """An accepted task in a message of its tier: packed, and unpacked."""

    def case(size: int) -> Callable[[], object]:
        [raw] = split_message(make(size))
        made = accept(raw, origin="m/0", sent_at=NOW, routes=routes())
        return lambda: [unpack(text) for text, _ in packs([made], most=10)]

    return case


BODY = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "?"}]}


def task(**fields: Any) -> str:
    """A request, up to its last brace: more fields may follow."""
    own = {"task_id": "t", "type": "email_draft", "request": {"url": Endpoint.CHAT.value, "body": BODY}}
    return json.dumps(own | fields)[:-1]


def payload(size: int, before: str, unit: str, after: str, between: str = ",") -> str:
    start = '{"task_id":"t","type":"content_generation","payload":{"a":' + before
    return filled(size, unit, start, after + "}}", between)


def body(size: int, before: str, unit: str, after: str = "") -> str:
    """More fields of a chat's body."""
    start = json.dumps(BODY)[:-1] + "," + before
    return filled(
        size,
        unit,
        '{"task_id":"t","type":"email_draft","request":{"url":"/v1/chat/completions","body":' + start,
        after + "}}}",
    )


def embedding(size: int, unit: str) -> str:
    start = '{"task_id":"t","type":"data_enrichment","request":{"url":"/v1/embeddings","body":{'
    return filled(size, unit, start + '"model":"text-embedding-3-small","input":[', "]}}}")


def pack(size: int, unit: str, tasks: int) -> str:
    """Give a file of so many tasks, with blanks between them."""
    blanks = " " * max(0, (size - 20) // tasks - len(unit) - 3)
    return '{"tasks":[' + ("," + blanks).join(unit.replace("{n}", str(n)) for n in range(tasks)) + "]}"


def schema(size: int, before: str, unit: str, after: str = "") -> str:
    start = '"response_format":{"type":"json_schema","json_schema":{"name":"f","schema":{'
    return body(size, start + before, unit, after + "}}}")


SMALL = '{"task_id":"{n}","type":"email_draft","payload":{"a":1}}'
DOOR: Mapping[str, Callable[[int], str]] = {
    "names, the last twice": lambda size: filled(size, '"{n}":0', "{", ',"x":0,"x":0}'),
    "names inside, the last twice": lambda size: payload(size, "{", '"{n}":0', ',"x":0,"x":0}'),
    "objects with a name twice": lambda size: payload(size, "[", '{"a":0,"a":0}', "]"),
    "a pack of numbers": lambda size: filled(size, "1", '{"tasks":[', "]}"),
    "a pack of objects": lambda size: filled(size, "{}", '{"tasks":[', "]}"),
    "a pack of 5,000 objects": lambda size: pack(size, "{}", MOST_TASKS),
    "a pack of 5,000 tasks": lambda size: pack(size, SMALL, MOST_TASKS),
    "unknown fields": lambda size: filled(size, '"{n}":0', task() + ",", "}"),
    "tags that are no text": lambda size: filled(size, '"{n}":0', task() + ',"tags":{', "}}"),
    "tags": lambda size: filled(size, '"{n}":""', task(priority="LOW") + ',"tags":{', "}}"),
    "tags to be folded": lambda size: filled(
        size, '"{n}\u0430' + "e\u0301\u0323" * 40 + '":""', task(priority="LOW") + ',"tags":{', "}}"
    ),
    "one tag of accents": lambda size: filled(
        size, "\u0323\u0301", task(priority="LOW") + ',"tags":{"a', '":""}}', between=""
    ),
    "brackets": lambda size: "[" * size,
    "objects inside each other": lambda size: '{"a":' * (size // 5),
    "digits": lambda size: payload(size, "", "7", "", between=""),
    "digits behind a point": lambda size: payload(size, "0.", "7", "", between=""),
    "numbers of 4,000 digits": lambda size: payload(size, "[", "7" * 4_000, "]"),
    "floats of 700 digits": lambda size: payload(size, "[", "0." + "7" * 700 + "e-300", "]"),
    "exponents": lambda size: payload(size, "[", "1e308", "]"),
    "numbers beyond floats": lambda size: payload(size, "[", "1e999", "]"),
    "escapes": lambda size: payload(size, '"', "\\u0000", '"', between=""),
    "halves of pairs": lambda size: payload(size, '"', "\\ud800", '"', between=""),
    "blanks": lambda size: " " * size,
    "quotes": lambda size: '"' * size,
    "a type": lambda size: task(type="a" * (size - 300)) + "}",
    "a type of blanks": lambda size: task(type=" " * (size - 300)) + "}",
    "an id": lambda size: task(task_id="a" * (size - 300)) + "}",
    "a tenant": lambda size: task(tenant="a " * ((size - 300) // 2)) + "}",
    "a deadline": lambda size: task(deadline_at="2026-" * ((size - 300) // 5)) + "}",
    "a traceparent": lambda size: task(traceparent="0" * (size - 300)) + "}",
    "a reply queue": lambda size: task(reply_to="h" * (size - 300)) + "}",
    "messages": lambda size: filled(
        size, '{"role":"u"}', task()[:-2].replace('"messages": [', '"messages": [{"role":"u"},')[:-1] + ",", "]}}}"
    ),
    "texts to embed": lambda size: embedding(size, '"a"'),
    "tokens to embed": lambda size: embedding(size, "[1]"),
    "tools": lambda size: body(size, '"tools":[', '{"type":"x","a":[{}]}', "]"),
    "models": lambda size: body(size, '"models":[', '"gpt-6-luna"', "]"),
    "fallbacks inside each other": lambda size: body(size, '"fallbacks":[', '[[[["gpt-6-luna"]]]]', "]"),
    "a schema of many for one value": lambda size: schema(size, '"allOf":[', '{"$ref":"#/no"}', "]"),
    "a schema that goes round": lambda size: schema(size, '"allOf":[', '{"$ref":"#"}', "]"),
    "a schema of references": lambda size: schema(size, "", '"{n}":{"$ref":"#/1{n}"}'),
    "a schema in a star": lambda size: schema(
        size, '"$defs":{"a":{},', '"{n}":{"anyOf":[{"$ref":"#/$defs/a"},{}]}', "}"
    ),
    "a batch line": lambda size: filled(
        size,
        '"{n}":0',
        '{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":' + json.dumps(BODY)[:-1] + ",",
        "}}",
    ),
}


def line(make: Callable[[int], bytes]) -> Case:
    """A line of a batch's output: read, judged and kept."""

    def case(size: int) -> Callable[[], object]:
        raw = make(size)

        def parse() -> object:
            found = parse_result_line(raw)
            if found is None:
                return None
            kept(found.response.body if found.response is not None else None)
            return judge_line(found.response, found.error_code, found.error_message)

        return parse

    return case


def _line(inner: str, status: str = "200") -> bytes:
    return f'{{"custom_id":"a","response":{{"status_code":{status},"body":{inner}}}}}'.encode()


LINES: Mapping[str, Callable[[int], bytes]] = {
    "empty objects": lambda size: b"{}" * (size // 2),
    "small objects": lambda size: b'{"":0}\t' * (size // 7),
    "an answer of numbers": lambda size: _line(filled(size, "1", '{"a":[', "]}")),
    "an answer as text": lambda size: _line(json.dumps(filled(size // 2, '"a"', "[", "]"))),
    "a line with NaN and digits": lambda size: _line('{"a":NaN,"b":' + "7" * size + "}"),
    "a line with NaN and numbers": lambda size: _line(filled(size, "7" * 4_000, '{"a":NaN,"b":[', "]}")),
    "a line of stray bytes": lambda size: _line('{"a":"X"}').replace(b"X", b"\xff" * size),
    "a line of brackets": lambda size: _line("[" * size),
    "an error of many parts": lambda size: _line(
        filled(size, '"{n}":0', '{"error":{"code":{', '},"message":[]}}'), "500"
    ),
    "an error's text": lambda size: _line(
        '{"error":{"code":"' + "\\u0007" * (size // 12) + '","message":"' + "x" * (size // 2) + '"}}', "400"
    ),
    "a status of digits": lambda size: _line("{}", "7" * size),
}


def answer(value: Callable[[int], Any], judged_by: Any) -> Case:
    """An answer that is held to the schema of its request."""

    def case(size: int) -> Callable[[], object]:
        made = value(size)
        held_to = judged_by(size) if callable(judged_by) else judged_by
        return lambda: first_fault(made, held_to, Effort(len(json.dumps(made))))

    return case


FORM = {
    "type": "object",
    "properties": {"label": {"type": "string", "maxLength": 9}, "sure": {"type": "boolean"}},
    "required": ["label"],
}
ANSWERS: Mapping[str, Case] = {
    "an answer of objects": answer(lambda size: [{"label": "tide", "sure": True}] * (size // 32), {"items": FORM}),
    "an answer of different items": answer(lambda size: [f"{n:08}" for n in range(size // 12)], {"uniqueItems": True}),
    "an answer out of a long enum": answer(
        lambda size: [f"{n:08}" for n in range(size // 24)],
        lambda size: {"items": {"enum": [f"{n:08}" for n in range(size // 24)]}},
    ),
    "a schema of many alternatives": answer(
        lambda _: [7] * 99, lambda size: {"items": {"anyOf": [False] * (size // 6)}}
    ),
    "a schema that branches": answer(
        lambda _: "x",
        lambda _: (
            {f"n{n}": {"anyOf": [{"$ref": f"#/n{n + 1}"}] * 2} for n in range(99)} | {"$ref": "#/n0", "n99": False}
        ),
    ),
    "a schema of long references": answer(
        lambda _: [7] * 5_000, lambda size: {"items": {"$ref": "#" + "/a" * (size // 2)}}
    ),
    "a schema of many required names": answer(
        lambda _: [{}] * 5_000, lambda size: {"items": {"required": [7] * (size // 2)}}
    ),
    "a text under a pattern": answer(lambda size: "01" * (size // 2), {"pattern": "[01]*1[01]{900}x"}),
    "texts under a pattern": answer(
        lambda size: ["01" * 300] * (size // 600), {"items": {"pattern": "[01]*1[01]{900}x"}}
    ),
    "patterns": answer(
        lambda _: ["a"] * 9_999,
        lambda size: {"prefixItems": [{"pattern": f"\\pL{{{n % 900}}}"} for n in range(size // 24)]},
    ),
    "a long pattern": answer(lambda _: "a", lambda size: {"pattern": "(a?)" * (size // 4)}),
}


def _webhook(size: int) -> Delivery:
    data = b'{"type":"batch.completed","data":{"id":"' + b"a" * min(size, BODY_BYTES - 99) + b'"}}'
    stamp = str(int(NOW.timestamp()))
    signed = f"{signature(KEY, 'evt_1', stamp, data)} " + "v1,AAAA " * (size // 8)
    return Delivery("evt_1", stamp, signed, data)


def _loaded(text: str) -> object:
    try:
        return Routes.load(text)
    except ConfigError as refusal:
        return refusal


def _shipped_with(more: str) -> Callable[[], object]:
    text = files("lowtide").joinpath("routes.toml").read_text(encoding="utf-8") + more
    return lambda: _loaded(text)


def _reply(content: bytes) -> httpx2.Response:
    request = httpx2.Request("GET", "https://api.example.com/v1/models", headers={"authorization": "Bearer sk-1"})
    return httpx2.Response(200, content=content, request=request)


def _header(name: str, value: str) -> Callable[[], object]:
    return lambda: retry_after_s(httpx2.Headers({name: value}))


ROUTES_ROOM = 110_000
"""What is left for a hostile part: a file of more than 131,072 characters is not parsed."""

OTHERS: Mapping[str, Case] = {
    "a webhook's signatures": lambda size: lambda: read(_webhook(size), KEY, NOW),
    "a webhook's id": lambda size: lambda: read(Delivery("a" * size, "1", "v1,", b""), KEY, NOW),
    "a webhook's time": lambda size: lambda: read(Delivery("a", "1" * size, "v1,", b""), KEY, NOW),
    "a signing key": lambda size: lambda: signing_key("whsec_" + "A" * (size // 4 * 4)),
    "a batch's errors": lambda size: (
        lambda: provider_batch({"id": "b", "errors": {"data": [{"code": "x", "line": 1}] * (size // 24)}})
    ),
    "a batch's error text": lambda size: lambda: provider_batch({"id": "b", "errors": "x" * size}),
    "a batch's usage": lambda size: (
        lambda: provider_batch({"id": "b", "usage": {str(n): n for n in range(size // 16)}})
    ),
    "a reply that is no JSON": lambda size: lambda: json_body(_reply(b"[" * size)),
    "Retry-After in digits": lambda size: _header("retry-after", "9" * size),
    "Retry-After as a date": lambda size: _header("retry-after", "Mon, " * (size // 5)),
    "Retry-After in brackets": lambda size: _header("retry-after", "(" * size),
    "a moment": lambda size: lambda: moment_of("2026-01-01T" * (size // 11)),
    "a range": lambda size: (
        lambda: total_of(httpx2.Response(206, headers={"content-range": "bytes 0-9/" + "9" * size}), 0)
    ),
    "a name of accents": lambda size: lambda: folded("e\u0301\u0323" * (size // 5)),
    "a name of equals signs": lambda size: lambda: folded("\u00e9=" * (size // 3)),
    "a name that nobody sees": lambda size: lambda: folded("\u200b" * (size // 3)),
    "patterns for one text": lambda size: (
        lambda: [(made := Patterns())] + [made.matches(f"a{{{n}}}", "a") for n in range(size // 99)]
    ),
    "routes: a dotted key": lambda size: _shipped_with("\n" + "a." * (min(size, ROUTES_ROOM) // 2) + "a = 1"),
    "routes: a number": lambda size: _shipped_with("\nx = " + "9" * min(size, ROUTES_ROOM)),
    "routes: brackets": lambda size: _shipped_with("\nx = " + "[" * min(size, ROUTES_ROOM)),
    "routes: dots": lambda size: _shipped_with("\n" + "." * min(size, ROUTES_ROOM)),
    "routes: letters": lambda size: _shipped_with("\n" + "a" * min(size, ROUTES_ROOM)),
    "routes: quotes": lambda size: _shipped_with("\nx = " + '\\"""' * (min(size, ROUTES_ROOM) // 4)),
    "routes: tables": lambda size: _shipped_with(
        "\n" + "".join(f"[x{n}]\n" for n in range(min(size, ROUTES_ROOM) // 9))
    ),
    "routes: keys": lambda size: _shipped_with(
        "\n" + "".join(f"x{n} = 1\n" for n in range(min(size, ROUTES_ROOM) // 11))
    ),
    "routes: an array": lambda size: _shipped_with("\nx = [" + "1," * (min(size, ROUTES_ROOM) // 2) + "]"),
    "routes: megabytes": lambda size: _shipped_with("#" * size),
}

ACCEPTED = ("exponents", "escapes", "messages", "texts to embed", "tokens to embed", "tools", "a schema in a star")
OVERLAYS: Mapping[str, Callable[[int], str]] = {
    "brackets in quotes": lambda size: filled(size, '[types."[{n}]"]\ntier="LOW"', between="\n"),
    "types that fail": lambda size: filled(size, "[types.t{n}]\ntier=1", between="\n"),
    "settings beside entries to remove": lambda size: filled(
        size, "t{n}={tier='LOW'}", f"remove={[f'types.x{n}' for n in range(200)]}\n[types]\n", between="\n"
    ),
    "array headers": lambda size: filled(size, "[[types.a]]", between="\n"),
    "quoted steps": lambda size: filled(size, '"\\u0022{n}"."]"."["=1', "[types]\n", between="\n"),
}
"""Overlays of a deployment's routes. A larger text is refused before it is parsed."""


def overlay(make: Callable[[int], str]) -> Case:
    def case(size: int) -> Callable[[], object]:
        shipped = files("lowtide").joinpath("routes.toml").read_text(encoding="utf-8")
        text = make(min(size, MOST_CHARACTERS))

        def parse() -> object:
            try:
                return overlaid(shipped, text)
            except ConfigError as refusal:
                return str(refusal)

        return parse

    return case


CASES: Mapping[str, Case] = {
    **{f"overlay: {name}": overlay(make) for name, make in OVERLAYS.items()},
    **{f"render: {name}": rendered(DOOR[name]) for name in ACCEPTED},
    **{f"carry: {name}": carried(DOOR[name]) for name in ACCEPTED},
    **{f"door: {name}": door(make) for name, make in DOOR.items()},
    **{f"line: {name}": line(make) for name, make in LINES.items()},
    **{f"schema: {name}": case for name, case in ANSWERS.items()},
    **OTHERS,
}
