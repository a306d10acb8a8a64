"""Call: one task through the gate: admitted, claimed, called. Its end is concluded from what the call brought."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from math import inf
from typing import assert_never
from uuid import uuid4

from lowtide.core.choice import LaneChoice
from lowtide.core.documents import Try
from lowtide.core.errors import safely_told
from lowtide.core.outcomes import KEY_STORE_AWAY, Halt, Response, judge
from lowtide.core.preemption import rest_s
from lowtide.core.prompts import request_body
from lowtide.core.returns import OF_THE_TIME_LEFT
from lowtide.core.structured import checked
from lowtide.core.task import AcceptedTask, custom_id
from lowtide.core.task_rows import strikes_of
from lowtide.core.tasks import (
    ClaimCall,
    TaskRow,
    Verdict,
    transition,
)
from lowtide.core.tiers import Tier
from lowtide.ports import Call, Change, System

from .ahead import CheapHoursAhead
from .ask import Asker, Chosen, HandedOn, Lost
from .coalesce import Coalescer, TaskRows
from .conclude import Conclusions, Ended
from .gate import Gate, Go, Standing, Wait, at_once_s
from .lookout import Lookout
from .slots import Slots

CLAIM_MARGIN = timedelta(seconds=5)
"""Past the call's own timeout: the settling write must find the claim alive."""

WHOLE_CALL_SHARE = 0.75
"""Of its timeout must be left before ``stop_at`` for a call to be waited for: one that is cut off may be billed in
vain. Where an invocation is shorter than that, of the invocation: whoever comes first in one is always called."""

LEAST_CALL_S = 5.0
"""An invocation that has less is over: nothing is begun in it."""

LEAST_CALL_SHARE = 0.5
"""Of the same must be left once all is ready: waiting for a moment, asking and writing took the rest."""


