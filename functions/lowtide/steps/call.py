"""Call: one task from the gate to its end: admitted, claimed, called, settled on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

from lowtide.core import documents
from lowtide.core.choice import LaneChoice
from lowtide.core.documents import Try
from lowtide.core.outcomes import Again, Answered, Bury, Halt, Outcome, Response, backoff_s, judge, last_wait_s
from lowtide.core.preemption import rest_s
from lowtide.core.prompts import request_body
from lowtide.core.records import ResultDocument
from lowtide.core.structured import checked
from lowtide.core.task import AcceptedTask, custom_id
from lowtide.core.tasks import (
    SETTLED,
    ClaimCall,
    Decision,
    Release,
    Settle,
    Strikes,
    TaskEvent,
    TaskRow,
    Verdict,
    transition,
)
from lowtide.ports import Call, Change, System

from .ahead import CheapHoursAhead
from .ask import Asker, Chosen, HandedOn, Lost
from .coalesce import Coalescer
from .deliver import Delivery, stored
from .gate import Gate, Go, Standing, Wait, at_once_s
from .lookout import Lookout
from .slots import Slots

CLAIM_MARGIN = timedelta(seconds=5)
"""Past the call's own timeout: the settling write must find the claim alive."""

WHOLE_CALL_SHARE = 0.75
"""Of its timeout must be left before ``stop_at`` for a call to begin: one that is cut off may be billed in vain."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a task, or a message of tasks, came to: ``delay_s`` is None where the message no longer needs it."""

    delivery: Delivery | None = None
    delay_s: float | None = None
    halted: str | None = None


