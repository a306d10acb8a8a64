"""Off-peak windows: hours of the day in which a provider sells its batches for less, from one day until another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, model_validator

from .model import Value

DAY = timedelta(days=1)


class OffPeak(Value):
    """Open every day from ``opens`` to ``closes`` (UTC; past midnight where that is earlier), on the days from
    ``from`` until the one before ``until``. ``discount`` is the share of a batch's price that falls away."""

    starts: date = Field(alias="from")
    until: date | None = None
    opens: time
    closes: time
    discount: Annotated[Decimal, Field(gt=0, lt=1)]

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


def discount(windows: Sequence[OffPeak], at: datetime) -> Decimal:
    """The share that falls off the price of a batch submitted ``at``; the highest where windows overlap."""
    today = at.astimezone(UTC).date()
    spans = ((window, window.span(day)) for window in windows for day in (today - DAY, today))
    return max((window.discount for window, span in spans if span and span[0] <= at < span[1]), default=Decimal(0))


def next_opening(windows: Sequence[OffPeak], now: datetime) -> datetime | None:
    """When it becomes cheaper; None where some window is open, or none opens any more."""
    if discount(windows, now):
        return None
    today = now.astimezone(UTC).date()
    spans = (window.span(day) for window in windows for day in (today, today + DAY, window.starts))
    return min((span[0] for span in spans if span and span[0] > now), default=None)
