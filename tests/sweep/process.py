"""One life of an actor: it pauses before each of its calls, and dies, or is refused, where the play says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from lowtide.ports import System
from lowtide_local.engine.crashes import Crash, CrashPlan, Side
from tests.sweep.cast import Actor
from tests.sweep.interleaving import SkewedClock
from tests.sweep.troubles import How, Raise

if TYPE_CHECKING:
    from tests.sweep.play import Play

T = TypeVar("T")


class Process(CrashPlan):
    """``raised``: the calls of the present turn that raised because the play has a trouble there."""

    def __init__(self, play: Play, actor: Actor) -> None:
        super().__init__()
        self._play, self._actor = play, actor
        self.raised: list[str] = []

    def guard_system(self, system: System, clock: SkewedClock) -> System:
        return replace(super().guard_system(system), clock=clock)

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        number, raises = self._begin(name)
        if raises is not None and raises.how is How.BEFORE:
            raise raises.error
        try:
            yield
        except Exception:
            self._after(number, name)
            raise
        self._after(number, name)
        if raises is not None:
            raise raises.error

    def run(self, name: str, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        number, raises = self._begin(name)
        if raises is not None:
            if name == "tasks.apply":
                self._play.doubtful |= {change.key for change in raises.failed(args[0])}
            if raises.how is How.BEFORE:
                raise raises.error
            method = partial(raises.instead_of, name, method)
        try:
            result = method(*args, **kwargs)
        except Exception:
            self._after(number, name)
            raise
        self._after(number, name)
        return result

    def _begin(self, name: str) -> tuple[int, Raise | None]:
        if self.crashed:
            raise Crash(f"{name}: already dead")
        number = self._play.called(self._actor, name)
        self._die(number, Side.BEFORE, name)
        raises = self._play.raises(number, name)
        if raises is not None:
            self.raised.append(name)
        return number, raises

    def _after(self, number: int, name: str) -> None:
        if name.endswith(".delete"):
            self._play.watch.look()
        self._die(number, Side.AFTER, name)

    def _die(self, number: int, side: Side, name: str) -> None:
        if self.crashed or self._play.dies(number, side, self._actor):
            self.crashed = True
            raise Crash(f"{side.name.lower()} call {number}, {name}")
