"""Ctrl-C and SIGTERM end a command in good order: its work is cancelled, its files are closed, one line says so."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, NoReturn, TypeVar

from .stop import Stop

T = TypeVar("T")

ENDING = (signal.SIGINT, signal.SIGTERM)


def treat_terminate_as_interrupt() -> None:
    """Without a handler SIGTERM kills the process on the spot, and without a word."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


async def interruptible(work: Coroutine[Any, Any, T], kept: str) -> T:
    """``work``, cancelled at its next await when a signal comes: then Stop, whose line ends with ``kept``."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        caught.append(number)
        task.cancel()

    for number in ENDING:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if caught:
            raise Stop(f"stopped by {caught[0].name}; {kept}") from None
        raise
    finally:
        for number in ENDING:
            loop.remove_signal_handler(number)
        treat_terminate_as_interrupt()
