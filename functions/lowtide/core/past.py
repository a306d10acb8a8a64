"""What a model's shared row knows that bears on the choice of a lane: its lanes' past, and how long they rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .pace_events import CallEnd, Sign
from .pace_rows import PaceRow

SAFE = 90
"""The percentile to plan with: lateness costs a deadline."""


@dataclass(frozen=True, slots=True)
class Past:
    """``flex_s`` and ``default_s``: nine in ten calls end within it; None where too little is known.
    ``flex_refused``: the share of late that found no capacity. ``flex_rests_s``: until somebody may try flex;
    ``held_s``: until somebody may call at all."""

    flex_s: float | None = None
    default_s: float | None = None
    flex_refused: float = 0.0
    flex_rests_s: float = 0.0
    held_s: float = 0.0
    line_s: float = 0.0
    """While flex refuses: what all who wait for it would take on default."""


UNKNOWN = Past()
"""Of a model that nobody has called of late."""


def past_of(row: PaceRow | None, now: datetime) -> Past:
    """What ``row`` says at ``now``."""
    if row is None:
        return UNKNOWN
    return Past(
        flex_s=row.on_flex.within_s(SAFE, now),
        default_s=row.on_default.within_s(SAFE, now),
        flex_refused=row.on_flex.refused_share(now),
        flex_rests_s=_until_s(row.flex_not_before, now),
        held_s=_until_s(row.not_before, now),
    )


def heard(before: PaceRow, row: PaceRow, end: CallEnd, now: datetime) -> PaceRow:
    """``row``, which ``end`` made of ``before``, with what that adds to its lanes' past. What was no news to it
    otherwise, such as the thirtieth call that was refused or stalled together with others, is none here."""
    of_flex = end.sign in (Sign.NO_CAPACITY, Sign.STALLED)
    if row is before or (of_flex and row.flex_refused_at == before.flex_refused_at):
        return row
    if end.sign is Sign.NO_CAPACITY:
        return row.model_copy(update={"on_flex": row.on_flex.found_none(now)})
    if not end.seconds:
        return row
    if end.flex:
        return row.model_copy(update={"on_flex": row.on_flex.took(end.seconds, now)})
    return row.model_copy(update={"on_default": row.on_default.took(end.seconds, now)})


def _until_s(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (moment - now).total_seconds())
