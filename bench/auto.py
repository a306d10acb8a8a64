"""What ``auto`` saves on a mixed workload: ``make bench-auto``. Simulated provider, simulated time, real price table.

The same tasks three times: asked about one by one; all on the complex profile, which serves every one of them; all on
standard, which does not. A share of them is easy, another hard, and the simulated judge knows which.
Exits 1 where the provider's bill and the receipts do not agree.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import orjson

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.routes import AUTO, COMPLEX, PROFILES, STANDARD, Routes
from lowtide.ports import Outgoing
from lowtide_local.engine.clock import VirtualClock, run_virtual
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.engine.worker import Pace, Worker
from lowtide_local.run.assembly import assemble
from lowtide_local.run.reconcile import BilledLine, checks
from lowtide_local.run.records import figures
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import BatchWeather, Latencies, Latency, Scenario

START = datetime(2026, 11, 2, tzinfo=UTC)
PACE = Pace(assemble_s=300, poll_s=120, watch_s=60)
KINDS = {"email_draft": 0.2, "document_analysis": 0.3, "report_generation": 0.5}
"""Of HIGH, NORMAL and LOW, and their shares."""
OUTPUT_TOKENS = 24
"""The simulated model's answers have 8 to 40, so that the estimate is honest here."""
WEATHER = Scenario(
    latency=Latencies(default=Latency(min_s=0.4, max_s=2.5), flex=Latency(min_s=5, max_s=60)),
    batch=BatchWeather(min_s=480, max_s=2_700),
)
ASKS = {
    "simple": "Copy the order number and the date from the note below.",
    "standard": "Sum up the note below for a colleague who takes over the case tomorrow.",
    "complex": "Compare the statements below, say which of them cannot both be true, and what follows for the refund.",
}
NOTES = (
    "The customer called at noon and said that the second parcel never came.",
    "The depot has a signature for it, in a name that nobody at the address knows.",
    "An order of the same day went to the street's other end, by the same driver.",
    "The invoice counts both parcels, and the voucher was taken off only once.",
    "A refund was promised in writing, if the search brings nothing within a week.",
)


@dataclass(frozen=True, slots=True)
class Bill:
    """What one way of choosing models came to. US dollars."""

    cost_usd: Decimal
    asking_usd: Decimal
    questions: int
    answered: int
    by_model: dict[str, int]
    broken: list[str]


def main() -> int:
    """Returns the exit code."""
    asked = argparse.ArgumentParser(prog="python -m bench.auto", description=__doc__)
    asked.add_argument("--tasks", type=int, default=1_000)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--easy", type=float, default=0.5, help="share of tasks for which simple is enough")
    asked.add_argument("--hard", type=float, default=0.2, help="share of tasks that need complex")
    options = asked.parse_args()
    tasks = workload(options.tasks, options.seed, options.easy, options.hard)
    bills = {}
    for model in (AUTO, COMPLEX, STANDARD):
        began = time.monotonic()
        bills[model] = bill = played(tasks, routes_of(model))
        models = ", ".join(f"{name} {count}" for name, count in sorted(bill.by_model.items()))
        print(
            f"{model:9} ${bill.cost_usd:.6f}, of it ${bill.asking_usd:.6f} for {bill.questions} questions; "
            f"{bill.answered} of {options.tasks} answered ({models}); {time.monotonic() - began:.1f} s"
        )
        for fault in bill.broken:
            print(f"BROKEN: {fault}")
    saved = bills[COMPLEX].cost_usd - bills[AUTO].cost_usd
    share = 100 * saved / bills[COMPLEX].cost_usd
    print(f"auto saves ${saved:.6f} ({share:.1f} %) against complex for all, cost of asking included")
    return int(any(bill.broken or bill.answered < options.tasks for bill in bills.values()))


def workload(tasks: int, seed: int, easy: float, hard: float) -> list[dict[str, Any]]:
    """Payload tasks; ``mark`` in a payload tells the simulated judge what to say."""
    dice = Random(seed)
    shares = (easy, 1 - easy - hard, hard)
    return [_task(number, dice.choices(PROFILES, shares)[0], dice) for number in range(tasks)]


def _task(number: int, profile: str, dice: Random) -> dict[str, Any]:
    notes = " ".join(dice.choices(NOTES, k=dice.randint(2, 10) * (1 + PROFILES.index(profile))))
    payload = {"ask": ASKS[profile], "case": number, "mark": f"[sim:says-{profile}]", "notes": notes}
    [kind] = dice.choices(list(KINDS), list(KINDS.values()))
    return {"task_id": f"case-{number}", "type": kind, "payload": payload}


def routes_of(model: str) -> Routes:
    """The shipped ones, with this model, profile or ``auto`` for the workload's types."""
    routes = shipped_routes()
    types = {kind: routes.types[kind].model_copy(update={"model": model, "template": None}) for kind in KINDS}
    auto = routes.auto.model_copy(update={"output_tokens": OUTPUT_TOKENS})
    return routes.model_copy(update={"types": routes.types | types, "auto": auto})


def played(tasks: list[dict[str, Any]], routes: Routes) -> Bill:
    """All of ``tasks`` sent at once, to their ends."""
    with tempfile.TemporaryDirectory() as directory:
        return run_virtual(lambda clock: _play(clock, Path(directory), tasks, routes), START)


async def _play(clock: VirtualClock, directory: Path, tasks: list[dict[str, Any]], routes: Routes) -> Bill:
    provider = SimulatedProvider(WEATHER, clock)
    transport = httpx2.ASGITransport(app=build_app(provider))
    with Engine.open(directory, clock, Durability.RELAXED) as engine:
        async with httpx2.AsyncClient(transport=transport, base_url="http://provider") as http:
            system = assemble(
                engine,
                clock=clock,
                routes=routes,
                metrics=RecordedMetrics(),
                deployment="bench",
                base_url="http://provider/v1",
                api_key="simulated",
                http_client=http,
            )
            system.intake.send([Outgoing(body=orjson.dumps(task).decode()) for task in tasks])
            worker = Worker(system, PACE, lambda name: engine.queue(name).next_visible_at())
            worker.no_more()
            await worker.run(flush=False)
        provider.progress()
        billed = [BilledLine.of(line) for line in provider.billing()["data"]]
        choices = [row.choice for row in engine.tasks.scan() if row.choice is not None]
        questions = {choice.question_id for choice in choices} - {None}
        receipt = figures(system, engine).receipt
        costs = [
            system.prices.cost(line.model, line.lane, line.usage, line.at.date()) or Decimal(0)
            for line in billed
            if line.ours in questions
        ]
        return Bill(
            cost_usd=receipt.cost_usd,
            asking_usd=sum(costs, Decimal(0)),
            questions=len(costs),
            answered=receipt.answered,
            by_model=dict(Counter({name: share.tasks for name, share in receipt.by_model.items()})),
            broken=[f"{c.name}: {c.detail}" for c in checks(system, engine, receipt, billed) if not c.held],
        )


if __name__ == "__main__":
    raise SystemExit(main())
