"""Crashes placed at will: every call to a port is numbered, and the process can die before or after any of them.

A sweep runs once without a crash to count the calls, then once for every place::

    for plan in every_crash(len(clean.calls)):
        life(plan.guard_system(system))      # raises Crash
        life(system)                         # must end as if nothing had happened
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum, auto
from functools import wraps
from typing import Any, TypeVar, cast

from lowtide.ports import System, Tasks
from lowtide.steps.counted_tasks import CountedTasks

T = TypeVar("T")


class Crash(BaseException):
    """The process died here. No BaseException handler but a test's or the demo's may stop it."""


class Side(Enum):
    BEFORE = auto()
    """The call never happened."""
    AFTER = auto()
    """The call took effect, and its reply was lost."""


class CrashPlan:
    """One life of a process: ``calls`` are the names of its calls so far; it dies at call ``at`` (from 1), or never.

    Once dead it stays dead: every later call raises Crash as well and does nothing, so that no clean-up of a process
    that should be gone takes effect. A call that gives an iterator begins with its first item and ends with its last.
    """

    def __init__(self, at: int | None = None, side: Side = Side.BEFORE) -> None:
        self.at = at
        self.side = side
        self.calls: list[str] = []
        self.crashed = False

    def __repr__(self) -> str:
        if self.at is None:
            return "CrashPlan(never)"
        name = self.calls[self.at - 1] if len(self.calls) >= self.at else "?"
        return f"CrashPlan({self.side.name.lower()} call {self.at}, {name})"

    def guard(self, port: T, name: str) -> T:
        """A stand-in for ``port`` whose calls are numbered as ``name.method``."""
        return cast("T", _Guarded(self, port, name))

    def guard_system(self, system: System) -> System:
        """Every port that reaches outside the process; its clock, its metrics and its threads do not."""
        return replace(
            system,
            intake=self.guard(system.intake, "intake"),
            tiers={tier: self.guard(queue, tier.value.lower()) for tier, queue in system.tiers.items()},
            levels=self.guard(system.levels, "levels"),
            dead_letters=self.guard(system.dead_letters, "dead_letters"),
            stranded=self.guard(system.stranded, "stranded"),
            objects=self.guard(system.objects, "objects"),
            tasks=self._guard_tasks(system),
            parts=self.guard(system.parts, "parts"),
            batches=self.guard(system.batches, "batches"),
            paces=self.guard(system.paces, "paces"),
            holds=self.guard(system.holds, "holds"),
            ledger=self.guard(system.ledger, "ledger"),
            answers={name: self.guard(api, f"answers.{name}") for name, api in system.answers.items()},
            batch_apis={name: self.guard(api, f"batch_apis.{name}") for name, api in system.batch_apis.items()},
            replies=self.guard(system.replies, "replies"),
            events=self.guard(system.events, "events"),
            callbacks=self.guard(system.callbacks, "callbacks"),
        )

    def _guard_tasks(self, system: System) -> Tasks:
        """A process may die between a write and its count: the rows are guarded, and what counts them is outside."""
        tasks = system.tasks
        if isinstance(tasks, CountedTasks):
            return replace(tasks, rows=self.guard(tasks.rows, "tasks"))
        return self.guard(tasks, "tasks")

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Numbers what happens inside as one call."""
        if self.crashed:
            raise Crash(f"{name}: already dead")
        self.calls.append(name)
        number = len(self.calls)
        self._die_if(number, Side.BEFORE, name)
        try:
            yield
        except Exception:
            self._reply(number, name)
            raise
        self._reply(number, name)

    def run(self, name: str, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """A call that neither waits nor gives an iterator."""
        with self.call(name):
            return method(*args, **kwargs)

    def _reply(self, number: int, name: str) -> None:
        """An answer or an error has come back, if there is still somebody to take it."""
        if self.crashed:  # another coroutine died while this one waited
            raise Crash(f"{name}: already dead")
        self._die_if(number, Side.AFTER, name)

    def _die_if(self, number: int, side: Side, name: str) -> None:
        if (number, side) == (self.at, self.side):
            self.crashed = True
            raise Crash(f"{side.name.lower()} call {number}, {name}")


def every_crash(calls: int) -> Iterator[CrashPlan]:
    """A plan for each side of each of ``calls`` calls."""
    for at in range(1, calls + 1):
        for side in Side:
            yield CrashPlan(at, side)


class _Guarded:
    """Looks like the port. What is no method passes through."""

    def __init__(self, plan: CrashPlan, port: object, name: str) -> None:
        self._plan = plan
        self._port = port
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        member = getattr(self._port, attribute)
        if not callable(member):
            return member
        numbered = _numbered(self._plan, f"{self._name}.{attribute}", member)
        self.__dict__[attribute] = numbered
        return numbered


def _numbered(plan: CrashPlan, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method with its calls numbered, whichever of the four kinds it is."""
    numbered: Callable[..., Any]
    if inspect.iscoroutinefunction(method):

        async def waited(*args: Any, **kwargs: Any) -> Any:
            with plan.call(name):
                return await method(*args, **kwargs)

        numbered = waited
    elif inspect.isasyncgenfunction(method):

        async def streamed(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with plan.call(name):
                async for item in method(*args, **kwargs):
                    yield item

        numbered = streamed
    elif inspect.isgeneratorfunction(method):

        def iterated(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with plan.call(name):
                yield from method(*args, **kwargs)

        numbered = iterated
    else:

        def plain(*args: Any, **kwargs: Any) -> Any:
            return plan.run(name, method, *args, **kwargs)

        numbered = plain
    return wraps(method)(numbered)
