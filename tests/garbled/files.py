"""Output files as no provider should write them, each a function of its dice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

DEPTHS = (50, 300, 900, 3_000)
"""Levels: kept as they come; too deep for one serializer; for the other; for any parser."""
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**30, -(10**400), 2**63, 1e308, "", " ", "text", "\ud800", "\u2028", "\0"),
    *([], {}, [[]], [1, "two", None], {"": {}}, {"error": "told"}, {"code": 7}, ["error"], {"usage": 3}),
)


class Says(StrEnum):
    """What a line that nothing was done to says of its task."""

    ANSWERED = "answered"
    BURIED = "buried"
    AGAIN = "again"


@dataclass(frozen=True)
class OutputFile:
    """``plain``: lines as they were before anything was done to the file, by what they say."""

    content: bytes
    plain: Mapping[bytes, Says]

    @property
    def lines(self) -> list[bytes]:
        r"""As a download splits them: on ``\n`` alone, blank ones left out."""
        return [line for raw in self.content.split(b"\n") if (line := raw.strip(b"\r\n"))]

    def ends(self, custom_id: str) -> Says | None:
        """How a task must end whose every line is as it was written; None where one is not."""
        said = [self.plain.get(line) for line in self.lines if custom_id.encode() in line]
        if None in said:
            return None
        return next((each for each in said if each is not Says.AGAIN), Says.AGAIN)


def output_file(dice: Random, ids: Sequence[str], strangers: Sequence[str] = ("nobody",)) -> OutputFile:
    """One that speaks of ``ids``, of most of them at least, and of ``strangers`` who were not in the batch."""
    plain: dict[bytes, Says] = {}
    lines: list[bytes] = []
    for custom_id in [*ids, *dice.choices(strangers, k=dice.randint(0, 2))]:
        for _ in range(dice.choices((0, 1, 2, 3), weights=(1, 8, 2, 1))[0]):
            if dice.random() < 0.6:
                says, line = _plain(dice, custom_id)
                raw = _written(dice, line)
                plain[raw] = says
            else:
                raw = _spoilt(dice, custom_id)
            lines += [raw] * dice.choices((1, 2), weights=(9, 1))[0]
    if dice.random() < 0.7:
        dice.shuffle(lines)
    return OutputFile(_bytes(dice, lines), plain)


def answer(custom_id: str, text: str = "Hello.", usage: Any = None) -> dict[str, Any]:
    """``id`` says whose answer it is."""
    told = {"prompt_tokens": 9, "completion_tokens": 3} if usage is None else usage
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": f"for {custom_id}", "object": "chat.completion", "choices": [choice], "usage": told}


def line_of(custom_id: str, status: Any, body: Any, error: Any = None) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}


def _plain(dice: Random, custom_id: str) -> tuple[Says, dict[str, Any]]:
    match dice.randrange(6):
        case 0 | 1 | 2:
            text = dice.choice(("Hello.", "a\u2028b", "\u0000", "é" * 300, '{"no": "line"}', "\U0001f600"))
            body: Any = answer(custom_id, text)
            return Says.ANSWERED, line_of(custom_id, 200, json.dumps(body) if dice.random() < 0.3 else body)
        case 3:
            refused = {"error": {"code": "content_policy_violation", "message": "No."}}
            return Says.BURIED, line_of(custom_id, dice.choice((400, 404, 413, 422)), refused)
        case 4:
            return Says.AGAIN, line_of(custom_id, dice.choice((408, 429, 500, 503)), {"error": {"message": "Later."}})
        case _:
            failed = line_of(custom_id, 0, None, {"code": dice.choice(("batch_expired", "new_code")), "message": "."})
            return Says.AGAIN, failed | {"response": None}


def _spoilt(dice: Random, custom_id: str) -> bytes:
    """A line with something wrong in one of its fields, or with nothing right in it."""
    kind = dice.randrange(9)
    if kind == 0:
        return json.dumps(dice.choice(JUNK)).encode()
    if kind == 1:
        levels = dice.choice(DEPTHS)
        deep = "[" * levels + "]" * levels
        status = dice.choice((200, 400, 500))
        return f'{{"custom_id":"{custom_id}","response":{{"status_code":{status},"body":{{"deep":{deep}}}}}}}'.encode()
    if kind == 2:
        raw = json.dumps(line_of(custom_id, 200, answer(custom_id))).encode()
        return raw.replace(b"200", dice.choice((b"NaN", b"Infinity", b"1" * 500, b"2e2", b"-0", b"007")), 1)
    if kind == 3:
        counts = {name: dice.choice(JUNK) for name in ("prompt_tokens", "completion_tokens", "prompt_tokens_details")}
        return json.dumps(line_of(custom_id, 200, answer(custom_id, usage=counts))).encode()
    _, line = _plain(dice, custom_id)
    *way, last = dice.choice(list(_paths(line)))
    inner: Any = line
    for step in way:
        inner = inner[step]
    if dice.random() < 0.3:
        del inner[last]
    else:
        inner[last] = dice.choice(JUNK)
    return json.dumps(line).encode()


def _paths(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value inside ``value`` is."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*so_far, step)
        yield from _paths(inner, (*so_far, step))


def _written(dice: Random, line: dict[str, Any]) -> bytes:
    spaced = dice.choice(((",", ":"), (", ", ": ")))
    return json.dumps(line, ensure_ascii=dice.random() < 0.5, separators=spaced).encode()


def _bytes(dice: Random, lines: Sequence[bytes]) -> bytes:
    content = dice.choice((b"\n", b"\n", b"\n", b"\r\n", b"\n\n")).join(lines)
    if dice.random() < 0.7:
        content += b"\n"
    if content and dice.random() < 0.2:
        content = content[: dice.randrange(len(content))]
    if content and dice.random() < 0.3:
        mutable = bytearray(content)
        for _ in range(dice.randint(1, 8)):
            mutable[dice.randrange(len(mutable))] = dice.choice((0, 10, 34, 92, 0x80, 0xC3, 0xED, 0xFF, 123, 125))
        content = bytes(mutable)
    if dice.random() < 0.05:
        content = b"\xef\xbb\xbf" + content
    return content
