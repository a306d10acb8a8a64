"""The trace of the task that is being worked on, for the log lines about it: the traceparent that its sender gave.

It travels with the coroutine, and with a thread that this hands work to by ``asyncio.to_thread``. Work that several
tasks share bears none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context

PATTERN = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def current() -> str | None:
    return _traceparent.get()


@contextmanager
def traced(traceparent: str | None) -> Iterator[None]:
    """Within it, what is logged bears this trace, or none."""
    before = _traceparent.get()
    _traceparent.set(traceparent)
    try:
        yield
    finally:
        _traceparent.set(before)  # not reset: a coroutine that is given up may be unwound in another context


def traced_from_here(traceparents: Iterable[str | None]) -> None:
    """To the end of this coroutine what is logged bears their trace, where it is one and the same."""
    shared = set(traceparents)
    _traceparent.set(shared.pop() if len(shared) == 1 else None)


def untraced() -> Context:
    """A context for a coroutine that outlives the task which happened to start it."""
    context = copy_context()
    context.run(_traceparent.set, None)
    return context


def traceparent_of(raw: object) -> str | None:
    """The trace of what may be a task: nothing that a stranger sends gets into a log unless it has its form."""
    given = raw.get("traceparent") if isinstance(raw, dict) else None
    return given if isinstance(given, str) and re.fullmatch(PATTERN, given) else None
