"""Answer: the real-time tiers, many calls in flight, each task claimed before its call and settled on its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

from lowtide.core import documents
from lowtide.core.choice import LaneChoice, choose
from lowtide.core.documents import Try
from lowtide.core.errors import LowtideError, safely_told
from lowtide.core.outcomes import Again, Answered, Bury, Halt, Response, backoff_s, judge
from lowtide.core.prompts import request_body
from lowtide.core.records import ResultDocument
from lowtide.core.structured import checked
from lowtide.core.task import AcceptedTask, custom_id
from lowtide.core.tasks import SETTLED, ClaimCall, Decision, Release, Settle, Strikes, TaskEvent, TaskRow, Verdict
from lowtide.core.tiers import Tier
from lowtide.ports import Call, Change, Message, System

from .ask import Asker, Chosen, HandedOn, Lost
from .carry import Unreadable, read_tasks
from .coalesce import Coalescer
from .deliver import Delivery, deliver, stored

CLAIM_MARGIN = timedelta(seconds=5)
"""Past the call's own timeout: the settling write must find the claim alive."""

WHOLE_CALL_SHARE = 0.75
"""Of its timeout must be left before ``stop_at`` for a call to begin: one that is cut off may be billed in vain."""

HALT_DELAY_S = 300
"""How long work rests when the account is refused: an operator has to act first."""

LONGEST_WAIT_S = 300.0
"""Between two receives of a message that keeps failing for reasons of ours, such as a store that does not answer."""

HEARTBEAT_SHARE = 0.4
"""Of the visibility: a message in hand is extended twice before it would come back."""


@dataclass(frozen=True, slots=True)
class Report:
    """``done`` may be deleted; ``again`` was deferred already and is to come back. ``halted``: why sending stopped."""

    done: tuple[Message, ...]
    again: tuple[Message, ...]
    halted: str | None = None


@dataclass(frozen=True, slots=True)
class _Ended:
    """What one task of a message came to: ``delay_s`` is None where the message no longer needs it."""

    delivery: Delivery | None = None
    delay_s: float | None = None
    halted: str | None = None


async def answer(
    system: System,
    tier: Tier,
    messages: Sequence[Message],
    *,
    slots: asyncio.Semaphore,
    visibility_s: int | None = None,
    stop_at: datetime | None = None,
) -> Report:
    """Answers what it can of ``messages``.

    ``slots`` bounds the calls in flight. ``visibility_s`` is kept up by a heartbeat while they are; None where the
    queue's own outlasts the caller. Every call has ended by ``stop_at``. A crash anywhere returns only what was not
    settled: the rest is recognised when its message comes again.
    """
    caller = _Caller(system, slots, stop_at)
    await system.offload(lambda: _mark(system, tier, messages))
    async with _kept(system, tier, messages, visibility_s):
        reports = await asyncio.gather(*(caller.message(message) for message in messages))
    if tier is Tier.CRITICAL and caller.waits_s:
        system.metrics.count("critical_wait_s", max(caller.waits_s))
    done = tuple(m for m, ended in zip(messages, reports, strict=True) if ended.delay_s is None)
    again = [(m, ended.delay_s) for m, ended in zip(messages, reports, strict=True) if ended.delay_s is not None]
    if again:
        deferred = [(message, max(0, min(43_200, round(delay)))) for message, delay in again]
        await system.offload(lambda: system.tiers[tier].defer(deferred))
    halted = next((ended.halted for ended in reports if ended.halted), None)
    return Report(done=done, again=tuple(message for message, _ in again), halted=halted)


def _mark(system: System, tier: Tier, messages: Sequence[Message]) -> None:
    """What was given back comes late for reasons of its own: only a first receive tells how long a message waited."""
    sent = [message.sent_at for message in messages if message.receives == 1]
    if sent:
        system.levels.mark(tier, (system.clock.now() - min(sent)).total_seconds())


