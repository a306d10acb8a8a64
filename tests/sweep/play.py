"""One play: a schedule's actors at work on the embedded engine and the model provider, until everything has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any

from lowtide.core.acceptance import accept
from lowtide.core.batches import GRACE, BatchRow, BatchState
from lowtide.core.preemption import Preemption
from lowtide.core.rescues import think_of_rescue_at
from lowtide.core.routes import Routes
from lowtide.core.task import AcceptedTask
from lowtide.core.task_rows import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import System
from lowtide.steps.carry import send_tasks
from lowtide.steps.counted_tasks import CountedTasks
from lowtide.steps.outlook import margins_of
from lowtide.steps.sweep import sweep
from lowtide.steps.turns import TO_COLLECT
from lowtide_local.engine.crashes import Crash, Side
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.run.assembly import on_engine
from tests.sweep.cast import CONSUMED, Actor, Operator, Role, TurnedOver, cast, driven
from tests.sweep.ground import Ground, RepeatingQueue
from tests.sweep.interleaving import Interleaver, SkewedClock
from tests.sweep.model_provider import ModelProvider
from tests.sweep.process import Process
from tests.sweep.promises import SKEW, Watch, WatchedRows, broken, left_behind
from tests.sweep.schedules import ASKS, DOWN_S, HANDS_ON, Schedule
from tests.sweep.troubles import Raise, Troubles
from tests.sweep.world import CallbackBox, EventBox, ReplyBox, prices, task, with_batching

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LONGEST = timedelta(days=12)
MOST_CALLS = 20_000
"""No play comes near either; one that does has no end."""
DEPLOYMENT = "ours"
REPLY_TO = "https://queue/replies"
PATIENT = ("text", "expired", "label")
DAYS_S = 5 * 86_400
"""What these have: the rest of a rescued batch is theirs to go into another one. All others have a day."""
AUTO = {ASKS: "document_analysis", HANDS_ON: "report_generation"}
"""The types of these tasks, whose model is asked for."""
ODD = ("label", "text", "call-1", "other-model")
ODD_TEXTS = {
    "tenant": "~!@'\"<&>;{}[]|`$(x)%00..//" + "z" * 100,
    "tags": {"a\"b'\n\r\t": "\u2028 Grüße, 東京 \U0001f30a \x7f\ufffe\x00" + "z" * 2_000, "": ""},
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
}
"""Attributes of these tasks, as odd as the door lets in."""
MODELS = {"A": "gpt-5-mini", "B": "gpt-4o-mini"}
AT_ONCE = 0.25
"""Of the turns after one that had something to do: what they find, a later one would find too."""
A_MOMENT_S = 0.001
"""A call of the one worker's: in no time at all, a turn that waits for the next moment would have no end."""
CREATIONS = "batch_apis.openai.create"

SOON = timedelta(minutes=5)
"""Where nobody dies, a step is done by then, and others may go on with what it left."""
AT_HAND = timedelta(seconds=1)
"""How soon a consumer is called for a message that is visible."""

