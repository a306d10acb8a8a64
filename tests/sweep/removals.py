"""The sweep can fail: each rule that keeps a promise, and a way to do without it for the length of a play.

The product has no switches. What is taken away here is taken away from outside: a step's name, a row's transition, or a
port is replaced. OPERATIONS means its table of what a model found; the numbers are those of DESIGN 5's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from unittest.mock import patch

from lowtide.core import collection, rescues
from lowtide.core.batches import (
    TERMINAL,
    BatchDecision,
    BatchRow,
    BatchState,
    BatchVerdict,
    Intend,
    Lease,
    ProviderBatch,
    ProviderStatus,
    Return,
    Start,
    Stop,
)
from lowtide.core.collection import Reading
from lowtide.core.parts import PartLine, PartRow, PartState
from lowtide.core.task import custom_id
from lowtide.core.tasks import ClaimCall, Decision, Restage, Settle, TaskRow, TaskState, Verdict
from lowtide.core.tiers import Tier
from lowtide.ports import Change, SubmissionKey, System
from lowtide.steps import collect, conclude, drain, look, restage, seal, submit
from lowtide.steps import sweep as sweep_step
from lowtide.steps.part_file import placed
from lowtide_local.engine.crashes import Side
from lowtide_local.engine.engine import Engine
from tests.sweep.cast import driven
from tests.sweep.model_provider import Mishap, ModelProvider
from tests.sweep.schedules import Schedule

T = TypeVar("T")
FOREVER = timedelta(days=365)
STILL_S = 200.0


def _as_it_is(_: Engine) -> Any:
    return ExitStack()


def _same(value: T) -> T:
    return value


@dataclass(frozen=True)
class Removal:
    """``without`` takes the rule away from an engine and the steps. ``system_of`` and ``provider_of``: see Play.
    ``sharpened`` makes of a drawn schedule one in which the rule is needed more often. ``covered`` says by what, where
    the rule alone is not missed.
    """

    name: str
    rule: str
    without: Callable[[Engine], Any] = _as_it_is
    system_of: Callable[[System], System] = _same
    provider_of: Callable[..., ModelProvider] = ModelProvider
    sharpened: Callable[[Schedule], Schedule] = _same
    covered: str | None = None


# --- OPERATIONS: what the model's steps leaned on -------------------------------------------------------------------


def _deleted_first(_: Engine) -> Any:
    received = drain._receive

    def receive(system: System) -> Any:
        messages = received(system)
        system.tiers[Tier.LOW].delete(messages)
        return messages

    return patch.object(drain, "_receive", receive)


def _unclaimed(_: Engine) -> Any:
    def every_line(system: System, parts: Any) -> Iterator[Any]:
        for part in sorted(parts, key=lambda part: part.part_id):
            for offset, raw in placed(system.objects.lines(part.object_key)):
                line = PartLine.model_validate_json(raw)
                [row] = system.tasks.get([line.task.key])
                yield part, offset, len(raw), line, 1 if row is None else row.attempt

    return patch.object(seal, "_claimed", every_line)


class Blind(ModelProvider):
    async def find(self, key: SubmissionKey, input_ref: str | None) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Fill:
    """The record, in a write of its own after the one that ended the task."""

    settled: Settle


class SplitWrites:
    """Rows of tasks: first the end, then the record; who finds the task ended thinks that the record is there."""

    def __init__(self, tasks: Any) -> None:
        self._tasks = tasks
        self.get = tasks.get

    def apply(self, changes: Any, now: datetime) -> list[Decision]:
        bare = [
            replace(change, event=replace(change.event, document=None, pointer=None), seen=None)
            if isinstance(change.event, Settle)
            else change
            for change in changes
        ]
        decisions = self._tasks.apply(bare, now)
        fills = {
            place: Change(change.key, Fill(change.event))
            for place, (change, decision) in enumerate(zip(changes, decisions, strict=True))
            if isinstance(change.event, Settle) and decision.verdict is Verdict.APPLIED
        }
        for place, decision in zip(fills, self._tasks.apply(list(fills.values()), now) if fills else (), strict=True):
            decisions[place] = decision
        return decisions


def _fills(engine: Engine) -> Any:
    def transition(row: TaskRow | None, event: Any, now: datetime, usual: Any) -> Decision:
        if isinstance(event, Fill) and row is not None:
            told = {"document": event.settled.document, "pointer": event.settled.pointer}
            return Decision(Verdict.APPLIED, row.model_copy(update=told), changed=True)
        return usual(row, event, now)

    return moving(engine.tasks, transition)


class LateClaims:
    """Rows of tasks and parts: what moves into a retry part is claimed for it when it is visible already, and whoever
    does that stands still in between."""

    def __init__(self, system: System) -> None:
        self._tasks, self._parts, self._clock = system.tasks, system.parts, system.clock
        self._late: list[Any] = []
        self.get, self.active = system.parts.get, system.parts.active

    def apply(self, changes: Any, now: datetime) -> Any:
        decisions = self._parts.apply(changes, now)
        late, self._late = self._late, []
        if late:
            driven(self._clock.sleep(STILL_S))
            self._tasks.apply(late, now)
        return decisions

    def hold_back(self, changes: Any, now: datetime) -> Any:
        if changes and all(isinstance(change.event, Restage) for change in changes):
            self._late += changes
            return []
        return self._tasks.apply(changes, now)


@dataclass(frozen=True)
class Holding:
    """The tasks' side of LateClaims."""

    get: Any
    apply: Any


