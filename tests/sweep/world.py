"""One small world: an engine in a directory, a simulated provider, and lives of a process that may end at any call.

The provider and the directory outlive each process; time goes on from where the last one died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import orjson

from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.core.batches import BatchRow
from lowtide.core.prices import PriceTable
from lowtide.core.records import ResultRecord
from lowtide.core.routes import Routes
from lowtide.core.tasks import TaskRow
from lowtide.core.tiers import Tier
from lowtide.ports import Message, Outgoing, System
from lowtide.steps.accept import accept_messages
from lowtide.steps.answer import Report, answer
from lowtide.steps.deliver import document_of
from lowtide.steps.turns import assemble, collect_due
from lowtide_local.engine.clock import VirtualClock, run_virtual
from lowtide_local.engine.crashes import Crash, CrashPlan, Side
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine, in_place
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.engine.worker import Pace, Worker
from lowtide_local.run.assembly import shipped_prices, shipped_routes
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import Scenario

T = TypeVar("T")

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PACE = Pace(assemble_s=120, poll_s=60, watch_s=240)
LONGEST_LIFE_S = 14 * 86_400
"""What is not settled by then never will be."""

QUEUES = ("intake", *(tier.value for tier in Tier))


@cache
def routes() -> Routes:
    return shipped_routes().without_reply_list()


@cache
def prices() -> PriceTable:
    return shipped_prices()


def task(task_id: str, kind: str, text: str = "Hello.", *, model: str = "gpt-5-mini", **fields: Any) -> dict[str, Any]:
    """A task message that asks for ``text``, which may carry ``[sim:…]`` marks."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_completion_tokens": 100}
    return {"task_id": task_id, "type": kind, "request": {"url": "/v1/chat/completions", "body": body}, **fields}


class WorldClock:
    """A ports.Clock: the running life's, and between two lives the moment of the last death."""

    def __init__(self, start: datetime) -> None:
        self.moment = start
        self.running: VirtualClock | None = None

    def now(self) -> datetime:
        return self.moment if self.running is None else self.running.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ReplyBox:
    """A ports.Replies that keeps what it was given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def send(self, replies: Sequence[tuple[str, str]]) -> None:
        self.sent += replies


@dataclass
class World:
    """``directory`` is empty at first. Rebuilding a World around a used directory is not meant."""

    directory: Path
    scenario: Scenario = field(default_factory=Scenario)
    routes: Routes = field(default_factory=routes)
    voids: bool = True
    """Does a starting process void the leases of the dead one, as the embedded engine does?"""

    def __post_init__(self) -> None:
        self.clock = WorldClock(START)
        self.provider = SimulatedProvider(self.scenario, self.clock)
        self.metrics = RecordedMetrics()
        self.replies = ReplyBox()
        self.waves: list[Sequence[object]] = []
        """What publishers send once everything before it has ended: messages, wave by wave."""

    def publish(self, *bodies: object) -> None:
        """Each becomes one message on the intake queue; text goes as it is, anything else as JSON."""
        texts = [body if isinstance(body, str) else orjson.dumps(body).decode() for body in bodies]
        with Engine.open(self.directory, self.clock, Durability.RELAXED) as engine:
            engine.queue("intake").send([Outgoing(body=text) for text in texts])

    def live(self, story: Callable[[Life], Awaitable[T]], plan: CrashPlan | None = None) -> T:
        """One life of the process, from its start to the end of ``story``. Raises Crash where the plan has one."""

        async def main(clock: VirtualClock) -> T:
            self.clock.running = clock
            engine = Engine.open(self.directory, self.clock, Durability.RELAXED)
            try:
                if self.voids:
                    engine.void_leases()
                return await self._live(story, engine, plan or CrashPlan())
            finally:
                engine.kill()
                self.clock.moment, self.clock.running = clock.now(), None

        try:
            return run_virtual(main, self.clock.moment)
        except BaseExceptionGroup as group:
            if (crash := _crash_in(group)) is not None:
                raise crash from group
            raise

    async def _live(self, story: Callable[[Life], Awaitable[T]], engine: Engine, plan: CrashPlan) -> T:
        async with (
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app=build_app(self.provider))) as http,
            asyncio.timeout(LONGEST_LIFE_S),
        ):
            return await story(Life(self, engine, self._system(engine, http, plan)))

    def meanwhile(self, life: Life, story: Callable[[Life], Awaitable[None]]) -> None:
        """Another process lives through ``story`` while the caller, in the middle of a blocking call, stands still."""
        paused = self.clock.running
        if paused is None:
            raise AssertionError("somebody has to stand still")

        async def main(clock: VirtualClock) -> datetime:
            self.clock.running = clock
            await self._live(story, life.engine, CrashPlan())
            return clock.now()

        with ThreadPoolExecutor(1) as other:
            later = other.submit(run_virtual, main, paused.now()).result()
        self.clock.running = paused
        paused._loop.jump((later - paused.now()).total_seconds())

    def work(self, plan: CrashPlan | None = None) -> bool:
        """A process at work until everything is settled. False where the plan's crash ended it."""
        try:
            self.live(Life.work, plan)
            while self.waves:
                self.publish(*self.waves.pop(0))
                self.live(Life.work, plan)
        except Crash:
            return False
        return True

    def _system(self, engine: Engine, http: httpx2.AsyncClient, plan: CrashPlan) -> System:
        client = build_client(base_url="http://simulated/v1", api_key="any", http_client=http)
        return plan.guard_system(
            System(
                deployment="world",
                routes=self.routes,
                prices=prices(),
                clock=self.clock,
                intake=engine.queue("intake"),
                tiers={tier: engine.queue(tier.value) for tier in Tier},
                dead_letters=engine.queue("dead-letters"),
                objects=engine.objects,
                tasks=engine.tasks,
                parts=engine.parts,
                batches=engine.batches,
                ledger=engine.ledger,
                answers={"openai": OpenAIAnswers(client)},
                batch_apis={"openai": OpenAIBatches(client, self.clock)},
                replies=self.replies,
                metrics=self.metrics,
                offload=in_place,
            )
        )