class Caller:
    """One invocation's worth of calls, sharing its writes. ``slots`` bounds those in flight."""

    def __init__(self, system: System, slots: Slots, gate: Gate, lookout: Lookout, stop_at: datetime | None) -> None:
        self._system = system
        self._slots = slots
        self._gate = gate
        self._lookout = lookout
        self._stop_at = stop_at
        self.waits_s: list[float] = []
        """How long each task waited from its acceptance to its claim."""
        self._rows: Coalescer[Change[TaskRow, TaskEvent], Decision] = Coalescer(
            lambda changes: system.tasks.apply(changes, system.clock.now()), system.offload
        )
        self._cheap_hours = CheapHoursAhead(system, gate)
        self._asker = Asker(system, self._rows, self._question)

    async def task(
        self, task: AcceptedTask, place: str, seen: TaskRow | None, *, receives: int, beside: int = 1
    ) -> Ended:
        """``place`` is the task's in its message of ``beside`` tasks, the same whenever that comes again, as it has
        ``receives`` times; ``seen``: its row, if it was read."""
        if seen is not None and (ended := await self._idle(task, place, seen)) is not None:
            return ended
        if (away_s := await self._cheap_hours.away_s(task, seen)) is not None:
            return Ended(delay_s=away_s)
        async with self._slots.turn(task.tenant) as granted:
            if not granted or self._lookout.must_yield:
                return self._yielded(place, receives)
            # The row is not known yet, so the lane is chosen for a first try; what the claim brings back may differ.
            strikes = Strikes() if seen is None else seen.strikes
            await self._gate.look_ahead(task, beside)
            guess = self._gate.lane(task, strikes)
            latest = self._latest(guess, self._asking_s(task))
            if latest is not None and latest < self._system.clock.now():
                return Ended(delay_s=0)
            admitted = await self._gate.admit(task, guess, strikes=strikes, latest=latest)
            if isinstance(admitted, Wait):
                return Ended(delay_s=self._gate.away_s(task, strikes, admitted, receives))
            if self._lookout.must_yield:
                await self._gate.unused(admitted)
                return self._yielded(place, receives)
            return await self._admitted(task, admitted, place, seen)

    def _yielded(self, place: str, receives: int) -> Ended:
        self._system.metrics.count("tasks_preempted")
        return Ended(delay_s=rest_s(receives, place))

    async def _idle(self, task: AcceptedTask, place: str, seen: TaskRow) -> Ended | None:
        """What becomes of a task that is not to be called for now; None where it is. It needs no moment at the gate."""
        claim = ClaimCall(task, f"{place}/unclaimed", self._system.clock.now())
        decision = transition(seen, claim, self._system.clock.now())
        if decision.verdict is Verdict.APPLIED:
            return None
        if decision.changed:
            decision = await self._rows(Change(task.key, claim, seen))
        return self._unclaimed(task, decision, place)

    async def _admitted(self, task: AcceptedTask, go: Go, place: str, seen: TaskRow | None) -> Ended:
        now = self._system.clock.now()
        asking_s = self._asking_s(task)
        timeout_s = self._gate.longest_s(go, Strikes() if seen is None else seen.strikes)
        if self._stop_at is not None:
            timeout_s = min(timeout_s, (self._stop_at - now).total_seconds() - asking_s)
        until = now + timedelta(seconds=asking_s + timeout_s) + CLAIM_MARGIN
        claiming = ClaimCall(task, f"{place}/{uuid4().hex[:12]}", until)
        try:
            claim = await self._rows(Change(task.key, claiming, seen))
        except Exception:
            await self._gate.unused(go)
            raise
        if claim.verdict is not Verdict.APPLIED or claim.row is None:
            await self._gate.unused(go)
            return self._unclaimed(task, claim, place)
        self.waits_s.append((now - task.accepted_at).total_seconds())
        row = claim.row
        if task.candidates is not None:
            # A probe is one call, and the question is the first: it asks for a moment of its own.
            kept = None if go.moment.probe or go.moment.account_probe else go
            if kept is None:
                await self._gate.unused(go)
            chosen = await self._asker.choose(task, row)
            if not isinstance(chosen, Chosen):
                if kept is not None:
                    await self._gate.unused(kept)
                return await self._unchosen(task, row, chosen)
            ready = await self._chosen(task, kept, chosen)
            if isinstance(ready, Ended):
                return ready
            go, row = ready, chosen.row
        choice = self._gate.lane(go.task, row.strikes, go)
        bought_at = self._system.clock.now()
        left_s = (until - CLAIM_MARGIN - bought_at).total_seconds()
        if left_s < timeout_s * WHOLE_CALL_SHARE:
            # The table was slow, and the claim would run out under the call.
            await self._gate.unused(go)
            return Ended(delay_s=await self._release(task, row, 1.0, row.strikes, unsure=0))
        response = await self._call(go.task, row, choice, timeout_s=min(choice.timeout_s, timeout_s, left_s))
        outcome = judge(response, choice.lane)
        standing = await self._gate.ended(go, response, outcome, choice.lane)
        outcome = checked(outcome, response, go.task)
        if go.reason is not None:
            choice = replace(choice, reason=f"{go.reason}; {choice.reason}")
        attempt = self._try(go.task, row, choice, bought_at)
        return await self._settle(go.task, row, attempt, response, outcome, standing)

    async def _chosen(self, task: AcceptedTask, go: Go | None, chosen: Chosen) -> Go | Ended:
        """With a moment of the model that was chosen, which need not be the one that ``go`` is for."""
        if go is not None and chosen.task.model == task.model:
            served = {"model": go.task.model, "provider": go.task.provider}
            return replace(go, task=chosen.task.model_copy(update=served))
        if go is not None:
            await self._gate.unused(go)
        strikes = chosen.row.strikes
        lane = self._gate.lane(chosen.task, strikes)
        admitted = await self._gate.admit(chosen.task, lane, strikes=strikes, latest=self._system.clock.now())
        if isinstance(admitted, Go):
            return admitted
        delay_s = await self._release(task, chosen.row, admitted.seconds, chosen.row.strikes, unsure=0)
        return Ended(delay_s=delay_s)

    async def _question(self, task: AcceptedTask, provider: str, call: Call) -> Response:
        """A call like any other. Where it would have to wait nothing is asked, because the task's claim is running."""
        asked = task.model_copy(update={"model": call.body["model"], "provider": provider})
        now = self._system.clock.now()
        admitted = await self._gate.admit(asked, LaneChoice(call.lane, "", call.timeout_s), latest=now)
        if isinstance(admitted, Wait) or admitted.task.model != asked.model:
            if isinstance(admitted, Go):
                await self._gate.unused(admitted)
            return Response(None, fault="held", sent=False)
        response = await self._system.answers[provider].answer(call)
        await self._gate.ended(admitted, response, judge(response, call.lane), call.lane)
        return response

    async def _unchosen(self, task: AcceptedTask, row: TaskRow, instead: HandedOn | Lost | Halt) -> Ended:
        match instead:
            case HandedOn():
                return Ended()
            case Lost(now_row):
                return self._late(task, row, now_row)
            case Halt():
                return await self._halted(task, row, instead, None)
            case _:
                assert_never(instead)

    def _asking_s(self, task: AcceptedTask) -> float:
        """What a question about the model may take, with a moment for it and one of the model that is chosen."""
        return 0.0 if task.candidates is None else self._system.routes.auto.timeout_s + 2 * at_once_s(task.tier)

    def _latest(self, guess: LaneChoice, asking_s: float) -> datetime | None:
        """When the call would have to begin to have enough of its time."""
        if self._stop_at is None:
            return None
        return self._stop_at - timedelta(seconds=asking_s + guess.timeout_s * WHOLE_CALL_SHARE)

    def _unclaimed(self, task: AcceptedTask, claim: Decision, place: str) -> Ended:
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
            case Verdict.DUPLICATE:
                return Ended(Delivery.duplicate(task, row))
            case Verdict.REPEATED:
                return Ended()
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
        return await self._system.answers[task.provider].answer(call)

    def _try(self, task: AcceptedTask, row: TaskRow, choice: LaneChoice, bought_at: datetime) -> Try:
        return Try(
            row.attempt,
            choice.lane,
            f"{task.route}; {choice.reason}",
            row.strikes,
            off_peak=self._system.routes.off_peak(task.provider),
            rescued=row.rescued_from is not None,
            bought_at=bought_at,
        )

    async def _settle(
        self, task: AcceptedTask, row: TaskRow, attempt: Try, response: Response, outcome: Outcome, standing: Standing
    ) -> Ended:
        now = self._system.clock.now()
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
                return await self._again(task, row, attempt, outcome, response, standing)
            case Halt():
                return await self._halted(task, row, outcome, standing.not_before)
            case _:
                assert_never(outcome)

    async def _halted(self, task: AcceptedTask, row: TaskRow, halt: Halt, not_before: datetime | None) -> Ended:
        self._system.metrics.count("account_refused")
        self._system.metrics.log("account_refused", provider=task.provider, code=halt.code)
        delay_s = _until(not_before, self._system.clock.now())
        await self._release(task, row, delay_s, row.strikes, unsure=0)
        return Ended(delay_s=delay_s, halted=f"{halt.code}: {halt.message}")

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
        counts = outcome.counts and not standing.forgiven
        strikes = documents.struck(attempt.strikes, now, counts=counts, lane_fault=outcome.lane_fault)
        counted = "call_errors" if outcome.counts else "flex_refused" if outcome.lane_fault else "calls_put_off"
        self._system.metrics.count(counted, tier=task.tier.value)
        if counts and strikes.failures >= retries.attempts:
            last = replace(attempt, strikes=strikes)
            document = documents.dead(task, last, outcome.code, outcome.message, response, now)
            return await self._end(task, row, document, unsure=int(outcome.unsure), strikes=strikes)
        # A provider that says when to come back is believed, with some jitter so that not all come at once. Where all
        # wait for it, the task does too. Otherwise each try comes later than the last.
        asked_s = max(outcome.delay_s or 0.0, _until(standing.not_before, now) if standing.not_before else 0.0)
        tries = 1 if asked_s else max(strikes.failures, strikes.flex_refusals, row.attempt)
        seed = f"{task.key} {row.attempt}"
        wait_s = backoff_s(tries, base_s=retries.base_s, cap_s=retries.cap_s, seed=seed)
        if counts and not outcome.billed and strikes.failures == retries.attempts - 1:
            left_s = (row.deadline_at - now).total_seconds()
            wait_s = max(wait_s, last_wait_s(left_s, cap_s=retries.cap_s, seed=seed))
        delay_s = await self._release(task, row, wait_s + asked_s, strikes, unsure=int(outcome.unsure))
        return Ended(delay_s=delay_s)

    async def _release(
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
        )
        decision = await self._rows(Change(task.key, settle, row))
        if decision.verdict in (Verdict.APPLIED, Verdict.REPEATED) and decision.row is not None:
            return Ended(Delivery.settled(task, decision.row, document))
        return self._late(task, row, decision.row)

    def _late(self, task: AcceptedTask, row: TaskRow, now_row: TaskRow | None) -> Ended:
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
