"""One play: a schedule's actors at work on the embedded engine and the model provider, until everything has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

from lowtide.core.acceptance import accept
from lowtide.core.batches import GRACE, BatchRow, BatchState
from lowtide.core.preemption import Preemption
from lowtide.core.rescues import think_of_rescue_at
from lowtide.core.task import AcceptedTask
from lowtide.core.task_rows import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import System
from lowtide.steps.carry import send_tasks
from lowtide.steps.outlook import margins_of
from lowtide.steps.sweep import sweep
from lowtide.steps.turns import TO_COLLECT
from lowtide_local.engine.crashes import Crash, CrashPlan, Side
from lowtide_local.run.assembly import on_engine
from tests.sweep.cast import CONSUMED, Actor, Operator, Role, cast, driven
from tests.sweep.ground import Ground, RepeatingQueue
from tests.sweep.interleaving import Interleaver, SkewedClock
from tests.sweep.model_provider import ModelProvider
from tests.sweep.promises import SKEW, Watch, WatchedRows, broken
from tests.sweep.schedules import DOWN_S, Schedule
from tests.sweep.world import CallbackBox, EventBox, ReplyBox, prices, routes, task, with_batching

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LONGEST = timedelta(days=12)
MOST_CALLS = 20_000
"""No play comes near either; one that does has no end."""
DEPLOYMENT = "ours"
REPLY_TO = "https://queue/replies"
PATIENT = ("text", "expired", "label")
DAYS_S = 5 * 86_400
"""What these have: the rest of a rescued batch is theirs to go into another one. All others have a day."""
MODELS = {"A": "gpt-5-mini", "B": "gpt-4o-mini"}
AT_ONCE = 0.25
"""Of the turns after one that had something to do: what they find, a later one would find too."""
A_MOMENT_S = 0.001
"""A call of the one worker's: in no time at all, a turn that waits for the next moment would have no end."""
CREATIONS = "batch_apis.openai.create"

SOON = timedelta(minutes=5)
"""Where nobody dies, a step is done by then, and others may go on with what it left."""

