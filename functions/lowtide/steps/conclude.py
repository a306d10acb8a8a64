"""Conclude: what the outcome of a call, or a claim that was not granted, makes of a task and of its message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from lowtide.core import documents
from lowtide.core.breaker import spread_s
from lowtide.core.documents import Try
from lowtide.core.doubts import doubted
from lowtide.core.endings import Ending
from lowtide.core.outcomes import (
    KEY_STORE_AWAY,
    UNSENDABLE,
    Again,
    Answered,
    Bury,
    Halt,
    LaneFault,
    Outcome,
    Response,
    backoff_s,
    last_wait_s,
)
from lowtide.core.quotes import Prompt
from lowtide.core.records import ResultDocument
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import SETTLED, Decision, Release, Settle, Strikes, TaskRow, Verdict
from lowtide.ports import Change, System

from .coalesce import TaskRows
from .deliver import Delivery, stored
from .gate import Standing

FORGIVEN_WAIT_S = 30.0
"""Seconds before the next call of a task that failed during what looked like an outage. Doubled after the second such
failure."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a task, or a message of tasks, came to: ``delay_s`` is None where the message no longer needs it."""

    delivery: Delivery | None = None
    delay_s: float | None = None
    halted: str | None = None


class Conclusions:
    """Of one invocation's calls, each settled on its own by a conditional write."""

    def __init__(self, system: System, rows: TaskRows) -> None:
        self._system = system
        self._rows = rows

    def unclaimed(self, task: AcceptedTask, claim: Decision, place: str) -> Ended:
        now = self._system.clock.now()
        row = claim.row
        if row is None:
            raise AssertionError("a claim on no row makes the row")
        match claim.verdict:
            case Verdict.CONFLICT:
                return Ended(Delivery.conflict(task, now))
            case Verdict.BUSY:
                return Ended(delay_s=_until(row.claimed_until, now))
            case Verdict.NOT_YET:
                return Ended(delay_s=_until(row.not_before, now))
            case Verdict.REPEATED | Verdict.DUPLICATE if row.state in SETTLED and _held_at(row, place):
                # Settled at this very place of a message not deleted: what it owed may not have been sent. A
                # duplicate beside it in the same message stands at another place.
                return Ended(Delivery.settled(task, row))
            case Verdict.CANCELLED:
                return Ended(Delivery.settled(task, row))
            case Verdict.DUPLICATE | Verdict.REPEATED:
                return Ended(Delivery.unneeded(task, row))
            case Verdict.APPLIED | Verdict.STALE | Verdict.IN_VAIN:
                raise AssertionError(f"a claim cannot be {claim.verdict} here")
            case _:
                assert_never(claim.verdict)

    async def settle(
        self, task: AcceptedTask, row: TaskRow, attempt: Try, response: Response, outcome: Outcome, standing: Standing
    ) -> Ended:
        now = self._system.clock.now()
        if isinstance(outcome, Again | Bury) and outcome.billed:
            paid = documents.charged(task, attempt, response, self._system.seller(task.provider), now)
            attempt = replace(attempt, strikes=paid)
        self._count(task, response, outcome)
        match outcome:
            case Answered():
                document = documents.answered(task, attempt, response, self._system.seller(task.provider), now)
                return await self._end(task, row, document, unsure=0)
            case Bury(code, message):
                document = documents.dead(task, attempt, code, message, response, now)
                return await self._end(task, row, document, unsure=0, strikes=attempt.strikes)
            case Again():
                return await self._again(task, row, attempt, outcome, response, standing)
            case Halt():
                return await self.halted(task, row, outcome, standing.not_before)
            case _:
                assert_never(outcome)

    def _count(self, task: AcceptedTask, response: Response, outcome: Outcome) -> None:
        """Count the call and how it ended. Flex without capacity is no error: that is what flex is cheap for, and the
        task has another lane. A lane that stalls, or that the server does not know, is one. A request that was never
        made is no call."""
        if response.fault == KEY_STORE_AWAY or response.fault in UNSENDABLE:
            return
        names = ["calls"]
        match outcome:
            case Answered():
                pass
            case Again(counts=False, lane_fault=LaneFault.NO_CAPACITY):
                names += ["flex_refused"]
            case Again(counts=False, lane_fault=None):
                names += ["call_errors", "calls_put_off"]
            case Again() | Bury() | Halt():
                names += ["call_errors"]
            case _:
                assert_never(outcome)
        for name in names:
            self._system.metrics.count(name, tier=task.tier.value)

    async def halted(self, task: AcceptedTask, row: TaskRow, halt: Halt, not_before: datetime | None) -> Ended:
        self._system.metrics.count("account_refused")
        # A provider's own words may quote the key that it refuses, and the prompt.
        reason = {"reason": halt.message} if halt.code in UNSENDABLE else {}
        self._system.metrics.log("account_refused", provider=task.provider, code=halt.code, **reason)
        delay_s = _until(not_before, self._system.clock.now())
        await self.release(task, row, delay_s, row.strikes, unsure=0)
        return Ended(delay_s=delay_s, halted=f"{halt.code}: {Prompt.of(task).without(halt.message)}")

    async def _again(
        self,
        task: AcceptedTask,
        row: TaskRow,
        attempt: Try,
        outcome: Again,
        response: Response,
        standing: Standing,
    ) -> Ended:
        now = self._system.clock.now()
        retries = self._system.routes.retries
        forgiven = outcome.counts and standing.forgiven and not attempt.strikes.exhausted
        counts = outcome.counts and not forgiven
        strikes = documents.struck(
            attempt.strikes, now, counts=counts, lane_fault=outcome.lane_fault, forgiven=forgiven
        )
        strikes = doubted(strikes, outcome, standing.began_at or now)
        if counts and strikes.failures >= retries.attempts:
            last = replace(attempt, strikes=strikes)
            document = documents.dead(task, last, outcome.code, outcome.message, response, now)
            return await self._end(task, row, document, unsure=int(outcome.unsure), strikes=strikes)
        # A provider that says when to come back is believed, with some jitter so that not all come at once. Where all
        # wait for it, the task does too. Otherwise each try comes later than the last.
        asked_s = max(outcome.delay_s or 0.0, _until(standing.not_before, now) if standing.not_before else 0.0)
        if forgiven:
            asked_s = max(asked_s, FORGIVEN_WAIT_S * strikes.forgiven)
        tries = 1 if asked_s else max(strikes.failures, strikes.flex_refusals, row.attempt)
        seed = f"{task.key} {row.attempt}"
        wait_s = backoff_s(tries, base_s=retries.base_s, cap_s=retries.cap_s, seed=seed)
        left_s = (row.deadline_at - now).total_seconds()
        if standing.down and strikes.failures >= retries.attempts - 1:
            wait_s = max(wait_s, spread_s(1 + strikes.uncounted_left, left_s))
        elif counts and not outcome.billed and strikes.failures == retries.attempts - 1:
            wait_s = max(wait_s, last_wait_s(left_s, cap_s=retries.cap_s, seed=seed))
        delay_s = await self.release(task, row, wait_s + asked_s, strikes, unsure=int(outcome.unsure))
        return Ended(delay_s=delay_s)

    async def bury(self, task: AcceptedTask, row: TaskRow, attempt: Try, code: str, message: str) -> Ended:
        """Dead without another call: ``row`` is the one that its claim brought."""
        document = documents.dead(task, attempt, code, message, None, self._system.clock.now())
        return await self._end(task, row, document, unsure=0)

    async def release(
        self, task: AcceptedTask, row: TaskRow, delay_s: float, strikes: Strikes, *, unsure: int
    ) -> float:
        """Back to its queue. Returns the delay, in seconds."""
        not_before = self._system.clock.now() + timedelta(seconds=delay_s)
        await self._rows(Change(task.key, Release(_holder(row), row.attempt, not_before, strikes, unsure=unsure), row))
        return delay_s

    async def _end(
        self, task: AcceptedTask, row: TaskRow, document: ResultDocument, *, unsure: int, strikes: Strikes | None = None
    ) -> Ended:
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
            ending=Ending.of(task, document),
        )
        decision = await self._rows(Change(task.key, settle, row))
        if decision.verdict in (Verdict.APPLIED, Verdict.REPEATED) and decision.row is not None:
            return Ended(Delivery.settled(task, decision.row, document))
        return self.late(task, row, decision.row)

    def late(self, task: AcceptedTask, row: TaskRow, now_row: TaskRow | None) -> Ended:
        """Another took the claim over while this call was out, or the task was cancelled: that counted this call, and
        the message comes again to find out."""
        self._system.metrics.log("late_answer", attempt=row.attempt, tier=task.tier.value)
        claimed_until = None if now_row is None else now_row.claimed_until
        return Ended(delay_s=_until(claimed_until, self._system.clock.now()))


def _holder(row: TaskRow) -> str:
    if row.holder is None:
        raise AssertionError("a claimed row names its holder")
    return row.holder


def _held_at(row: TaskRow, place: str) -> bool:
    return row.holder is not None and row.holder.startswith(f"{place}/")


def _until(moment: datetime | None, now: datetime) -> float:
    return 1.0 if moment is None else max(1.0, (moment - now).total_seconds())
