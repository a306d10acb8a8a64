"""The time that a turn may take: each step has its share of it, so that none leaves nothing to the steps behind it."""

from __future__ import annotations

from datetime import datetime

from lowtide.ports import System


def past(system: System, stop_at: datetime | None) -> bool:
    """Is nothing new to be begun. None: there is no end."""
    return stop_at is not None and system.clock.now() >= stop_at


def share(system: System, stop_at: datetime | None, of_it: float) -> datetime | None:
    """When a step has to stop that may take this share, 0 to 1, of the time that is left."""
    if stop_at is None:
        return None
    now = system.clock.now()
    return now + (stop_at - now) * of_it