def _visible_first(system: System) -> System:
    late = LateClaims(system)
    return replace(system, parts=late, tasks=Holding(system.tasks.get, late.hold_back))


def _no_grace(_: Engine) -> Any:
    return patch.object(submit, "may_intend_again", lambda row, now: True)


@contextmanager
def _first_stamp(engine: Engine) -> Iterator[None]:
    def transition(row: BatchRow | None, event: Any, now: datetime, usual: Any) -> BatchDecision:
        if isinstance(event, Intend) and row is not None and row.intent_at is not None:
            now = row.intent_at
        return usual(row, event, now)

    with moving(engine.batches, transition), _old_intents(engine):
        yield


def _old_intents(_: Engine) -> Any:
    return patch.object(submit, "FRESH", FOREVER)


class SlowIntents:
    """Rows of batches: an intent is stamped, and then takes long to be written."""

    def __init__(self, system: System) -> None:
        self._batches, self._clock, self._slow = system.batches, system.clock, True
        self.get, self.active = system.batches.get, system.batches.active

    def apply(self, changes: Any, now: datetime) -> Any:
        if self._slow and any(isinstance(change.event, Intend) for change in changes):
            self._slow = False
            driven(self._clock.sleep(STILL_S))
        return self._batches.apply(changes, now)


def _unleased(engine: Engine) -> Any:
    def transition(row: BatchRow | None, event: Any, now: datetime, usual: Any) -> BatchDecision:
        if row is None or isinstance(event, Start | Stop):
            return usual(row, event, now)
        if isinstance(event, Lease):
            verdict = BatchVerdict.REFUSED if row.state is BatchState.DONE else BatchVerdict.APPLIED
            return BatchDecision(verdict, row)
        return usual(row.model_copy(update={"lease": event.owner}), event, now)

    return moving(engine.batches, transition)


# --- DESIGN 5: the rules that close the holes -----------------------------------------------------------------------


def _open_for_ever(_: Engine) -> Any:
    usual = PartRow.ready
    return patch.object(PartRow, "ready", lambda self, now: self.state is not PartState.OPEN and usual(self, now))


def _only_what_is_told(_: Engine) -> Any:
    usual = Reading.unanswered

    def told(self: Reading, expected: Any, batch: Any, **options: Any) -> Iterator[Any]:
        return (each for each in usual(self, expected, batch, **options) if each[0] in self.failed)

    return patch.object(Reading, "unanswered", told)


def _rows_of_the_moment(_: Engine) -> Any:
    usual = collect.send_again

    def send_again(system: System, row: BatchRow, again: Any, *, halves: bool) -> None:
        with restage.LinesAgain() as left:
            for each in list(again.read(range(len(again)))):
                [task] = system.tasks.get([each.line.task.key])
                if task is not None and task.attempt == each.attempt and task.holder in row.part_ids:
                    left.add(each.attempt, each.line, _Why(unsure=each.unsure))
            usual(system, row, left, halves=halves)

    return patch.object(collect, "send_again", send_again)


@dataclass(frozen=True, slots=True)
class _Why:
    unsure: bool
    account: bool = False


def _ids_without_attempt(_: Engine) -> Any:
    return patch.object(seal, "custom_id", lambda tenant, task_id, attempt: custom_id(tenant, task_id, 1))


def _settling(*ignored: str) -> Callable[[Engine], Any]:
    def without(engine: Engine) -> Any:
        def transition(row: TaskRow | None, event: Any, now: datetime, usual: Any) -> Decision:
            if isinstance(event, Settle) and row is not None:
                if "attempt" in ignored:
                    event = replace(event, attempt=row.attempt)
                if "holder" in ignored:
                    event = replace(event, holders=frozenset({row.holder}))
            return usual(row, event, now)

        return moving(engine.tasks, transition)

    return without


