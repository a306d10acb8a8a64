"""Functions as Lambda runs them: each invocation in a process of its own, all of them on one clock that jumps.

An invocation has a thread, and only one thread runs at a time: where its event loop would wait, it hands over, and
whoever drives the stack turns the clock to the next moment and wakes who is due. So invocations overlap as they do
in AWS, a day takes the time that the work itself takes, and goes the same way every time.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Semaphore, Thread, local
from typing import Any
from uuid import uuid4

from lowtide import wiring
from lowtide_local.engine.clock import VirtualLoop

from .hands import Hands
from .template import Function

_here = local()


class Killed(BaseException):
    """The process is gone: it ran out of its time, or somebody killed it. Nothing of it runs after this."""


class HandingLoop(VirtualLoop):
    """Where it would jump, it hands over; it goes on once the clock shows its moment."""

    def __init__(self, hand_over: Callable[[float], None]) -> None:
        super().__init__()
        self._hand_over = hand_over

    def jump(self, seconds: float) -> None:
        self._hand_over(seconds)
        super().jump(seconds)


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler is told of its invocation."""

    function_name: str
    aws_request_id: str
    deadline: datetime
    memory_limit_in_mb: int
    hands: Hands

    def get_remaining_time_in_millis(self) -> int:
        return max(0, round((self.deadline - self.hands.now) / timedelta(milliseconds=1)))


class Container:
    """A process of one function. It keeps its clients and its event loop from one invocation to the next."""

    def __init__(
        self, function: Function, environment: Mapping[str, str], outside: wiring.Outside, hands: Hands
    ) -> None:
        self.function = function
        self.hands = hands
        self.invocation: Invocation | None = None
        self._environment = environment
        self._loop = HandingLoop(self._hand_over)
        # What ``wiring`` keeps for a process. A container is one, and a stack has many.
        self._process = wiring._Process(replace(outside, new_loop=lambda: self._loop))  # noqa: SLF001
        self._left: set[asyncio.Task[Any]] = set()
        self._dead = False

    @property
    def free(self) -> bool:
        return self.invocation is None and not self._dead

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within it, this very process is the container: its environment, its clients, its loop."""
        environment, process = dict(os.environ), wiring._process  # noqa: SLF001
        os.environ.update(self._environment)
        wiring._process = self._process  # noqa: SLF001
        try:
            yield
        finally:
            wiring._process = process  # noqa: SLF001
            for name in self._environment.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)

    def die(self) -> None:
        """A killed process takes its coroutines with it. Here they are held until the end, so that none is unwound
        meanwhile and does what a dead process cannot do."""
        self._dead = True
        self._left |= asyncio.all_tasks(self._loop)

    def close(self) -> None:
        """At the end of the stack, when nobody looks any more at what is unwound."""
        self.die()
        self.invocation = None
        for task in self._left:
            task.cancel()
        if self._left:
            self._loop.run_until_complete(asyncio.gather(*self._left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _hand_over(self, seconds: float) -> None:
        if self.invocation is not None:
            self.invocation.hand_over(seconds)


class Invocation:
    """One call of a handler. It begins when it is first woken; once ``ended`` it has an ``answer`` or an ``error``."""

    def __init__(self, container: Container, event: dict[str, Any]) -> None:
        function = container.function
        self.container = container
        self.began = container.hands.now
        self.deadline = container.hands.now + timedelta(seconds=function.timeout_s)
        self.ended = False
        self.answer: Any = None
        self.error: BaseException | None = None
        self._wake_at = container.hands.now
        self._event = event
        self._context = Context(function.name, str(uuid4()), self.deadline, function.memory_mb, container.hands)
        self._killed: str | None = None
        self._go, self._back = Semaphore(0), Semaphore(0)
        container.invocation = self
        Thread(target=self._run, name=function.name, daemon=True).start()

    @property
    def due(self) -> datetime:
        """When it has to be woken next: to go on, or to be killed for taking too long."""
        return min(self._wake_at, self.deadline)

    @property
    def killed(self) -> bool:
        return self._killed is not None

    def wake(self) -> None:
        """When it is due: lets it run until it waits again or ends."""
        function = self.container.function
        if self._wake_at > self.deadline:
            self._killed = f"{function.name} timed out after {function.timeout_s} seconds"
        with self.container.running():
            self._go.release()
            self._back.acquire()
        if self.killed:
            self.container.die()

    @staticmethod
    def here() -> Invocation | None:
        """The one that runs this very code."""
        return getattr(_here, "invocation", None)

    def doom(self, why: str = "killed") -> None:
        """It dies where it waits, or at its next wait."""
        self._killed = why

    def kill(self) -> None:
        """Now, where it waits."""
        self.doom()
        self.wake()

    def hand_over(self, seconds: float) -> None:
        """Called on its own thread."""
        now = self.container.hands.now
        self._wake_at = now if self.killed else now + timedelta(seconds=seconds)
        self._back.release()
        self._go.acquire()
        if self._killed is not None:
            raise Killed(self._killed)

    def _run(self) -> None:
        self._go.acquire()
        _here.invocation = self
        try:
            if self._killed is not None:
                raise Killed(self._killed)  # noqa: TRY301 - ends as a handler does that is killed
            module, _, name = self.container.function.handler.rpartition(".")
            handler = getattr(importlib.import_module(module), name)
            self.answer = handler(self._event, self._context)
        except BaseException as error:  # noqa: BLE001 - whatever ends a handler is its invocation's error
            self.error = error
        finally:
            self.ended = True
            self._back.release()
