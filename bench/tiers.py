"""Everything at work at once on virtual time: ingest and the consumers of all tiers, against one provider.

What publishers send arrives over time; how long each task took, from its sending to its record, is what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import orjson

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.routes import Routes
from lowtide.ports import Outgoing
from lowtide.steps.deliver import document_of
from lowtide_local.engine.clock import VirtualClock, run_virtual
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.engine.worker import Pace, Worker
from lowtide_local.run.assembly import assemble
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import Scenario

START = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
MODEL = "gpt-6-luna"
PACK = 100
PACE = Pace(assemble_s=600, poll_s=600, watch_s=600)


@dataclass(frozen=True, slots=True)
class Arrival:
    """So many tasks of a tenant, ``at_s`` after the start. ``measured``: their times are told."""

    at_s: float
    kind: str
    tenant: str
    tasks: int
    measured: bool


def times(
    directory: Path, scenario: Scenario, arrivals: Sequence[Arrival], routes: Routes | None = None
) -> list[float]:
    """Seconds from sending to record of every measured task, ascending."""

    async def main(clock: VirtualClock) -> list[float]:
        provider = SimulatedProvider(scenario, clock)
        transport = httpx2.ASGITransport(app=build_app(provider))
        with Engine.open(directory, clock, Durability.RELAXED) as engine:
            async with httpx2.AsyncClient(transport=transport) as http:
                system = assemble(
                    engine,
                    clock=clock,
                    routes=routes or shipped_routes(),
                    metrics=RecordedMetrics(),
                    deployment="bench",
                    base_url="http://simulated/v1",
                    api_key="any",
                    http_client=http,
                )
                worker = Worker(system, PACE, lambda name: engine.queue(name).next_visible_at())
                working = asyncio.create_task(worker.run(flush=False))
                measured = await _publish(worker, clock, arrivals)
                ended: dict[str, float] = {}
                while len(ended) < len(measured):
                    await clock.sleep(1)
                    left = [key for key in measured if key not in ended]
                    for key, row in zip(left, system.tasks.get(left), strict=True):
                        if row is not None and row.settled_at is not None:
                            record = document_of(system, row).record
                            ended[key] = (record.finished_at - record.accepted_at).total_seconds()
                working.cancel()
                with suppress(asyncio.CancelledError):
                    await working
        return sorted(ended.values())

    return run_virtual(main, START)


def percentile(ascending: Sequence[float], percent: int) -> float:
    """By nearest rank."""
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]


async def _publish(worker: Worker, clock: VirtualClock, arrivals: Iterable[Arrival]) -> list[str]:
    """The keys of the tasks that are measured."""
    measured = []
    for number, arrival in enumerate(sorted(arrivals, key=lambda each: each.at_s)):
        ahead_s = arrival.at_s - (clock.now() - START).total_seconds()
        if ahead_s > 0:
            await clock.sleep(ahead_s)
        names = [f"{arrival.tenant}-{number}-{place}" for place in range(arrival.tasks)]
        for start in range(0, len(names), PACK):
            tasks = [_task(name, arrival) for name in names[start : start + PACK]]
            worker.system.intake.send([Outgoing(body=orjson.dumps({"tasks": tasks}).decode(), group=arrival.tenant)])
        if arrival.measured:
            measured += [f"{name} {arrival.tenant}" for name in names]
    return measured


def _task(name: str, arrival: Arrival) -> dict[str, Any]:
    """A task that asks for the default lane, so that all tiers call on one lane, under one limit."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Case {name}."}]}
    body |= {"max_completion_tokens": 50, "service_tier": "default"}
    request = {"url": "/v1/chat/completions", "body": body}
    return {"task_id": name, "type": arrival.kind, "tenant": arrival.tenant, "request": request}