def _same_number(engine: Engine) -> Any:
    def transition(row: BatchRow | None, event: Any, now: datetime, usual: Any) -> BatchDecision:
        decision = usual(row, event, now)
        if isinstance(event, Return) and row is not None and decision.changed:
            return replace(decision, row=decision.row.model_copy(update={"submission": row.submission}))
        return decision

    return moving(engine.batches, transition)


class Everybodys(ModelProvider):
    def owns(self, deployment: str, key: SubmissionKey) -> bool:
        return True


@contextmanager
def _ageless(_: Engine) -> Iterator[None]:
    with (
        patch.object(sweep_step, "old_enough", lambda at, now: True),
        patch("lowtide.core.orphans.old_enough", lambda at, now: True),
    ):
        yield


@contextmanager
def _unnoted(engine: Engine) -> Iterator[None]:
    def orphan(each: Any, row: BatchRow | None, now: datetime) -> bool:
        known = row.provider_batch if row is not None else None
        noted = (known.id, known.input_ref, known.output_ref, known.error_ref) if known is not None else ()
        return each.id not in noted

    with _ageless(engine), patch.object(sweep_step, "_is_orphan", orphan):
        yield


def _calling(**changes: Callable[[TaskRow], object]) -> Callable[[Engine], Any]:
    """A claim that meets a call in flight sees the row with these fields changed."""

    def without(engine: Engine) -> Any:
        def transition(row: TaskRow | None, event: Any, now: datetime, usual: Any) -> Decision:
            if isinstance(event, ClaimCall) and row is not None and row.state is TaskState.CALLING:
                row = row.model_copy(update={name: value(row) for name, value in changes.items()})
            return usual(row, event, now)

        return moving(engine.tasks, transition)

    return without


def _deleted_while_called(_: Engine) -> Any:
    usual = conclude.Conclusions.unclaimed

    def unclaimed(self: Any, task: Any, claim: Decision, place: str) -> Any:
        return conclude.Ended() if claim.verdict is Verdict.BUSY else usual(self, task, claim, place)

    return patch.object(conclude.Conclusions, "unclaimed", unclaimed)


def _impatient(_: Engine) -> Any:
    return patch.object(rescues, "GIVEN_UP_AFTER", timedelta(0))


def _released_for_nothing(_: Engine) -> Any:
    return patch.object(collection, "NEVER_ENDED", replace(collection.NEVER_ENDED, unsure=False))


def _never_rescued(_: Engine) -> Any:
    async def left_alone(*_: Any) -> None:
        pass

    return patch.object(look, "cancel_if_due", left_alone)


def _rescued_before_it_ended(_: Engine) -> Any:
    """Collected as soon as it says that it is being cancelled."""
    stopping = property(lambda self: self.status in TERMINAL or self.status is ProviderStatus.CANCELLING)
    return patch.object(ProviderBatch, "ended", stopping)


# --- how ------------------------------------------------------------------------------------------------------------


@contextmanager
def moving(rows: Any, transition: Callable[..., Any]) -> Iterator[None]:
    """``rows`` move through ``transition(row, event, now, usual)`` for a while."""
    kind = rows._kind
    usual = kind.transition
    rows._kind = replace(kind, transition=lambda row, event, now: transition(row, event, now, usual))
    try:
        yield
    finally:
        rows._kind = kind


def _with(**changes: Any) -> Callable[[Schedule], Schedule]:
    return lambda schedule: replace(schedule, **changes)


def _creations(*mishaps: Mishap, **changes: Any) -> Callable[[Schedule], Schedule]:
    return lambda schedule: replace(schedule, mishaps=(*mishaps, *schedule.mishaps), **changes)


_LIVE = {"live": 2, "tasks": (("plain", "A", "plain"), ("refused", "A", "refuse")), "crew": 2}
_CALM = {"crashes": {}, "troubles": (), "refused_s": 0.0, "stall": 0.0, "orders": 0}

