"""Moments on a command line: an age such as 2h, or a time with its offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from .stop import usage

_AGE = re.compile(r"(\d+)([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
AGES = "90s, 15m, 2h or 7d"


def before(now: datetime, age: str, option: str) -> datetime:
    """The moment so long ago. Raises Stop for what is no age."""
    found = _AGE.fullmatch(age)
    if found is None:
        raise usage(f"{option} {age} is no age; give one such as {AGES}")
    try:
        return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
    except (OverflowError, ValueError):  # Python reads no number of more than 4,300 digits
        raise usage(f"{option} {age[:40]} is before there was time; give one such as {AGES}") from None


def since(now: datetime, text: str, option: str) -> datetime:
    """The moment that an age or a time names. Raises Stop for any other text, and for a time without its offset."""
    if _AGE.fullmatch(text):
        return before(now, text, option)
    try:
        moment = datetime.fromisoformat(text.upper())  # RFC 3339 takes a small t and z
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (OverflowError, ValueError):
        pass
    raise usage(
        f"{option} {text} is no moment; give a time with its offset, as 2026-02-28T10:00:00Z, or an age: {AGES}"
    )
