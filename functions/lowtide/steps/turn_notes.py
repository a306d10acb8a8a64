"""What each tenant has taken of the batches, from the rows and from a note.

The note is an object that anybody may replace. It decides who is next and nothing else: one that is lost costs a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError

from lowtide.core.errors import NotFound
from lowtide.core.parts import PartRow
from lowtide.core.tenants import Turns, under_way
from lowtide.ports import System

TURNS = "batches/turns"


def turns_taken(system: System, joined: Sequence[PartRow], now: datetime) -> Mapping[str, float]:
    """What is under way in these parts, and what was lately, with less weight the longer ago."""
    taken: dict[str, float] = dict(under_way(joined))
    for name, count in _noted(system, now).lately(now).items():
        taken[name] = taken.get(name, 0) + count
    return taken


def note_turns(system: System, started: Sequence[PartRow], now: datetime) -> None:
    noted = _noted(system, now).after(started, now)
    system.objects.put(TURNS, noted.model_dump_json().encode())


def _noted(system: System, now: datetime) -> Turns:
    try:
        return Turns.model_validate_json(system.objects.get(TURNS))
    except (NotFound, ValidationError):
        return Turns(taken={}, noted_at=now)
