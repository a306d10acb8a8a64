"""One small world: an engine in a directory, a simulated provider, and lives of a process that may end at any call.

The provider and the directory outlive each process; time goes on from where the last one died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import orjson

from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.adapters.shipped import shipped_prices, shipped_routes
from lowtide.core.outward import Callback, Event
from lowtide.core.prices import PriceTable
from lowtide.core.routes import Routes
from lowtide.core.tiers import Tier
from lowtide.ports import Outgoing, Reply, System
from lowtide_local.engine.clock import VirtualClock, run_virtual
from lowtide_local.engine.crashes import Crash, CrashPlan, Side
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.run.assembly import on_engine
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import Scenario
from tests.sweep.life import Life

__all__ = ["Awaited", "Dies", "Life", "World", "later", "routes", "task", "with_batching"]

T = TypeVar("T")

START = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
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


FORM = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}


def form(task_id: str, kind: str, text: str = "Hello.", **fields: Any) -> dict[str, Any]:
    """A task message whose answer is to be JSON that holds to ``FORM``."""
    asking = task(task_id, kind, text, **fields)
    named = {"name": "form", "strict": True, "schema": FORM}
    asking["request"]["body"]["response_format"] = {"type": "json_schema", "json_schema": named}
    return asking


def essay(task_id: str, kind: str, **fields: Any) -> dict[str, Any]:
    """A task message whose answer is longer than a row keeps."""
    asking = form(task_id, kind, "Say it all.", **fields)
    long = {"type": "object", "properties": {"text": {"const": "x" * 150_000}}, "required": ["text"]}
    asking["request"]["body"]["response_format"]["json_schema"]["schema"] = long
    return asking


def validating(*kinds: str) -> Routes:
    """Routes that hold the answers of these types to their schemas."""
    types = routes().types
    held = {kind: types[kind].model_copy(update={"validate_output": True}) for kind in kinds}
    return routes().model_copy(update={"types": types | held})


@dataclass(frozen=True)
class Awaited:
    """A message whose sender sleeps on a task token."""

    body: object
    task_token: str


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
        self.replies: list[Reply] = []

    @property
    def sent(self) -> list[tuple[str, str]]:
        return [(reply.url, reply.body) for reply in self.replies]

    def send(self, replies: Sequence[Reply]) -> None:
        self.replies += replies


class EventBox:
    """A ports.Events that keeps what it was given."""

    def __init__(self) -> None:
        self.sent: list[Event] = []

    def send(self, events: Sequence[Event]) -> None:
        self.sent += events


class CallbackBox:
    """A ports.Callbacks that keeps what it was given: whom it woke, with what, again and again."""

    def __init__(self) -> None:
        self.taken = True
        self.sent: list[Callback] = []

    def send(self, callbacks: Sequence[Callback]) -> None:
        self.sent += callbacks


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
        self.events = EventBox()
        self.callbacks = CallbackBox()
        self.waves: list[Sequence[object]] = []
        """What publishers send once everything before it has ended: messages, wave by wave."""

    def publish(self, *bodies: object) -> None:
        """Each becomes one message on the intake queue; text goes as it is, anything else as JSON."""
        with Engine.open(self.directory, self.clock, Durability.RELAXED) as engine:
            engine.queue("intake").send([outgoing(body) for body in bodies])

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
        built = on_engine(
            engine,
            deployment="world",
            routes=self.routes,
            prices=prices(),
            clock=self.clock,
            answers={"openai": OpenAIAnswers(client)},
            batch_apis={"openai": OpenAIBatches(client, self.clock)},
            metrics=self.metrics,
        )
        told = replace(built, replies=self.replies, events=self.events, callbacks=self.callbacks)
        return plan.guard_system(told)


def outgoing(body: object) -> Outgoing:
    if isinstance(body, Awaited):
        return replace(outgoing(body.body), attributes={"task_token": body.task_token})
    return Outgoing(body if isinstance(body, str) else orjson.dumps(body).decode())


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
