"""Numbers as people read them, and small bars beside them. Everything returned is safe inside HTML."""

from __future__ import annotations

from decimal import Decimal

from lowtide.core.receipts import Receipt

BAR_WIDTH = 120
BAR_HEIGHT = 12
"""Pixels."""

SIXTY = 60
"""Seconds in a minute, minutes in an hour."""


class Money:
    """Dollars with one number of decimals all over a report, so that columns line up: cents for dollars, more for
    less."""

    def __init__(self, receipt: Receipt) -> None:
        most = max(receipt.cost_usd, receipt.list_cost_usd)
        self._decimals = 2 if most >= 10 else 4 if most >= Decimal("0.1") else 6  # noqa: PLR2004 - the steps just named

    def __call__(self, amount: Decimal) -> str:
        sign = "\N{MINUS SIGN}" if amount < 0 else ""
        return f"{sign}${abs(amount):,.{self._decimals}f}"


def duration(seconds: float | None) -> str:
    """``0.42 s``, ``8.1 s``, ``12 min``, ``3 h 05 min``."""
    if seconds is None:
        return "\N{EN DASH}"
    if seconds < 1:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < SIXTY:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / SIXTY), SIXTY)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def count(number: int, noun: str) -> str:
    """``1 task``, ``1,204 tasks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def share_pct(part: int, whole: int) -> str:
    """Rounded down, so that only all of them is 100 %."""
    return f"{100 * part // whole if whole else 0}\N{NO-BREAK SPACE}%"


def bar(part: Decimal | int, whole: Decimal | int, label: str, *, width: int = BAR_WIDTH) -> str:
    """A filled part of a whole. ``label`` (plain words, no markup) is read out in its place."""
    filled = max(0.0, min(1.0, float(part / whole))) * width if whole else 0.0
    return (
        f'<svg class="bar" role="img" aria-label="{label}" viewBox="0 0 {width} {BAR_HEIGHT}" '
        f'width="{width}" height="{BAR_HEIGHT}" preserveAspectRatio="none">'
        f'<rect class="whole" width="{width}" height="{BAR_HEIGHT}" rx="3"/>'
        f'<rect class="part" width="{filled:.1f}" height="{BAR_HEIGHT}" rx="3"/></svg>'
    )
