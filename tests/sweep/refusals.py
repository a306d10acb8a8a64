"""Plans of a process whose ports raise: by the name of the call, or by its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

from lowtide_local.engine.crashes import CrashPlan, Side
from tests.sweep.troubles import How, Raise, throttled, trouble_of

T = TypeVar("T")

__all__ = ["RaisesAt", "Refuses", "throttled"]


class Raising(CrashPlan):
    """Asks ``due`` before each call whether it raises."""

    def due(self, number: int, name: str) -> Raise | None:
        raise NotImplementedError

    def run(self, name: str, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        raises: Raise | None = None
        with super().call(name):
            raises = self.due(len(self.calls), name)
            if raises is None:
                return method(*args, **kwargs)
            return raises.instead_of(name, method, *args, **kwargs)

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        with super().call(name):
            raises = self.due(len(self.calls), name)
            if raises is not None and raises.how is How.BEFORE:
                raise raises.error
            yield
            if raises is not None:
                raise raises.error


class Refuses(Raising):
    """Calls of this name raise ``error`` from the ``nth`` on, ``times`` of them: before or after they took effect.
    ``of``: rows alone whose keys it takes; the others are written, as on AWS. ``refused`` counts."""

    def __init__(
        self,
        call: str,
        error: Exception,
        side: Side = Side.BEFORE,
        *,
        nth: int = 1,
        times: int = 1,
        of: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__()
        self._call, self._error, self._times, self._of = call, error, times, of
        self._how = How.BEFORE if side is Side.BEFORE else How.AFTER
        self.nth = nth
        self.refused = 0

    def due(self, number: int, name: str) -> Raise | None:
        if name != self._call or not self.nth <= self.calls.count(name) < self.nth + self._times:
            return None
        self.refused += 1
        return Raise(self._how, self._error) if self._of is None else Raise(How.PARTLY, self._error, self._spared)

    def next(self) -> None:
        """The next call of this name is the first to raise."""
        self.nth = self.calls.count(self._call) + 1

    def _spared(self, changes: Sequence[Any]) -> Sequence[Any]:
        return [change for change in changes if self._of is not None and not self._of(change.key)]


class RaisesAt(Raising):
    """Call ``at`` (from 1) raises once, in one of the ways in which its port may: by ``seed``. ``error`` is what it
    raised, None where it never came or cannot raise."""

    def __init__(self, at: int, seed: str) -> None:
        super().__init__()
        self._at, self._dice = at, Random(seed)
        self.error: Exception | None = None

    def __repr__(self) -> str:
        name = self.calls[self._at - 1] if len(self.calls) >= self._at else "?"
        return f"RaisesAt({self._at}, {name}: {self.error!r})"

    def due(self, number: int, name: str) -> Raise | None:
        if number != self._at:
            return None
        raises = trouble_of(name, None, self._dice)
        self.error = None if raises is None else raises.error
        return raises