class Caller:
    """One invocation's worth of calls, sharing its writes. ``slots`` bounds those in flight."""

    def __init__(self, system: System, slots: Slots, gate: Gate, lookout: Lookout, stop_at: datetime | None) -> None:
        self._system = system
        self._slots = slots
        self._gate = gate
        self._lookout = lookout
        self._stop_at = stop_at
        self._whole_s = inf if stop_at is None else (stop_at - system.clock.now()).total_seconds()
        self.waits_s: dict[Tier, float] = {}
        """The longest that a task which was to be called had waited, by tier. A task that comes again and again counts
        each time, except while it waits for cheaper hours. LOW is not measured: it was rescued late in its day."""
        self._rows: TaskRows = Coalescer(
            lambda changes: system.tasks.apply(changes, system.clock.now()), system.offload
        )
        self._conclude = Conclusions(system, self._rows)
        self._cheap_hours = CheapHoursAhead(system, gate)
        self._asker = Asker(system, self._rows, self._question)

    async def task(
        self, task: AcceptedTask, place: str, seen: TaskRow | None, *, receives: int, beside: int = 1
    ) -> Ended:
        """``place`` is the task's in its message of ``beside`` tasks, the same whenever that comes again, as it has
        ``receives`` times; ``seen``: its row, if it was read."""
        if seen is not None and (ended := await self._idle(task, place, seen)) is not None:
            return ended
        if task.provider not in self._system.answers:
            # Renamed in routes.toml since it was accepted. The model says where it is to be had now.
            task = task.model_copy(update={"provider": self._system.routes.model(task.model).provider})
        if (away_s := await self._cheap_hours.away_s(task, seen, beside)) is not None:
            return Ended(delay_s=away_s)
        self._note_wait(task)
        async with self._slots.turn(task) as turn:
            if turn.away_s is not None:
                return self._turned_away(task, turn.away_s)
            if not turn.granted or self._lookout.must_yield:
                return self._yielded(place, receives)
            # The row is not known yet, so the lane is chosen for a first try; what the claim brings back may differ.
            strikes = strikes_of(seen)
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

    def _note_wait(self, task: AcceptedTask) -> None:
        if task.tier is Tier.LOW:
            return
        since = task.accepted_at
        if task.tier is Tier.NORMAL:
            # A task that was given more time than its tier may spend it on waiting: for cheaper hours, or for flex.
            usual = timedelta(seconds=self._system.routes.tiers[task.tier].deadline_s)
            since = max(since, task.deadline_at - usual)
        waited_s = max(0.0, (self._system.clock.now() - since).total_seconds())
        self.waits_s[task.tier] = max(waited_s, self.waits_s.get(task.tier, 0.0))

    def _turned_away(self, task: AcceptedTask, away_s: float) -> Ended:
        """Too many calls of its model are in line. The task is back while half of the time it had is still left."""
        self._system.metrics.count("calls_held", reason="slots")
        left_s = (task.deadline_at - self._system.clock.now()).total_seconds()
        return Ended(delay_s=away_s if left_s <= 0 else max(1.0, min(away_s, left_s * OF_THE_TIME_LEFT)))

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
        return self._conclude.unclaimed(task, decision, place)

    async def _admitted(self, task: AcceptedTask, go: Go, place: str, seen: TaskRow | None) -> Ended:
        now = self._system.clock.now()
        asking_s = self._asking_s(task)
        timeout_s = self._gate.longest_s(go, strikes_of(seen))
        ends_by = now + timedelta(seconds=asking_s + timeout_s)
        if self._stop_at is not None:
            ends_by = min(ends_by, self._stop_at)
        claiming = ClaimCall(task, f"{place}/{uuid4().hex[:12]}", ends_by + CLAIM_MARGIN)
        try:
            claim = await self._rows(Change(task.key, claiming, seen))
        except Exception:
            await self._gate.unused(go)
            raise
        if claim.verdict is not Verdict.APPLIED or claim.row is None:
            await self._gate.unused(go)
            return self._conclude.unclaimed(task, claim, place)
        row = claim.row
        if task.candidates is not None:
            # A probe is one call, and the question is the first: it asks for a moment of its own.
            kept = None if go.moment.probe or go.moment.account_probe else go
            if kept is None:
                await self._gate.unused(go)
            try:
                chosen = await self._asker.choose(task, row)
            except Exception:
                # The claim stays: an answer that was not written down may have been billed, and its end counts that.
                if kept is not None:
                    await self._gate.unused(kept)
                raise
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
        left_s = (ends_by - bought_at).total_seconds()
        if left_s < self._call_s(choice, asking_s) * LEAST_CALL_SHARE:
            # The table was slow, say, and the claim would run out under the call.
            await self._gate.unused(go)
            return Ended(delay_s=await self._conclude.release(task, row, 1.0, row.strikes, unsure=0))
        response = await self._call(go.task, row, choice, timeout_s=min(choice.timeout_s, left_s))
        outcome = judge(response, choice.lane, go.task.endpoint)
        if response.fault == KEY_STORE_AWAY:
            standing = await self._uncalled(go, response)
        else:
            standing = await self._gate.ended(go, response, outcome, choice.lane, row.strikes)
        outcome = checked(standing.outcome or outcome, response, go.task)
        if go.reason is not None:
            choice = replace(choice, reason=f"{go.reason}; {choice.reason}")
        attempt = self._try(go.task, row, choice, bought_at)
        return await self._conclude.settle(go.task, row, attempt, response, outcome, standing)

    async def _chosen(self, task: AcceptedTask, go: Go | None, chosen: Chosen) -> Go | Ended:
        """With a moment of the model that was chosen, which need not be the one that ``go`` is for."""
        if go is not None and chosen.task.model == task.model:
            served = {"model": go.task.model, "provider": go.task.provider}
            return replace(go, task=chosen.task.model_copy(update=served))
        if go is not None:
            await self._gate.unused(go)
        strikes = chosen.row.strikes
        lane = self._gate.lane(chosen.task, strikes)
        try:
            admitted = await self._gate.admit(chosen.task, lane, strikes=strikes, latest=self._system.clock.now())
        except Exception:
            # Nothing was called for: whoever has the message next need not wait for the claim to run out.
            await self._conclude.release(task, chosen.row, 1.0, strikes, unsure=0)
            raise
        if isinstance(admitted, Go):
            return admitted
        delay_s = await self._conclude.release(task, chosen.row, admitted.seconds, chosen.row.strikes, unsure=0)
        return Ended(delay_s=delay_s)

    async def _question(self, task: AcceptedTask, provider: str, call: Call) -> Response:
        """A call like any other. Where it would have to wait nothing is asked, because the task's claim is running."""
        asked = task.model_copy(update={"model": call.body["model"], "provider": provider})
        now = self._system.clock.now()
        held = Response(None, fault="held", sent=False)
        try:
            admitted = await self._gate.admit(asked, LaneChoice(call.lane, "", call.timeout_s), latest=now)
        except Exception as error:  # noqa: BLE001 - a store that fails costs the question, and not the claim
            self._system.metrics.log("question_held", error=safely_told(error))
            return held
        if isinstance(admitted, Wait) or admitted.task.model != asked.model:
            if isinstance(admitted, Go):
                await self._gate.unused(admitted)
            return held
        response = await self._system.answers[provider].answer(call)
        if response.fault == KEY_STORE_AWAY:
            await self._uncalled(admitted, response)
            return held
        await self._gate.ended(admitted, response, judge(response, call.lane, call.endpoint), call.lane)
        return response

    async def _uncalled(self, go: Go, response: Response) -> Standing:
        """Give the moment back: the call was not made, and says nothing of the provider."""
        self._system.metrics.log("key_store_away", provider=go.task.provider, reason=str(response.body))
        await self._gate.unused(go)
        return Standing()

    async def _unchosen(self, task: AcceptedTask, row: TaskRow, instead: HandedOn | Lost | Halt) -> Ended:
        match instead:
            case HandedOn():
                return Ended()
            case Lost(now_row):
                return self._conclude.late(task, row, now_row)
            case Halt():
                return await self._conclude.halted(task, row, instead, None)
            case _:
                assert_never(instead)

    def _asking_s(self, task: AcceptedTask) -> float:
        """What a question about the model may take, with a moment for it and one of the model that is chosen; no more
        than half of the invocation, since the call is what it is for."""
        if task.candidates is None:
            return 0.0
        return min(self._whole_s / 2, self._system.routes.auto.timeout_s + 2 * at_once_s(task.tier))

    def _call_s(self, choice: LaneChoice, asking_s: float) -> float:
        """What the call may take, and in this invocation can."""
        return min(choice.timeout_s, max(LEAST_CALL_S, self._whole_s - asking_s))

    def _latest(self, guess: LaneChoice, asking_s: float) -> datetime | None:
        """When the call would have to begin to have enough of its time."""
        if self._stop_at is None:
            return None
        return self._stop_at - timedelta(seconds=asking_s + self._call_s(guess, asking_s) * WHOLE_CALL_SHARE)

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
            rescued=row.rescued_from is not None,
            bought_at=bought_at,
        )
