"""Paces: the pace rows of models and accounts, as one process knows them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from lowtide.core.pace_events import CallEnd, Ceiling, Sign
from lowtide.core.pace_rows import account_key, model_key
from lowtide.core.task import AcceptedTask
from lowtide.core.trace import untraced
from lowtide.ports import Presence, System

from .shared_pace import SharedPace


class Paces:
    def __init__(self, system: System) -> None:
        self._system = system
        self._shared: dict[str, SharedPace] = {}
        self._asking: dict[str, asyncio.Task[Presence]] = {}

    def __iter__(self) -> Iterator[SharedPace]:
        return iter(self._shared.values())

    def model(self, task: AcceptedTask) -> SharedPace:
        return self._of(model_key(task.provider, task.model), self._system.routes.ceiling(task.model))

    def account(self, task: AcceptedTask) -> SharedPace:
        return self._of(account_key(task.provider), Ceiling())

    async def presence(self, provider: str) -> Presence:
        """Ask whether the provider is there. Calls that ask at the same time share one request."""
        asking = self._asking.get(provider)
        if asking is None or asking.done():
            asking = asyncio.create_task(self._ask(provider), context=untraced())
            self._asking[provider] = asking
        return await asyncio.shield(asking)

    async def seen(self, shared: SharedPace, provider: str, permit: str = "") -> CallEnd:
        """Return the answer as an event for the model's row. ``permit``: that of the probe that asks. A provider whose
        answer is known to mean nothing is not asked."""
        mute = shared.row is not None and shared.row.mute
        absent = not mute and await self.presence(provider) is Presence.ABSENT
        return CallEnd(Sign.ABSENT if absent else Sign.PRESENT, self._system.clock.now(), permit)

    async def _ask(self, provider: str) -> Presence:
        return await self._system.answers[provider].presence()

    def _of(self, key: str, ceiling: Ceiling) -> SharedPace:
        if key not in self._shared:
            self._shared[key] = SharedPace(self._system, key, ceiling)
        return self._shared[key]


def fallback_of(system: System, task: AcceptedTask) -> AcceptedTask | None:
    """Return the task for the model that answers while its own is down. Return None if there is none."""
    routes = system.routes
    name = routes.model(task.model).fallback
    if name is None or task.endpoint not in routes.model(name).endpoints:
        return None
    return task.model_copy(update={"model": name, "provider": routes.model(name).provider})