Trace = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``faults`` is empty where every promise held. ``in_flight``: claims of calls that had not ended, at the crash at
    which they were the most."""

    faults: Sequence[str]
    calls: Sequence[str]
    crashes: int
    switches: int
    in_flight: int = 0


class Endless(BaseException):
    """No step may take it for an error of its own."""


class Quietly:
    """A ports.Metrics that tells the trace, where there is one."""

    def __init__(self, trace: Trace | None) -> None:
        self._trace = trace

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        pass

    def log(self, event: str, **fields: object) -> None:
        if self._trace is not None:
            self._trace(f"      {event} {fields}")


@cache
def accepted(task_id: str, kind: str, model: str, mark: str, origin: str, **fields: str) -> AcceptedTask:
    patience = {"deadline_seconds": DAYS_S} if task_id in PATIENT else {}
    asked = task(task_id, kind, mark, model=model, **patience, **fields)
    return accept(asked, origin=origin, sent_at=START, routes=routes())


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
    return batched + live + called


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
        self._system_of = system_of
        self._dice = schedule.dice
        self.stage = Interleaver()
        self.engine = ground.begin(self.stage, START)
        self._clock = ground.clock
        self._crashes = dict(schedule.crashes)
        self.calls: list[str] = []
        self.crashed = 0
        self.in_flight = 0
        self.provider = provider_of(
            clock=ground.clock,
            dice=Random(f"{schedule.seed} provider"),
            works=self.stage.pause,
            mishaps=list(schedule.mishaps),
            flaky=schedule.flaky,
            together=bool(schedule.called),
        )
        self.tasks = tasks_of(schedule)
        self._operator = Operator(self.engine, [task.task_id for task in self.tasks], self._dice, schedule.orders)
        self._actors = list(cast(schedule, self._dice, self._operator))
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
        return Outcome(faults, self.calls, self.crashed, self.stage.switches, self.in_flight)

    def called(self, actor: Actor, name: str) -> int:
        """The actor is about to make a call: its number, after whoever was due before it has had his turn."""
        self.stage.pause(self._latency(name))
        self.calls.append(name)
        if self._trace is not None:
            self._trace(f"{len(self.calls):5} {self.stage.elapsed_s:12.3f} {actor.name}: {name}")
        if len(self.calls) > MOST_CALLS or self._clock.now() > START + LONGEST:
            self.watch.faults.append(f"there is no end to it after {len(self.calls)} calls, {self._clock.now()}")
            raise Endless
        return len(self.calls)

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
        tiers = {tier: RepeatingQueue(engine.queue(tier.value), self._dice, repeats) for tier in Tier}
        built = on_engine(
            engine,
            deployment=DEPLOYMENT,
            # Nobody sends CRITICAL tasks here: to look out for them would be most of what happens.
            routes=with_batching(poll_first_s=60).model_copy(update={"preemption": Preemption(enabled=False)}),
            prices=prices(),
            clock=self._clock,
            answers={"openai": self.provider},
            batch_apis={"openai": self.provider},
            metrics=Quietly(self._trace),
        )
        self.replies = ReplyBox()
        return replace(
            built,
            tiers=tiers,
            tasks=WatchedRows(engine.tasks, watch, watch.tasks),
            parts=WatchedRows(engine.parts, watch, watch.parts),
            batches=WatchedRows(engine.batches, watch, watch.batches),
            replies=self.replies,
            events=EventBox(),
            callbacks=CallbackBox(),
        )

    def _publish(self) -> None:
        """A pack, singles, and one task in a message of its own besides."""
        half = len(self.tasks) // 2
        send_tasks(self.system, self.tasks[:half])
        for each in self.tasks[half:]:
            send_tasks(self.system, [each])
        twice = self.tasks[0].model_copy(update={"origin": "in/again"})
        send_tasks(self.system, [twice])

    def _living(self, actor: Actor) -> Callable[[], None]:
        """One process of this actor after another."""

        def live() -> None:
            while not self._over():
                try:
                    self._one_life(actor)
                except Crash:
                    self.stage.pause(self._dice.choice(DOWN_S))
                    if self._voids():  # else it is waited out, as on AWS
                        self.engine.void_leases()

        return live

    def _voids(self) -> bool:
        if self.schedule.voids is not None:
            return self.schedule.voids
        return self.schedule.crew == 0 and self._dice.random() < 0.5

    def _one_life(self, actor: Actor) -> None:
        process = Process(self, actor)
        clock = SkewedClock(self.stage, START, actor.skew_s)
        system = self._system_of(process.guard_system(self.system, clock))
        while not self._over():
            before = self.watch.moves
            try:
                actor.turn(system)
            except (Crash, Endless):
                raise
            except BaseExceptionGroup as group:
                if (crash := group.subgroup(Crash)) is not None:
                    raise Crash("in a group") from crash
                self.watch.faults.append(f"{actor.name} failed: {group!r} {group.exceptions}")
            except Exception as error:  # noqa: BLE001 - a step that raises has broken a promise
                self.watch.faults.append(f"{actor.name} failed: {error!r}")
            self.stage.pause(self._rest(actor, busy=self.watch.moves != before))

    def _latency(self, name: str) -> float:
        """Until the call takes effect. A creation comes within the grace period of its intent: that is the model."""
        if self.schedule.crew == 0:
            return A_MOMENT_S
        if name != CREATIONS and self._dice.random() < self.schedule.stall:
            return self._dice.choice((50.0, 200.0, 1_000.0))
        return self._dice.random() * 2

    def _rest(self, actor: Actor, *, busy: bool) -> float:
        """Between two turns: until something will have happened, or short, as where there was something to do."""
        now = self._clock.now()
        moments = [moment for moment in self._moments(actor) if moment is not None and moment > now]
        if busy and (not moments or self._dice.random() < AT_ONCE):
            return self._dice.choice((1.0, 10.0, 60.0))
        wait = (min(moments) - now).total_seconds() if moments else 21_600.0
        return min(wait, 21_600.0) + self._dice.random() * 3

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
            yield self.engine.queue(CONSUMED.value).next_visible_at()

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
                yield self._clock.now() + SOON

    def _over(self) -> bool:
        return bool(self.watch.faults) or (self._operator.left == 0 and self.watch.ended())

    def _close(self) -> None:
        """Time goes by, and the hourly sweep comes round: what it cancels has ended by the next one. No request of
        these is lost: there would be another sweep, and another."""
        self.provider.flaky = 0.0
        for _ in range(3):
            self.stage.elapsed_s += 7_200
            driven(sweep(self.system))


class Process(CrashPlan):
    """One life of an actor: pauses before each of its calls, and dies where the play says so."""

    def __init__(self, play: Play, actor: Actor) -> None:
        super().__init__()
        self._play, self._actor = play, actor

    def guard_system(self, system: System, clock: SkewedClock) -> System:
        return replace(super().guard_system(system), clock=clock)

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        if self.crashed:
            raise Crash(f"{name}: already dead")
        number = self._play.called(self._actor, name)
        self._die(number, Side.BEFORE, name)
        try:
            yield
        except Exception:
            self._die(number, Side.AFTER, name)
            raise
        if name.endswith(".delete"):
            self._play.watch.look()
        self._die(number, Side.AFTER, name)

    def _die(self, number: int, side: Side, name: str) -> None:
        if self.crashed or self._play.dies(number, side, self._actor):
            self.crashed = True
            raise Crash(f"{side.name.lower()} call {number}, {name}")
