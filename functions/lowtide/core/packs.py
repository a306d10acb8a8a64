"""Packs of accepted tasks: what one message on a tier queue carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from .task import AcceptedTask
from .versions import MESSAGES, check_message

PACK_BYTES = 240 * 1024
"""SQS bills a message in chunks of 64 KB; past a few of them, fewer messages save nothing more."""


def packs(tasks: Iterable[AcceptedTask], *, most: int) -> Iterator[tuple[str, list[AcceptedTask]]]:
    """(body, its tasks) in order; a task larger than a pack travels alone, in a body that may exceed PACK_BYTES."""
    held: list[AcceptedTask] = []
    lines: list[str] = []
    size = 0
    for task in tasks:
        line = task.model_dump_json()
        width = len(line.encode()) + 1
        if held and (len(held) >= most or size + width > PACK_BYTES):
            yield _body(lines), held
            held, lines, size = [], [], 0
        held.append(task)
        lines.append(line)
        size += width
    if held:
        yield _body(lines), held


def _body(lines: list[str]) -> str:
    return f'{{"v":{MESSAGES},"tasks":[' + ",".join(lines) + "]}"


def unpack(body: str | bytes) -> list[AcceptedTask]:
    """The tasks of a body that ``packs`` made. Raises ValueError for any other, and NewerSchema for one that a newer
    release made."""
    content = orjson.loads(body)
    check_message(content, "a pack of tasks")
    return [AcceptedTask.model_validate(task) for task in content["tasks"]]
