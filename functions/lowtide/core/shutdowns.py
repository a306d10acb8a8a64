"""Models that the provider shuts down: how soon, and what their replacement costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from .lanes import Lane
from .prices import PriceTable
from .records import Usage

WARNED_AHEAD = timedelta(days=90)
_COMPARED = Usage(input_tokens=1_000, output_tokens=300)
"""The request by which two models' prices are compared."""
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Shutdown:
    """``times``: the successor's price, as a multiple of the model's own. None: one of the two has no price."""

    model: str
    on: date
    successor: str | None
    times: Decimal | None

    def told(self, today: date) -> str:
        """Say it in one line, with what to do."""
        days = (self.on - today).days
        when = {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")
        verb = f"shuts down on {self.on}, {when}" if days >= 0 else f"was shut down on {self.on}"
        ends = f"{self.model} {verb}"
        if self.successor is None:
            return f"{ends}; name another model"
        price = "" if self.times is None else f" at {self.times} times its price"
        return f"{ends}; {self.successor} replaces it{price}"


def shutdown(prices: PriceTable, model: str, today: date) -> Shutdown | None:
    """Return how ``model`` ends, where it is shut down within ``WARNED_AHEAD`` or was already. None: it stays."""
    day = prices.shutdown_date(model)
    if day is None or day - today > WARNED_AHEAD:
        return None
    successor = prices.successor(model)
    return Shutdown(model, day, successor, None if successor is None else _times(prices, model, successor, today))


def _times(prices: PriceTable, model: str, successor: str, today: date) -> Decimal | None:
    before, after = (prices.cost(name, Lane.DEFAULT, _COMPARED, today) for name in (model, successor))
    return None if not before or after is None else (after / before).quantize(_CENT)