Trace = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``faults`` is empty where every promise held. ``raised``: calls that raised. ``in_flight``: claims of calls that
    had not ended, at the crash at which they were the most."""

    faults: Sequence[str]
    calls: Sequence[str]
    crashes: int
    switches: int
    raised: int = 0
    in_flight: int = 0


class Endless(BaseException):
    """No step may take it for an error of its own."""


class Traced(RecordedMetrics):
    """Metrics that tell the trace as well, where there is one."""

    def __init__(self, trace: Trace | None) -> None:
        super().__init__()
        self._trace = trace

    def log(self, event: str, **fields: object) -> None:
        if self._trace is not None:
            self._trace(f"      {event} {fields}")


@cache
def routes_of_plays() -> Routes:
    """Nobody sends CRITICAL tasks here: to look out for them would be most of what happens."""
    quiet = with_batching(poll_first_s=60).model_copy(update={"preemption": Preemption(enabled=False)})
    types = {kind: quiet.types[kind].model_copy(update={"model": "auto"}) for kind in AUTO.values()}
    return quiet.model_copy(update={"types": quiet.types | types})


@cache
def accepted(task_id: str, kind: str, model: str, mark: str, origin: str, **fields: str) -> AcceptedTask:
    """Each has a sleeper, whose token is the origin."""
    beside: dict[str, Any] = dict(fields)
    if task_id in PATIENT:
        beside["deadline_seconds"] = DAYS_S
    if task_id in ODD:
        beside |= ODD_TEXTS
    if task_id in AUTO:
        asked = {"task_id": task_id, "type": kind, "payload": {"text": "What is it worth to ask?"}, **beside}
    else:
        asked = task(task_id, kind, mark, model=model, **beside)
    made = accept(asked, origin=origin, sent_at=START, routes=routes_of_plays())
    return made.model_copy(update={"task_token": origin})


def tasks_of(schedule: Schedule) -> list[AcceptedTask]:
    batched = [
        accepted(name, "content_generation", MODELS[lot], mark, f"in/{name}") for name, lot, mark in schedule.tasks
    ]
    live = [
        accepted(f"live-{n}", "meeting_summary", MODELS["A"], mark, f"in/live-{n}")
        for n, mark in enumerate(("plain", "500-once")[: schedule.live])
    ]
    called = [
        accepted(name, "meeting_summary", MODELS[lot], mark, f"in/{name}", reply_to=REPLY_TO)
        for name, lot, mark in schedule.called
    ]
    asked = [
        accepted(name, AUTO[name], MODELS["A"], "auto", f"in/{name}", reply_to=REPLY_TO) for name in schedule.asked
    ]
    return batched + live + called + asked


def copies_of(schedule: Schedule, tasks: Sequence[AcceptedTask]) -> list[AcceptedTask]:
    """The same tasks from other deliveries, each with a sleeper of its own."""
    by_name = {task.task_id: task for task in tasks}
    copied = [by_name[name] for name in schedule.copies if name in by_name] or tasks[:1]
    origins = [f"in/again-{number}" for number in range(len(copied))]
    return [
        task.model_copy(update={"origin": origin, "task_token": origin})
        for task, origin in zip(copied, origins, strict=True)
    ]


class Play:
    """Once. ``system_of`` may put something between an actor and its ports."""

    def __init__(
        self,
        schedule: Schedule,
        ground: Ground,
        *,
        trace: Trace | None = None,
        system_of: Callable[[System], System] = lambda system: system,
        provider_of: Callable[..., ModelProvider] = ModelProvider,
    ) -> None:
        self.schedule = schedule
        self._trace = trace
        self.metrics = Traced(trace)
        self._system_of = system_of
        self.dice = schedule.dice
        self.stage = Interleaver()
        self.engine = ground.begin(self.stage, START)
        self.clock = ground.clock
        self._crashes = dict(schedule.crashes)
        self.calls: list[str] = []
        self.crashed = 0
        self.in_flight = 0
        self.raised: set[str] = set()
        self.doubtful: set[str] = set()
        """Keys of tasks whose rows some call failed to write, as far as the caller knows."""
        self.provider = provider_of(
            clock=ground.clock,
            dice=Random(f"{schedule.seed} provider"),
            works=self.stage.pause,
            mishaps=list(schedule.mishaps),
            flaky=schedule.flaky,
            unwell=schedule.unwell,
            refused_until=START + timedelta(seconds=schedule.refused_s) if schedule.refused_s else None,
            together=bool(schedule.called),
        )
        self._troubles = Troubles(schedule.troubles, Random(f"{schedule.seed} troubles"), lambda: self.stage.elapsed_s)
        self.tasks = tasks_of(schedule)
        self.copies = copies_of(schedule, self.tasks)
        names = [(task.tenant, task.task_id) for task in self.tasks]
        self._operator = Operator(self.engine, names, self.dice, schedule.orders)
        self._actors = list(cast(schedule, self.dice, self._operator))
        self.watch = Watch(self.engine, self.tasks)
        self.system = self._built()

    def run(self) -> Outcome:
        self._publish()
        try:
            self.stage.run([self._living(actor) for actor in self._actors])
            self._close()
        except Endless:
            pass
        faults = self.watch.faults or list(broken(self))
        return Outcome(faults, self.calls, self.crashed, self.stage.switches, self._troubles.raised, self.in_flight)

    def called(self, actor: Actor, name: str) -> int:
        """The actor is about to make a call: its number, after whoever was due before it has had his turn."""
        self.stage.pause(self._latency(name))
        self.calls.append(name)
        if self._trace is not None:
            self._trace(f"{len(self.calls):5} {self.stage.elapsed_s:12.3f} {actor.name}: {name}")
        if len(self.calls) > MOST_CALLS or self.clock.now() > START + LONGEST:
            self.watch.faults.append(f"there is no end to it after {len(self.calls)} calls, {self.clock.now()}")
            raise Endless
        return len(self.calls)

    def raises(self, number: int, name: str) -> Raise | None:
        raised = self._troubles.at(number, name)
        if raised is not None:
            self.raised.add(name)
        if raised is not None and self._trace is not None:
            self._trace(f"      --- call {number} raises, {raised.how.value}: {raised.error!r}")
        return raised

    def dies(self, number: int, side: Side, actor: Actor) -> bool:
        if self._crashes.get(number) is not side:
            return False
        self.crashed += 1
        if self._trace is not None:
            self._trace(f"      --- {actor.name} dies {side.name.lower()} call {number}")
        claimed = sum(row.state is TaskState.CALLING for row in self.watch.tasks.values())
        self.in_flight = max(self.in_flight, claimed)
        return True

    def _built(self) -> System:
        engine, watch, repeats = self.engine, self.watch, self.schedule.repeats
        tiers = {tier: RepeatingQueue(engine.queue(tier.value), self.dice, repeats) for tier in Tier}
        built = on_engine(
            engine,
            deployment=DEPLOYMENT,
            routes=routes_of_plays(),
            prices=prices(),
            clock=self.clock,
            answers={"openai": self.provider},
            batch_apis={"openai": self.provider},
            metrics=self.metrics,
        )
        self.replies, self.events, self.callbacks = ReplyBox(), EventBox(), CallbackBox()
        return replace(
            built,
            tiers=tiers,
            tasks=CountedTasks(WatchedRows(engine.tasks, watch, watch.tasks), self.metrics),
            parts=WatchedRows(engine.parts, watch, watch.parts),
            batches=WatchedRows(engine.batches, watch, watch.batches),
            replies=self.replies,
            events=self.events,
            callbacks=self.callbacks,
        )

    def _publish(self) -> None:
        """A pack, singles, and second copies in messages of their own besides."""
        half = len(self.tasks) // 2
        send_tasks(self.system, self.tasks[:half])
        for each in self.tasks[half:]:
            send_tasks(self.system, [each])
        for each in self.copies:
            send_tasks(self.system, [each])

    def _living(self, actor: Actor) -> Callable[[], None]:
        """One process of this actor after another."""

        def live() -> None:
            while not self._over():
                try:
                    self._one_life(actor)
                except Crash:
                    self.stage.pause(self.dice.choice(DOWN_S))
                    if self._voids():  # else it is waited out, as on AWS
                        self.engine.void_leases()

        return live

    def _voids(self) -> bool:
        if self.schedule.voids is not None:
            return self.schedule.voids
        return self.schedule.crew == 0 and self.dice.random() < 0.5

    def _one_life(self, actor: Actor) -> None:
        process = Process(self, actor)
        clock = SkewedClock(self.stage, START, actor.skew_s)
        system = self._system_of(process.guard_system(self.system, clock))
        while not self._over():
            before = self.watch.moves
            process.raised.clear()
            try:
                actor.turn(system)
            except (Crash, Endless):
                raise
            except BaseExceptionGroup as group:
                if (crash := group.subgroup(Crash)) is not None:
                    raise Crash("in a group") from crash
                self._failed(actor, process, group)
            except Exception as error:  # noqa: BLE001 - judged there
                self._failed(actor, process, error)
            # A function that failed is invoked again at its next schedule, and finds something to do.
            if actor.role is not Role.OPERATOR:  # the worker may be in the middle of a turn of its own
                self.watch.faults += left_behind(self)
            busy = self.watch.moves != before or bool(process.raised)
            self.stage.pause(self._rest(actor, busy=busy, soon=bool(process.raised)))

    def _failed(self, actor: Actor, process: Process, error: BaseException) -> None:
        """A turn may fail where a port did; else a step that raises has broken a promise, and so has one that lets a
        message's trouble out upon the others."""
        if not process.raised or isinstance(error, TurnedOver):
            told = f"{error!r} {error.exceptions}" if isinstance(error, BaseExceptionGroup) else repr(error)
            self.watch.faults.append(f"{actor.name} failed: {told}")

    def _latency(self, name: str) -> float:
        """Until the call takes effect. A creation comes within the grace period of its intent: that is the model."""
        if self.schedule.crew == 0:
            return A_MOMENT_S
        if name != CREATIONS and self.dice.random() < self.schedule.stall:
            return self.dice.choice((50.0, 200.0, 1_000.0))
        return self.dice.random() * 2

    def _rest(self, actor: Actor, *, busy: bool, soon: bool = False) -> float:
        """Between two turns: until something will have happened, or short, as where there was something to do."""
        now = self.clock.now()
        moments = [moment for moment in self._moments(actor) if moment is not None and moment > now]
        if busy and (soon or not moments or self.dice.random() < AT_ONCE):
            return self.dice.choice((10.0, 60.0, 60.0) if soon else (1.0, 10.0, 60.0))
        wait = (min(moments) - now).total_seconds() if moments else 21_600.0
        return min(wait, 21_600.0) + self.dice.random() * 3

    def _moments(self, actor: Actor) -> Iterator[datetime | None]:
        """When there may be something to do for this actor."""
        for row in self.watch.batches.values():
            if row.active and actor.role.cares(row.state):
                yield from (row.not_before, row.lease_until)
                if row.state is BatchState.SUBMITTING and row.intent_at is not None:
                    yield row.intent_at + GRACE
                if row.state is BatchState.RUNNING:
                    news = self._news(row)
                    # Once more by a clock that is behind everybody's.
                    yield from (news, news + SKEW)
        if actor.role in (Role.WORKER, Role.ASSEMBLER):
            yield self.engine.queue(Tier.LOW.value).next_visible_at()
            for part in self.watch.parts.values():
                if part.active:
                    yield from (part.not_before, part.lease_until)
        if actor.role in (Role.WORKER, Role.CONSUMER):
            yield from self._freed()
            visible = self.engine.queue(CONSUMED.value).next_visible_at()
            # SQS calls a consumer for a message that became visible while the last turn ended.
            yield visible and max(visible, self.clock.now() + AT_HAND)

    def _news(self, row: BatchRow) -> datetime:
        """When a look at a running batch may find something."""
        news = self.provider.end_of(row)
        if not (row.called_off or self.provider.forgot(row)):
            news = min(news, think_of_rescue_at(row, margins_of(self.system)))
        return max(news, row.next_poll_at or START)

    def _freed(self) -> Iterator[datetime]:
        """When tasks may come out of a batch onto a queue that is empty now."""
        for row in self.watch.batches.values():
            if row.state is BatchState.RUNNING:
                yield self._news(row) + SOON
            elif row.state in TO_COLLECT and row.active:
                yield self.clock.now() + SOON

    def _over(self) -> bool:
        return bool(self.watch.faults) or (self._operator.left == 0 and self.watch.ended())

    def _close(self) -> None:
        """Time goes by, and the hourly sweep comes round: what it cancels has ended by the next one. No request of
        these is lost: there would be another sweep, and another."""
        self.provider.flaky = 0.0
        for _ in range(3):
            self.stage.elapsed_s += 7_200
            driven(sweep(self.system))
