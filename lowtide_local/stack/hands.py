"""The one clock of the stack: the machine's own, which stands still until somebody turns its hands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import time_machine

_BESIDE = timedelta(microseconds=100)
"""Clocks cut a moment to its millisecond, and a float may fall just short of one."""


class Hands:
    """``now`` is what every clock of this process shows, to the millisecond."""

    def __init__(self, traveller: time_machine.Traveller, start: datetime) -> None:
        self._traveller = traveller
        self.now = start
        self.turn_to(start)

    def turn_to(self, moment: datetime) -> None:
        """Forwards only."""
        self.now = max(self.now, moment)
        self._traveller.move_to(self.now + _BESIDE)


@contextmanager
def standing_still(start: datetime) -> Iterator[Hands]:
    with time_machine.travel(start, tick=False) as traveller:
        yield Hands(traveller, start)
