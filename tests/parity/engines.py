"""The same messages through both engines: what each made of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import orjson

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.records import ResultRecord
from lowtide.ports import Outgoing
from lowtide_local.engine.clock import run_virtual
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.engine.worker import Pace, Worker
from lowtide_local.run.assembly import assemble
from lowtide_local.run.records import settled
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import Scenario
from lowtide_local.stack.line import Line
from lowtide_local.stack.runner import deployed

START = datetime(2026, 11, 2, 10, tzinfo=UTC)
TEMPLATE = Path(__file__).parents[2] / "template.yaml"

EVERY_S = 2.0
"""Between two messages: the first of two tasks with one id is then the first on both."""


@dataclass(frozen=True)
class Played:
    """``letters`` counts dead letters by what they say; ``billed`` lines by model and lane."""

    records: Mapping[tuple[str, str], Mapping[str, Any]]
    ledger: Mapping[str, Any]
    letters: Counter[tuple[str, Any]]
    billed: Counter[tuple[str, str]]


def on_the_embedded_engine(messages: Sequence[str], scenario: Scenario, directory: Path) -> Played:
    async def play(clock):
        provider = SimulatedProvider(scenario, clock)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=build_app(provider))) as http:
            with Engine.open(directory, clock, Durability.RELAXED) as engine:
                system = assemble(
                    engine,
                    clock=clock,
                    routes=shipped_routes(),
                    metrics=RecordedMetrics(),
                    deployment="parity",
                    base_url="http://provider/v1",
                    api_key="simulated",
                    http_client=http,
                )
                pace = Pace(assemble_s=300, poll_s=60, watch_s=60)
                worker = Worker(system, pace, lambda name: engine.queue(name).next_visible_at())

                async def publish():
                    for message in messages:
                        worker.system.intake.send([Outgoing(message)])
                        await clock.sleep(EVERY_S)
                    worker.no_more()

                async with asyncio.TaskGroup() as group:
                    group.create_task(publish())
                    group.create_task(worker.run(flush=False))
                letters = engine.queue("dead-letters").receive(10_000, visibility_s=60)
                return _played(system, engine, [letter.body for letter in letters], provider)

    return run_virtual(play, START)


def on_moto(messages: Sequence[str], scenario: Scenario) -> Played:
    line = Line(scenario, START)
    given = {"start": START, "http_client": line.client, "metrics": RecordedMetrics()}
    with deployed(TEMPLATE, parameters={"Deployment": "parity"}, **given) as stack:
        for number, message in enumerate(messages, start=1):
            stack.send(message)
            stack.wait_until(START + timedelta(seconds=number * EVERY_S))
        stack.settle()
        assert stack.failures == []
        letters = [body for body, _ in stack.queues["DeadLetterQueue"].contents()]
        played = _played(stack.system(), stack.view(), letters, line.provider)
    asyncio.run(line.client.aclose())
    return played


def _played(system, engine, letters: Sequence[str], provider: SimulatedProvider) -> Played:
    provider.progress()
    return Played(
        records={
            (document.record.tenant, document.record.task_id): _compared(document.record)
            for _, document in settled(system, engine)
        },
        ledger=engine.ledger.total().model_dump(),
        letters=Counter(_letter(orjson.loads(body)) for body in letters),
        billed=Counter((line.model, line.service_tier) for line in provider.billed),
    )


def _compared(record: ResultRecord) -> dict[str, Any]:
    """All of a record but its times, the provider's ids, and how often timing made it be tried."""
    told = record.model_dump(
        include={"status", "tier", "lane", "model", "usage", "cost_usd", "list_cost_usd", "type", "tags"}
        | {"tenant", "custom_id", "id"}
    )
    response = record.response
    return told | {
        "error": record.error and (record.error.code, record.error.message),
        "status_code": response and response.status_code,
        "answer": response and {name: response.body.get(name) for name in ("choices", "error", "usage", "model")},
        "batched": record.batch_id is not None,
    }


def _letter(letter: dict[str, Any]) -> tuple[str, Any]:
    return letter["error"]["code"], orjson.dumps(letter["task"], option=orjson.OPT_SORT_KEYS)
