"""Ctrl-C and SIGTERM end a command in good order: its work is cancelled, its files are closed, one line says so."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self, TypeVar

from .stop import ExitCode, Stop

T = TypeVar("T")

ENDING = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"
"""Shows the cursor again, which a progress bar hides."""


def treat_terminate_as_interrupt() -> None:
    """Without a handler SIGTERM kills the process on the spot, and without a word."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class Interruptible:
    """Ends a command in good order when a signal comes. Its work is kept.

    It raises Stop, whose line ends with ``kept()``. The line before it shows ``command``, which continues the work.

    A first signal cancels what runs in ``run`` at its next await, and breaks off anything else at once. A second one
    ends the process on the spot, with the same line: what is kept survives even ``kill -9``.
    """

    def __init__(self, kept: Callable[[], str], command: str) -> None:
        self._kept = kept
        self._command = command
        self._caught: signal.Signals | None = None
        self._cancel: Callable[[], object] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on) for number in ENDING}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._caught is not None and isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
                sys.stderr.write(f"to go on: {self._command}\n")
                raise Stop(self._line()) from None
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` as ``asyncio.run`` does. Raises CancelledError after a signal."""

        async def watched() -> T:
            task = asyncio.current_task()
            assert task is not None
            loop = asyncio.get_running_loop()
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            try:
                return await work
            finally:
                self._cancel = None

        return asyncio.run(watched())

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal break off work inside ``run`` that does not await for long."""
        cancel, self._cancel = self._cancel, None
        try:
            yield
        finally:
            self._cancel = cancel

    def _on(self, number: int, _frame: FrameType | None) -> None:
        if self._caught is not None:
            self._leave()
        self._caught = signal.Signals(number)
        if self._cancel is None:
            raise KeyboardInterrupt
        self._cancel()

    def _leave(self) -> NoReturn:
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(2, _SHOW_CURSOR.encode())
        os.write(2, f"\nto go on: {self._command}\nlowtide: {self._line()}\n".encode(errors="replace"))
        os._exit(int(ExitCode.FAILURE))

    def _line(self) -> str:
        name = self._caught.name if self._caught is not None else "a signal"
        return f"stopped by {name}; {self._kept()}"
