"""``lowtide submit``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
from rich.markup import escape

from lowtide_local.operate.desk import opened
from lowtide_local.operate.submitting import Submission
from lowtide_local.run.formats import HEAD_BYTES, looks_like
from lowtide_local.run.reading import lines

from .given import named, reader
from .showing import JsonList, console
from .stop import ExitCode, usage

SHOWN = 10
"""Refused lines that are shown; --json has all of them."""

Refusal = dict[str, Any]


def submit_command(where: tuple[str | None, str | None], file: Path, *, as_json: bool) -> ExitCode:
    with ExitStack() as held:
        source = _source(file, held)
        desk = held.enter_context(opened(*where))
        refusals = JsonList("refusals")
        made = Submission(desk.system, _written(refusals) if as_json else _shown())
        complete = False
        try:
            made.send(lines(source))
            complete = True
        finally:
            # Also where it was interrupted: nothing else tells what was sent.
            if as_json and (made.sent or made.refused):
                refusals.end(_document(made, complete=complete))
            if not complete:
                sys.stderr.write(_cut_off(made))
    if not made.sent and not made.refused:
        raise usage(f"{named(file)} is empty: give a file with one task per line")
    if not as_json:
        _show(made, desk.system.deployment)
    return ExitCode.SOME_DEAD if made.refused else ExitCode.DONE


def _source(file: Path, held: ExitStack) -> BinaryIO:
    """Raises Stop where the file's beginning cannot be that of tasks."""
    source = reader(file, held)
    head = source.peek(HEAD_BYTES)[:HEAD_BYTES]
    if (what := looks_like(head, whole=file.is_file() and len(head) < HEAD_BYTES)) is not None:
        raise usage(f"{named(file)} looks like {what}")
    return cast("BinaryIO", source)


def _written(refusals: JsonList) -> Callable[[Refusal], None]:
    return lambda refusal: refusals.add(orjson.dumps(refusal))


def _shown() -> Callable[[Refusal], None]:
    told = 0

    def show(refusal: Refusal) -> None:
        nonlocal told
        told += 1
        if told <= SHOWN:
            name = f" (task {refusal['task_id']})" if refusal["task_id"] else ""
            message = " ".join(refusal["error"]["message"].split())
            sys.stderr.write(f"line {refusal['line']}{name} refused: {message}\n")
        elif told == SHOWN + 1:
            sys.stderr.write("more lines are refused; --json has all of them\n")

    return show


def _cut_off(made: Submission) -> str:
    if not made.through:
        return "cut off at the beginning: some lines may have been sent. Submit the same file again to send the rest\n"
    return (
        f"cut off: everything up to line {made.through} was sent, and perhaps some lines after it. "
        "Submit the same file again to send the rest: what was sent is dropped as a duplicate\n"
    )


def _document(made: Submission, *, complete: bool) -> dict[str, Any]:
    return {
        "sent": made.sent,
        "refused": made.refused,
        "messages": made.messages,
        "through_line": made.through,
        "complete": complete,
    }


def _show(made: Submission, deployment: str) -> None:
    out = console()
    tasks, messages = _count(made.sent, "task"), _count(made.messages, "message")
    out.print(f"{tasks} sent to {escape(deployment)} in {messages}", soft_wrap=True)
    if made.refused:
        out.print(f"{_count(made.refused, 'line')} refused and not sent", soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
