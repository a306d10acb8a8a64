"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting for it.

A day of sleeping, timing out and polling passes in the time that the work itself takes, and in the same order every
time. What is real is still waited for: work on threads, and sockets where no timer is set.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import datetime, timedelta
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from lowtide.core.errors import LowtideError

T = TypeVar("T")


class Deadlock(LowtideError):
    """Everything waits, and nothing is left that could wake it."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time()`` starts at 0.0 and moves only when nothing else is left to do."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._threads_at_work = 0
        self.on_jump: Callable[[], None] | None = None
        self.limiter: CapacityLimiter | None = None
        """Whose borrowed tokens are anyio's threads at work (starlette and the SDK use them)."""
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._elapsed

    def jump(self, seconds: float) -> None:
        self._elapsed += seconds
        if self.on_jump is not None:
            self.on_jump()

    @property
    def waits_for_threads(self) -> bool:
        return self._threads_at_work > 0 or (self.limiter is not None and self.limiter.borrowed_tokens > 0)

    def run_in_executor(  # type: ignore[override]  # typeshed's is generic over packs of arguments
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._threads_at_work += 1
        future.add_done_callback(lambda _: self._thread_done())
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109, ARG002
        """Joins on a thread of its own, which no future of ``run_in_executor`` stands for."""
        self._threads_at_work += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._thread_done()

    def _thread_done(self) -> None:
        self._threads_at_work -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would wait, it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._loop.waits_for_threads:
            return super().select(None)  # a finished thread wakes the loop through its self-pipe
        if timeout is not None:
            self._loop.jump(timeout)
            return []
        if len(self.get_map()) == 1:  # the loop's own self-pipe, and no socket
            raise Deadlock("every coroutine waits, and no timer, thread or socket is left to wake one")
        return super().select(None)


class VirtualClock:
    """A ports.Clock on a VirtualLoop. Moments have whole milliseconds, which is what rows keep.

    ``on_advance`` hears of every new moment, so that something else can follow (a frozen wall clock, a progress bar).
    """

    def __init__(
        self, loop: VirtualLoop, start: datetime, *, on_advance: Callable[[datetime], None] | None = None
    ) -> None:
        self._loop = loop
        self._start = start
        if on_advance is not None:
            loop.on_jump = lambda: on_advance(self.now())

    def now(self) -> datetime:
        # Rounded, not cut: a sleep until a moment must not wake a millisecond before it.
        return self._start + timedelta(milliseconds=round(self._loop.time() * 1000))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_virtual(
    main: Callable[[VirtualClock], Coroutine[Any, Any, T]],
    start: datetime,
    *,
    on_advance: Callable[[datetime], None] | None = None,
) -> T:
    """Runs ``main(clock)`` to its end, as ``asyncio.run`` would, in virtual time from ``start``. Raises Deadlock."""
    loop = VirtualLoop()
    clock = VirtualClock(loop, start, on_advance=on_advance)

    async def run() -> T:
        loop.limiter = anyio.to_thread.current_default_thread_limiter()
        return await main(clock)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(run())
