"""What keeps a port that raises from harming more than what it was asked for, and a way to do without it for a play."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from lowtide.core.errors import LowtideError, Unfinished
from lowtide.steps import submit
from lowtide.steps.answer import _Reader
from lowtide_local.engine.engine import Engine
from tests.sweep.removals import Removal
from tests.sweep.schedules import REAL_TIME, Schedule
from tests.sweep.troubles import How, Trouble

CALLS = tuple(range(9, 40, 4))
"""Calls at which a write fails. They are spread over a consumer's day, so that the claim of several tasks is hit
whatever its number is."""


class AllOrNone:
    """Rows of which one that cannot be written fails those that were written with it."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.get = rows.get

    def apply(self, changes: Sequence[Any], now: datetime) -> Any:
        try:
            return self._rows.apply(changes, now)
        except Unfinished as error:
            raise next(each for each in error.outcomes if isinstance(each, Exception)) from error


class Careless:
    """Callbacks whose failures nobody hears of."""

    def __init__(self, callbacks: Any) -> None:
        self._callbacks = callbacks
        self.taken = callbacks.taken

    def send(self, callbacks: Sequence[Any]) -> None:
        try:
            self._callbacks.send(callbacks)
        except LowtideError:
            """The message is deleted all the same."""


def _together(_: Engine) -> Any:
    return patch.object(_Reader, "_concluded", lambda self, message: self._message(message))


@contextmanager
def _probe_kept(_: Engine) -> Iterator[None]:
    usual = submit.tell

    def tell(*arguments: Any) -> Any:
        return None if sys.exc_info()[0] is not None else usual(*arguments)

    with patch.object(submit, "tell", tell):
        yield


def _called(schedule: Schedule, **changes: Any) -> Schedule:
    """A consumer's day with the dice of this one, on which writes fail for a part of what they were asked for."""
    troubles = tuple(Trouble(at, How.PARTLY) for at in CALLS)
    day = {"tasks": (), "copies": (), "live": 0, "mishaps": (), "crashes": {}, "crew": 0, "flaky": 0.0, "stall": 0.0}
    return replace(schedule, called=REAL_TIME, orders=0, refused_s=0.0, **day | {"troubles": troubles} | changes)


def _untold(schedule: Schedule) -> Schedule:
    return _called(schedule, troubles=tuple(Trouble(at, How.BEFORE) for at in range(30, 150, 3)))


def _refused(schedule: Schedule) -> Schedule:
    troubles = tuple(Trouble(at, How.BEFORE) for at in range(60, 200, 7))
    return replace(schedule, crew=0, crashes={}, orders=0, refused_s=1_000.0, troubles=troubles)


RAISES = (
    Removal(
        "alone-row",
        "P3: a row that cannot be written fails itself alone",
        system_of=lambda system: replace(system, tasks=AllOrNone(system.tasks)),
        sharpened=_called,
    ),
    Removal("alone-message", "P3: what fails in a message fails that message alone", _together, sharpened=_called),
    Removal(
        "told",
        "7: whoever could not be told is told again before the message is deleted",
        system_of=lambda system: replace(system, callbacks=Careless(system.callbacks)),
        sharpened=_untold,
    ),
    Removal(
        "probe",
        "a submission that fails gives the account's probe back",
        _probe_kept,
        sharpened=_refused,
    ),
)