@dataclass
class Life:
    """A process at work in a world, driven step by step or left to itself."""

    world: World
    engine: Engine
    system: System

    async def work(self) -> None:
        """Everything that is on the intake queue or under way, to its end."""
        worker = Worker(self.system, PACE, lambda name: self.engine.queue(name).next_visible_at())
        worker.no_more()
        await worker.run(flush=False)

    def accept(self) -> None:
        """Ingest, until the intake queue is empty."""
        while messages := self.system.intake.receive(10, visibility_s=60):
            accept_messages(self.system, messages)
            self.system.intake.delete(messages)

    async def answer(self, tier: Tier, *, slots: int = 10, **options: Any) -> Report:
        """One invocation of a tier's consumer with all that is visible; what is done is deleted."""
        messages = self.system.tiers[tier].receive(10, visibility_s=60)
        report = await answer(
            self.system, tier, messages, slots=asyncio.Semaphore(slots), **{"visibility_s": 60, **options}
        )
        self.system.tiers[tier].delete(report.done)
        return report

    async def assemble(self) -> None:
        await assemble(self.system, flush=True)

    async def collect(self) -> int:
        return await collect_due(self.system)

    async def pass_time(self, seconds: float) -> None:
        await self.system.clock.sleep(seconds)

    async def finish(self, *, step_s: float = 60, most: int = 5_000) -> None:
        """Turns of the assembler and the poller until no batch and no part is active."""
        for _ in range(most):
            await self.assemble()
            await self.collect()
            if not self.system.parts.active() and not self.system.batches.active():
                return
            await self.pass_time(step_s)
        raise AssertionError("there is no end to it")

    def row(self, task_id: str) -> TaskRow:
        [row] = self.system.tasks.get([f"{task_id} default"])
        assert row is not None, f"{task_id} has no row"
        return row

    def record(self, task_id: str) -> ResultRecord:
        return document_of(self.system, self.row(task_id)).record

    def batch(self) -> BatchRow:
        """The one batch that is active."""
        [batch] = self.system.batches.active()
        return batch

    def letters(self) -> list[dict[str, Any]]:
        """Every dead letter that was sent, repeats among them."""
        return [orjson.loads(message.body) for message in self._look("dead-letters")]

    def waiting(self, tier: Tier) -> list[Message]:
        return self._look(tier.value)

    def _look(self, name: str) -> list[Message]:
        """A look that counts as no receive: the transaction around it is undone."""
        seen: list[Message] = []
        with suppress(_Undone), self.engine.transaction():
            seen += self.engine.queue(name).receive(1_000, visibility_s=0)
            raise _Undone
        return seen


class _Undone(Exception):
    pass


class Dies(CrashPlan):
    """At the ``nth`` call of this name (``parts.apply``), whenever it comes."""

    def __init__(self, call: str, side: Side = Side.BEFORE, nth: int = 1) -> None:
        super().__init__(side=side)
        self._call = call
        self._nth = nth

    def _die_if(self, number: int, side: Side, name: str) -> None:
        if (name, side) == (self._call, self.side) and self.calls[:number].count(name) == self._nth:
            self.crashed = True
            raise Crash(f"{side.name.lower()} {name} {self._nth}")


def with_batching(**changes: Any) -> Routes:
    return routes().model_copy(update={"batching": routes().batching.model_copy(update=changes)})


def later(clock: WorldClock, seconds: float) -> None:
    """Nobody is at work for a while."""
    clock.moment += timedelta(seconds=seconds)


def _crash_in(group: BaseExceptionGroup[BaseException]) -> Crash | None:
    crashes, rest = group.split(Crash)
    if crashes is None or rest is not None:
        return None
    error: BaseException = crashes
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Crash) else None