REMOVALS = (
    Removal("durable", "OPERATIONS: a part is durable before its messages are deleted", _deleted_first),
    Removal("claim", "OPERATIONS: a line goes by its task's claim, which names its part", _unclaimed),
    Removal(
        "look",
        "OPERATIONS: look at the provider before creating again",
        provider_of=Blind,
        sharpened=_creations(Mishap.REPLY_LOST),
    ),
    Removal(
        "one-write",
        "OPERATIONS: the result and the end of a task in one write",
        _fills,
        system_of=lambda system: replace(system, tasks=SplitWrites(system.tasks)),
    ),
    Removal(
        "visible-last",
        "OPERATIONS: a retry part is visible only after its claims",
        system_of=_visible_first,
        sharpened=_with(crew=2, mishaps=(Mishap.EXPIRES, Mishap.NO_OUTPUT)),
    ),
    Removal(
        "grace",
        "OPERATIONS: wait out a grace period, because the list lags",
        _no_grace,
        sharpened=_creations(Mishap.REPLY_LOST),
    ),
    Removal(
        "restamp",
        "OPERATIONS: stamp the intent anew before each creation",
        _first_stamp,
        sharpened=_creations(Mishap.NEVER_ARRIVED, Mishap.REPLY_LOST, crew=2),
    ),
    Removal(
        "fresh",
        "an intent that took long to write is stamped again",
        _old_intents,
        system_of=lambda system: replace(system, batches=SlowIntents(system)),
        sharpened=_creations(Mishap.REPLY_LOST, crew=2),
    ),
    Removal("lease", "OPERATIONS: a lease around submit", _unleased, sharpened=_with(crew=2)),
    Removal("1-open", "1: an open part whose lease ran out is sealed like any other", _open_for_ever),
    Removal("1-missing", "1: a line that neither file speaks of counts as missing", _only_what_is_told),
    Removal(
        "2-pure",
        "2: a retry part is a function of the files, not of the rows at that moment",
        _rows_of_the_moment,
        sharpened=_creations(Mishap.NO_OUTPUT, crashes=dict.fromkeys(range(35, 300, 27), Side.AFTER)),
    ),
    Removal("3-custom-id", "3: the custom_id carries the attempt", _ids_without_attempt),
    Removal(
        "3-attempt",
        "3: settling asks for the attempt",
        _settling("attempt"),
        sharpened=_with(**_LIVE, stall=0.1),
        covered="a claim's holder and a retry part are new with each attempt, and are asked for too (3-holder)",
    ),
    Removal(
        "3-holder",
        "3: settling asks for the attempt and for its holder",
        _settling("attempt", "holder"),
        sharpened=_with(**_LIVE, stall=0.1),
    ),
    Removal(
        "4-number",
        "4: a new submission number after the token limit",
        _same_number,
        sharpened=_creations(Mishap.TOKEN_LIMIT, Mishap.REPLY_LOST),
    ),
    Removal("5-name", "5: a sweep touches only what carries our name", provider_of=Everybodys),
    Removal(
        "5-age",
        "5: a sweep touches only what is older than the grace period",
        _ageless,
        sharpened=_creations(Mishap.REPLY_LOST, crew=2),
        covered="rows say what they will do before they do it, and are read after the lists (5-noted)",
    ),
    Removal(
        "5-noted",
        "5: a sweep leaves to a row what it may yet find, and what is young",
        _unnoted,
        sharpened=_creations(Mishap.REPLY_LOST, crew=2),
    ),
    Removal(
        "6-claim",
        "6: nobody calls for a task that another is calling for",
        _calling(claimed_until=lambda _: None),
        sharpened=_with(**_LIVE, **_CALM, repeats=3, copies=("live-0", "live-0", "live-1", "live-1")),
    ),
    Removal(
        "6-repaid",
        "6: a claim that ran out is taken over as the next attempt, and counted",
        _calling(repaid=lambda row: row.repaid - 1),
        sharpened=_with(**_LIVE, stall=0.05),
    ),
    Removal(
        "6-delete",
        "6: a duplicate is not deleted while a call holds its task",
        _deleted_while_called,
        sharpened=_with(**_LIVE, repeats=3),
    ),
    Removal(
        "12-48h",
        "12: a batch that the provider does not know is not bought again before 48 h",
        _impatient,
        sharpened=_creations(Mishap.UNKNOWN),
    ),
    Removal(
        "12-ends",
        "12: a batch that does not end is not bought again before 48 h",
        _impatient,
        sharpened=_creations(Mishap.NEVER_ENDS),
    ),
    Removal(
        "12-repaid",
        "12: what is bought again then is counted as repaid",
        _released_for_nothing,
        sharpened=_creations(Mishap.NEVER_ENDS),
    ),
    Removal(
        "rescue",
        "P5: a batch that would be late is cancelled in time for the rest of it",
        _never_rescued,
        sharpened=_with(mishaps=(Mishap.SLOW,), crashes={}, stall=0.0, flaky=0.0, orders=0),
    ),
    Removal(
        "rescue-rest",
        "P5: only what a rescued batch has not answered is bought again",
        _rescued_before_it_ended,
        sharpened=_creations(Mishap.SLOW),
    ),
)
