"""Imposed waits: log each long wait that a provider asks for, once."""

from __future__ import annotations

from datetime import datetime, timedelta

from lowtide.ports import System

SAID_BEYOND_S = 30.0
"""Seconds. Shorter waits are part of any rate limit."""


class ImposedWaits:
    """Remember, for one process, until when each model's wait has been logged: that of all its calls apart from one
    call's own, which says nothing of the others unless it ends about when theirs does."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._said_until: dict[str, datetime] = {}
        self._all_said_until: dict[str, datetime] = {}

    def met(
        self,
        model: str,
        code: str,
        until: datetime | None,
        delay_s: float | None = None,
        asked_s: float | None = None,
    ) -> None:
        """Log the wait if it is long and not logged yet. ``until``: the end of a wait of all calls of the model.
        ``delay_s``: seconds that this call waits. ``asked_s``: seconds that the provider asked for."""
        now = self._system.clock.now()
        all_s = (until - now).total_seconds() if until is not None else 0.0
        wait_s, of_all = max(delay_s or 0.0, all_s), all_s > SAID_BEYOND_S
        if wait_s <= SAID_BEYOND_S or now < self._all_said_until.get(model, now):
            return
        ends_at, said_until = now + timedelta(seconds=all_s if of_all else wait_s), self._said_until.get(model, now)
        if now < said_until and (not of_all or abs((ends_at - said_until).total_seconds()) <= SAID_BEYOND_S):
            return
        (self._all_said_until if of_all else self._said_until)[model] = ends_at
        say_wait(self._system, wait_s, asked_s, model=model, code=code)


def say_wait(system: System, wait_s: float, asked_s: float | None, **names: object) -> None:
    system.metrics.count("provider_wait_s", wait_s)
    system.metrics.log("provider_wait", wait_s=round(wait_s), asked_s=round(max(wait_s, asked_s or 0.0)), **names)
