"""Plays the day on the embedded engine, in virtual time: publishers, the worker, the provider, and three kills."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.routes import OPENAI_PRICES
from lowtide.ports import Outgoing, System
from lowtide_local.engine.clock import VirtualClock, run_virtual
from lowtide_local.engine.crashes import Crash
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.engine.worker import Pace, Worker
from lowtide_local.report.run_report import Check, RunReport
from lowtide_local.run.assembly import assemble
from lowtide_local.run.outputs import report_of, write_outputs
from lowtide_local.run.reconcile import BilledLine
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider

from .day import Arrival, arrivals
from .kills import KILLS, Fate, Kill
from .moments import Moment, batches_befallen, storm
from .weather import weather

START = datetime(2026, 11, 2, tzinfo=UTC)
"""A Monday, after every price that the demo's models have."""

PACE = Pace(assemble_s=300, poll_s=120, watch_s=60)
"""As template.yaml schedules the assembler and the poller."""

RESTART_S = 20
"""How long the process is down after a kill."""

PROVIDER = "http://provider/v1"
TITLE = "A day with lowtide, simulated"


@dataclass
class Day:
    """The day as it went."""

    report: RunReport
    moments: Sequence[Moment]


Watcher = Callable[[datetime, int, int], None]
"""Hears (now, messages sent, messages in all)."""


def play(tasks: int, seed: int, state: Path, out: Path, watch: Watcher) -> Day:
    """``state`` is an empty directory for the engine; the day's files are written to ``out``."""
    return run_virtual(lambda clock: _Play(clock, tasks, seed, state, watch).day(out), START)


class _Play:
    def __init__(self, clock: VirtualClock, tasks: int, seed: int, state: Path, watch: Watcher) -> None:
        self._clock = clock
        self._state = state
        self._watch = watch
        self._arrivals: Sequence[Arrival] = arrivals(tasks, seed)
        self._sent = 0
        self._metrics = RecordedMetrics()
        self._told: list[Moment] = []
        self._provider = SimulatedProvider(weather(seed), clock)
        transport = httpx2.ASGITransport(app=build_app(self._provider))
        self._http = httpx2.AsyncClient(transport=transport, base_url="http://provider")

    async def day(self, out: Path) -> Day:
        async with self._http:
            for kill in KILLS:
                await self._life(kill)
            await self._life(None)
            return self._close(out)

    async def _life(self, kill: Kill | None) -> None:
        """From a start to a kill, or to the end of the day."""
        engine = self._engine()
        engine.void_leases()
        worker = Worker(
            Fate(kill).guard_system(self._system(engine)), PACE, lambda name: engine.queue(name).next_visible_at()
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish(worker))
                group.create_task(worker.run(flush=False))
        except* Crash:
            self._tell(f"the process was killed: {kill.told if kill else 'by nobody'}")
        finally:
            engine.kill()
        if kill is not None:
            await self._clock.sleep(RESTART_S)
            self._tell("started again; nothing was cleaned up in between")

    async def _publish(self, worker: Worker) -> None:
        for arrival in self._arrivals[self._sent :]:
            at = START + timedelta(seconds=arrival.at_s)
            await self._clock.sleep(max(0.0, (at - self._clock.now()).total_seconds()))
            worker.system.intake.send([Outgoing(body=arrival.body, group=arrival.tenant)])
            self._sent += 1
            self._watch(self._clock.now(), self._sent, len(self._arrivals))
        worker.no_more()

    def _close(self, out: Path) -> Day:
        engine = self._engine()
        with engine:
            system = self._system(engine)
            self._provider.progress()
            billed = [BilledLine.of(line) for line in self._provider.billing()["data"]]
            report = report_of(system, engine, TITLE, billed)
            report = replace(report, checks=[*report.checks, self._nothing_left()])
            write_outputs(system, engine, out, report)
            befallen = list(batches_befallen(engine.batches.scan()))
        moments = [*self._told, *befallen, storm(START, int(self._metrics.total("calls_put_off")))]
        return Day(report, sorted(moments, key=lambda moment: moment.at))

    def _nothing_left(self) -> Check:
        files = self._provider.state()["files"]
        return Check("nothing is left lying at the provider", not files, f"{len(files)} files left")

    def _engine(self) -> Engine:
        return Engine.open(self._state, self._clock, Durability.RELAXED)

    def _system(self, engine: Engine) -> System:
        return assemble(
            engine,
            clock=self._clock,
            # It bills as OpenAI does, and is not OpenAI.
            routes=shipped_routes().at(PROVIDER, OPENAI_PRICES),
            metrics=self._metrics,
            deployment="demo",
            base_url=PROVIDER,
            api_key="simulated",
            http_client=self._http,
        )

    def _tell(self, what: str) -> None:
        self._told.append(Moment(self._clock.now(), what))