@asynccontextmanager
async def _kept(
    system: System, tier: Tier, messages: Sequence[Message], visibility_s: int | None
) -> AsyncIterator[None]:
    """Keeps the messages in hand while their calls are in flight; a crash ends it, and they come back soon."""
    if visibility_s is None:
        yield
        return
    heartbeat = asyncio.create_task(_heartbeat(system, tier, messages, visibility_s))
    try:
        yield
    finally:
        heartbeat.cancel()
        with suppress(asyncio.CancelledError):
            await heartbeat


async def _heartbeat(system: System, tier: Tier, messages: Sequence[Message], visibility_s: int) -> None:
    while True:
        await system.clock.sleep(visibility_s * HEARTBEAT_SHARE)
        with suppress(LowtideError):
            await system.offload(lambda: system.tiers[tier].defer([(message, visibility_s) for message in messages]))


class _Caller:
    """One invocation's worth of calls, sharing its writes."""

    def __init__(self, system: System, slots: asyncio.Semaphore, stop_at: datetime | None) -> None:
        self._system = system
        self._slots = slots
        self._stop_at = stop_at
        self.waits_s: list[float] = []
        """How long each task waited from its acceptance to its claim."""
        self._rows: Coalescer[Change[TaskRow, TaskEvent], Decision] = Coalescer(
            lambda changes: system.tasks.apply(changes, system.clock.now()), system.offload
        )
        self._asker = Asker(system, self._rows, self._answer)

    async def message(self, message: Message) -> _Ended:
        """What goes wrong here goes wrong for this message alone: it comes again, later each time, and is reported."""
        try:
            return await self._message(message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours go on
            self._system.metrics.count("message_errors")
            self._system.metrics.log(
                "message_failed", message_id=message.id, receives=message.receives, error=safely_told(error)
            )
            return _Ended(delay_s=min(LONGEST_WAIT_S, 2.0**message.receives))

    async def _message(self, message: Message) -> _Ended:
        """All tasks of a message at once; then what they owe to the ledger, the replies and the dead letters."""
        try:
            tasks = await self._system.offload(lambda: read_tasks(self._system, message))
        except Unreadable as error:
            delivery = Delivery.unreadable(message, str(error), self._system.clock.now())
            await self._deliver(message, [delivery])
            return _Ended()
        places = [f"{message.id}/{place}" for place in range(len(tasks))]
        calls = (self._task(task, place) for task, place in zip(tasks, places, strict=True))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        ended = [outcome for outcome in outcomes if isinstance(outcome, _Ended)]
        await self._deliver(message, [e.delivery for e in ended if e.delivery is not None])
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        delays = [e.delay_s for e in ended if e.delay_s is not None]
        halted = next((e.halted for e in ended if e.halted), None)
        return _Ended(delay_s=min(delays) if delays else None, halted=halted)

    async def _deliver(self, message: Message, deliveries: Sequence[Delivery]) -> None:
        """Before the message may be deleted. Everything in it may be repeated."""
        await self._system.offload(lambda: deliver(self._system, f"message/{message.id}", deliveries))

    async def _task(self, task: AcceptedTask, place: str) -> _Ended:
        """``place`` is the task's in its message, and the same whenever that comes again."""
        async with self._slots:
            now = self._system.clock.now()
            # The row is not known yet, so the lane is chosen for a first try; what the claim brings back may differ.
            guess = choose(task, Strikes(), now, self._system.routes)
            left_s = math.inf if self._stop_at is None else (self._stop_at - now).total_seconds()
            asking_s = 0.0 if task.candidates is None else self._system.routes.auto.timeout_s
            left_s -= asking_s
            if left_s < guess.timeout_s * WHOLE_CALL_SHARE:
                return _Ended(delay_s=0)
            timeout_s = min(guess.timeout_s, left_s)
            until = now + timedelta(seconds=asking_s + timeout_s) + CLAIM_MARGIN
            claim = await self._rows(Change(task.key, ClaimCall(task, f"{place}/{uuid4().hex[:12]}", until)))
            if claim.verdict is not Verdict.APPLIED or claim.row is None:
                return self._unclaimed(task, claim, place)
            self.waits_s.append((now - task.accepted_at).total_seconds())
            row = claim.row
            if task.candidates is not None:
                chosen = await self._asker.choose(task, row)
                if not isinstance(chosen, Chosen):
                    return await self._unchosen(task, row, chosen)
                task, row, now = chosen.task, chosen.row, self._system.clock.now()
            choice = choose(task, row.strikes, now, self._system.routes)
            response = await self._call(task, row, choice, timeout_s=min(choice.timeout_s, timeout_s))
            return await self._settle(task, row, choice, response)

    async def _unchosen(self, task: AcceptedTask, row: TaskRow, instead: HandedOn | Lost | Halt) -> _Ended:
        match instead:
            case HandedOn():
                return _Ended()
            case Lost(now_row):
                return self._late(task, row, now_row)
            case Halt():
                return await self._halted(task, row, instead)
            case _:
                assert_never(instead)

    def _unclaimed(self, task: AcceptedTask, claim: Decision, place: str) -> _Ended:
        now = self._system.clock.now()
        row = claim.row
        if row is None:
            raise AssertionError("a claim on no row makes the row")
        match claim.verdict:
            case Verdict.CONFLICT:
                return _Ended(Delivery.conflict(task, now))
            case Verdict.BUSY:
                return _Ended(delay_s=_until(row.claimed_until, now))
            case Verdict.NOT_YET:
                return _Ended(delay_s=_until(row.not_before, now))
            case Verdict.REPEATED | Verdict.DUPLICATE if row.state in SETTLED and _held_at(row, place):
                # Settled at this very place of a message not deleted: what it owed may not have been sent. A
                # duplicate beside it in the same message stands at another place.
                return _Ended(Delivery.settled(task, row))
            case Verdict.CANCELLED:
                return _Ended(Delivery.settled(task, row))
            case Verdict.DUPLICATE:
                return _Ended(Delivery.duplicate(task, row))
            case Verdict.REPEATED:
                return _Ended()
            case Verdict.APPLIED | Verdict.STALE | Verdict.IN_VAIN:
                raise AssertionError(f"a claim cannot be {claim.verdict} here")
            case _:
                assert_never(claim.verdict)

    async def _call(self, task: AcceptedTask, row: TaskRow, choice: LaneChoice, *, timeout_s: float) -> Response:
        call = Call(
            endpoint=task.endpoint,
            body=request_body(task),
            lane=choice.lane,
            call_id=custom_id(task.tenant, task.task_id, row.attempt),
            timeout_s=timeout_s,
            traceparent=task.traceparent,
        )
        return await self._answer(task.provider, call)

    async def _answer(self, provider: str, call: Call) -> Response:
        return await self._system.answers[provider].answer(call)

    async def _settle(self, task: AcceptedTask, row: TaskRow, choice: LaneChoice, response: Response) -> _Ended:
        now = self._system.clock.now()
        outcome = checked(judge(response, choice.lane), response, task)
        attempt = Try(row.attempt, choice.lane, f"{task.route}; {choice.reason}", row.strikes)
        if isinstance(outcome, Again | Bury) and outcome.billed:
            paid = documents.charged(task, attempt, response, self._system.prices, now)
            attempt = replace(attempt, strikes=paid)
        self._system.metrics.count("calls", tier=task.tier.value)
        match outcome:
            case Answered():
                document = documents.answered(task, attempt, response, self._system.prices, now)
                return await self._end(task, row, document, unsure=0)
            case Bury(code, message):
                document = documents.dead(task, attempt, code, message, response, now)
                return await self._end(task, row, document, unsure=0, strikes=attempt.strikes)
            case Again():
                return await self._again(task, row, attempt, outcome, response)
            case Halt():
                return await self._halted(task, row, outcome)
            case _:
                assert_never(outcome)

    async def _halted(self, task: AcceptedTask, row: TaskRow, halt: Halt) -> _Ended:
        rested = self._system.clock.now() + timedelta(seconds=HALT_DELAY_S)
        await self._rows(Change(task.key, Release(_holder(row), row.attempt, rested, row.strikes), row))
        self._system.metrics.count("account_refused")
        return _Ended(delay_s=HALT_DELAY_S, halted=f"{halt.code}: {halt.message}")

    async def _again(
        self, task: AcceptedTask, row: TaskRow, attempt: Try, outcome: Again, response: Response
    ) -> _Ended:
        now = self._system.clock.now()
        retries = self._system.routes.retries
        strikes = documents.struck(attempt.strikes, now, counts=outcome.counts, flex_refused=outcome.flex_refused)
        counted = "call_errors" if outcome.counts else "flex_refused" if outcome.flex_refused else "calls_put_off"
        self._system.metrics.count(counted, tier=task.tier.value)
        if strikes.failures >= retries.attempts:
            last = Try(attempt.number, attempt.lane, attempt.reason, strikes)
            document = documents.dead(task, last, outcome.code, outcome.message, response, now)
            return await self._end(task, row, document, unsure=int(outcome.unsure), strikes=strikes)
        # A provider that says when to come back is believed, with some jitter so that not all come at once; to one
        # that does not, each try comes later than the last.
        tries = max(strikes.failures, strikes.flex_refusals, row.attempt) if outcome.delay_s is None else 1
        wait = backoff_s(tries, base_s=retries.base_s, cap_s=retries.cap_s, seed=f"{task.key} {row.attempt}")
        delay = wait + (outcome.delay_s or 0.0)
        release = Release(
            _holder(row), row.attempt, now + timedelta(seconds=delay), strikes, unsure=int(outcome.unsure)
        )
        await self._rows(Change(task.key, release, row))
        return _Ended(delay_s=delay)

    async def _end(
        self, task: AcceptedTask, row: TaskRow, document: ResultDocument, *, unsure: int, strikes: Strikes | None = None
    ) -> _Ended:
        """The result and the end of the task in one write; a large document is durable before it."""
        inline, pointer = await self._system.offload(lambda: stored(self._system, task, row.attempt, document))
        settle = Settle(
            holders=frozenset({_holder(row)}),
            attempt=row.attempt,
            status=document.record.status,
            lane=document.record.lane,
            error_code=document.record.error.code if document.record.error else None,
            document=inline,
            pointer=pointer,
            unsure=unsure,
            strikes=strikes,
        )
        decision = await self._rows(Change(task.key, settle, row))
        if decision.verdict in (Verdict.APPLIED, Verdict.REPEATED) and decision.row is not None:
            return _Ended(Delivery.settled(task, decision.row, document))
        return self._late(task, row, decision.row)

    def _late(self, task: AcceptedTask, row: TaskRow, now_row: TaskRow | None) -> _Ended:
        """Another took the claim over while this call was out, or the task was cancelled: that counted this call, and
        the message comes again to find out."""
        self._system.metrics.log("late_answer", attempt=row.attempt, tier=task.tier.value)
        claimed_until = None if now_row is None else now_row.claimed_until
        return _Ended(delay_s=_until(claimed_until, self._system.clock.now()))


def _holder(row: TaskRow) -> str:
    if row.holder is None:
        raise AssertionError("a claimed row names its holder")
    return row.holder


def _held_at(row: TaskRow, place: str) -> bool:
    return row.holder is not None and row.holder.startswith(f"{place}/")


def _until(moment: datetime | None, now: datetime) -> float:
    return 1.0 if moment is None else max(1.0, (moment - now).total_seconds())
