"""A crowd of consumers on virtual time: several processes' worth of them over one engine, one queue, one provider.

Each consumer has slots and a gate of its own, as a function has, so all that they know of each other is in the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

import httpx2

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.receipts import Receipt
from lowtide.core.routes import Routes
from lowtide.core.task import AcceptedTask
from lowtide.core.tiers import Tier
from lowtide.ports import Message, System
from lowtide.steps.answer import answer
from lowtide.steps.carry import send_tasks
from lowtide.steps.gate import Gate
from lowtide.steps.slots import Slots
from lowtide_local.engine.clock import VirtualClock, run_virtual
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.engine.worker import CONSUMER_BATCH, VISIBILITY_S
from lowtide_local.run.assembly import assemble
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import Scenario

T = TypeVar("T")

START = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
TIER = Tier.NORMAL
MODEL = "gpt-6-luna"

INVOCATIONS = 4
"""At a time in one consumer, so that the end of one does not leave its slots empty."""
FED_AT_ONCE = 500

FUNCTION_S = 295.0
FUNCTION_VISIBILITY_S = 600
"""Of NORMAL's function and queue in template.yaml, less the time to settle."""


@dataclass
class Crowd:
    """What a story may look at and do."""

    clock: VirtualClock
    engine: Engine
    system: System
    provider: SimulatedProvider
    metrics: RecordedMetrics

    def feed(self, tasks: int, *, first: int = 0, model: str = MODEL, lane: str = "default") -> None:
        """Put ``tasks`` NORMAL tasks on their queue, packed as ingest packs them; the first has the number ``first``.

        They ask for the lane whose limit is measured; ``lane="auto"`` leaves the choice to the router.
        """
        made = self._tasks(range(first, first + tasks), model, lane)
        while some := list(islice(made, FED_AT_ONCE)):
            send_tasks(self.system, some)

    async def work(
        self, consumers: int, *, until: Callable[[], bool], longest_s: float, functions: bool = False
    ) -> None:
        """``consumers`` at work until the condition holds, looked at every second, or the time is up: processes that
        go on, or ``functions``, each of whose invocations begins with nothing in mind and ends in time."""
        began = self.clock.now()
        living = self._function if functions else self._consumer
        working = [asyncio.create_task(living()) for _ in range(consumers)]
        while not until() and (self.clock.now() - began).total_seconds() < longest_s:
            await self.clock.sleep(1)
        for each in working:
            each.cancel()
        for each in working:
            with suppress(asyncio.CancelledError):
                await each

    @property
    def calls(self) -> int:
        return self.provider.requests["POST /v1/chat/completions"]

    @property
    def empty(self) -> bool:
        depth = self.system.tiers[TIER].depth()
        return not (depth.visible or depth.in_flight or depth.delayed)

    def total(self) -> Receipt:
        return self.system.ledger.total()

    async def _consumer(self) -> None:
        slots = Slots(self.system.routes.tiers[TIER].concurrency)
        gate = Gate(self.system)
        async with asyncio.TaskGroup() as group:
            for _ in range(INVOCATIONS):
                group.create_task(self._invocations(slots, gate))

    async def _invocations(self, slots: Slots, gate: Gate) -> None:
        queue = self.system.tiers[TIER]
        while True:
            messages: list[Message] = queue.receive(CONSUMER_BATCH, visibility_s=VISIBILITY_S)
            if not messages:
                await self.clock.sleep(1)
                continue
            report = await answer(self.system, TIER, messages, slots=slots, gate=gate, visibility_s=VISIBILITY_S)
            queue.delete(report.done)

    async def _function(self) -> None:
        queue = self.system.tiers[TIER]
        while True:
            messages = queue.receive(CONSUMER_BATCH, visibility_s=FUNCTION_VISIBILITY_S)
            if not messages:
                await self.clock.sleep(1)
                continue
            slots = Slots(self.system.routes.tiers[TIER].concurrency)
            stop_at = self.clock.now() + timedelta(seconds=FUNCTION_S)
            report = await answer(self.system, TIER, messages, slots=slots, stop_at=stop_at)
            queue.delete(report.done)

    def _tasks(self, numbers: range, model: str, lane: str) -> Iterator[AcceptedTask]:
        now = self.clock.now()
        for number in numbers:
            body = {"model": model, "messages": [{"role": "user", "content": f"Case {number}."}]}
            body |= {"max_completion_tokens": 50, "service_tier": lane}
            request = {"url": "/v1/chat/completions", "body": body}
            message = {"task_id": f"task-{number}", "type": "meeting_summary", "request": request}
            yield accept(message, origin=f"feed {number}", sent_at=now, routes=self.system.routes)


def gather(
    directory: Path, scenario: Scenario, story: Callable[[Crowd], Awaitable[T]], *, routes: Routes | None = None
) -> T:
    """One story, from an empty directory, in virtual time; with the shipped routes where none are given."""

    async def main(clock: VirtualClock) -> T:
        provider = SimulatedProvider(scenario, clock)
        transport = httpx2.ASGITransport(app=build_app(provider))
        with Engine.open(directory, clock, Durability.RELAXED) as engine:
            async with httpx2.AsyncClient(transport=transport) as http:
                metrics = RecordedMetrics()
                system = assemble(
                    engine,
                    clock=clock,
                    routes=routes or shipped_routes(),
                    metrics=metrics,
                    deployment="bench",
                    base_url="http://simulated/v1",
                    api_key="any",
                    http_client=http,
                )
                return await story(Crowd(clock, engine, system, provider, metrics))

    return run_virtual(main, START)
