"""Off-peak windows: hours of the day in which a provider sells some lanes for less, from one day until another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, model_validator

from .lanes import Lane
from .model import Value

DAY = timedelta(days=1)
LAST = date(2999, 12, 31)
"""A window that opens on the last day of the calendar would close beyond it."""


class OffPeak(Value):
    """Open every day from ``opens`` to ``closes`` (UTC; past midnight where that is earlier), on the days from
    ``from`` until the one before ``until``. ``discount`` is the share of the price that falls away, on ``lanes``."""

    starts: date = Field(alias="from", le=LAST)
    until: Annotated[date, Field(le=LAST)] | None = None
    opens: time
    closes: time
    discount: Annotated[Decimal, Field(gt=0, lt=1)]
    lanes: tuple[Lane, ...] = Field((Lane.BATCH,), min_length=1)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.opens == self.closes:
            raise ValueError("opens and closes are the same; a price that always holds belongs into the price table")
        if self.opens.tzinfo is not None or self.closes.tzinfo is not None:
            raise ValueError("opens and closes are in UTC; write them without an offset")
        if self.until is not None and self.until <= self.starts:
            raise ValueError("until is no later than from; it is the first day without the window")
        return self

    def span(self, day: date) -> tuple[datetime, datetime] | None:
        """From when to when it is open, where it opens on ``day``."""
        if day < self.starts or (self.until is not None and day >= self.until):
            return None
        opens, closes = (datetime.combine(day, hour, UTC) for hour in (self.opens, self.closes))
        return opens, closes if closes > opens else closes + DAY


@dataclass(frozen=True, slots=True)
class CheapHours:
    """One opening of a window: ``discount`` is the share that falls off, from ``opens`` until ``closes``."""

    opens: datetime
    closes: datetime
    discount: Decimal

    def __str__(self) -> str:
        return f"off-peak from {self.opens:%H:%M} UTC: {self.discount:.0%} less"


def open_now(windows: Sequence[OffPeak], lane: Lane, at: datetime) -> CheapHours | None:
    """The hours in which ``at`` lies; those with the highest discount where windows overlap. What is bought on ``lane``
    at that moment costs so much less."""
    today = at.astimezone(UTC).date()
    spans = _spans(windows, lane, (today - DAY, today))
    return max((each for each in spans if each.opens <= at < each.closes), key=lambda each: each.discount, default=None)


def next_open(windows: Sequence[OffPeak], lane: Lane, now: datetime) -> CheapHours | None:
    """When ``lane`` becomes cheaper; None where some window is open for it, or none opens any more."""
    if open_now(windows, lane, now) is not None:
        return None
    today = now.astimezone(UTC).date()
    starts = sorted({window.starts for window in windows if window.starts > today})
    spans = _spans(windows, lane, (today, today + DAY, *starts))
    return min((each for each in spans if each.opens > now), key=lambda each: each.opens, default=None)


def discount(windows: Sequence[OffPeak], lane: Lane, at: datetime) -> Decimal:
    """The share that falls off the price of what is bought on ``lane`` at that moment."""
    hours = open_now(windows, lane, at)
    return Decimal(0) if hours is None else hours.discount


def _spans(windows: Sequence[OffPeak], lane: Lane, days: Sequence[date]) -> Iterator[CheapHours]:
    for window in windows:
        spans = (window.span(day) for day in days) if lane in window.lanes else ()
        yield from (CheapHours(*span, window.discount) for span in spans if span is not None)
