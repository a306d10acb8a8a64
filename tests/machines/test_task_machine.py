"""Random histories of one task's row, beside a model of it that is a dictionary and a few sentences.

The sentences are not the code's: they say who may do what, and all else changes nothing.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lowtide.core.records import Pointer, Status
from lowtide.core.task import AcceptedTask
from lowtide.core.task_events import (
    Accept,
    Cancel,
    Carry,
    ClaimCall,
    ClaimPart,
    Free,
    Redrive,
    Release,
    Restage,
    Settle,
    TaskEvent,
    Verdict,
)
from lowtide.core.tasks import SETTLED, Strikes, TaskRow, TaskState, transition
from tests.contract.cases import NOW, task

ORIGINS = st.sampled_from(["m1", "m2"])
CONTENTS = st.sampled_from(["same", "same", "same", "other"])
HOLDERS = st.sampled_from(["c1", "c2", "p1", "p2"])
PARTS = st.sampled_from(["p1", "p2"])
OFF_BY = st.sampled_from([0, 0, 0, -1, 1])
"""What an event says of the attempt, against what it is: stale and impossible ones among the rest."""
UNSURE = st.sampled_from([0, 0, 1])
MINUTES = st.integers(1, 10)
HELD = ("calling", "staged")


class TaskMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.row: TaskRow | None = None
        self.model: dict[str, Any] = {
            "state": None,
            "attempt": 0,
            "repaid": 0,
            "generation": 0,
            "holder": None,
            "rescued": False,
        }
        self.last: TaskEvent | None = None
        self.records = 0
        """Written so far in this generation."""

    # --- what happens -------------------------------------------------------------------------------------------

    @rule(minutes=MINUTES)
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(origin=ORIGINS, content=CONTENTS)
    def accepted(self, origin: str, content: str) -> None:
        model = self.model
        if model["state"] is None:
            self.becomes(state="queued", origin=origin, content=content, wait=None)
        elif model["state"] == "tombstone":
            self.becomes(state="cancelling", origin=origin, content=content)
        self.happens(Accept(task(origin=origin, content_hash=content)))

    @rule(origin=ORIGINS, content=CONTENTS, holder=HOLDERS, behind=OFF_BY, minutes=MINUTES)
    def claimed(self, origin: str, content: str, holder: str, behind: int, minutes: int) -> None:
        """By a call or by a part, from any delivery of the task, an earlier generation's among them."""
        model = self.model
        generation = max(0, model["generation"] + min(behind, 0))
        brought = task(origin=origin, content_hash=content, generation=generation)
        until = self.now + timedelta(minutes=minutes) if holder.startswith("c") else None
        if model["state"] is None:
            self.becomes(state="queued", origin=origin, content=content, wait=None)
        elif model["state"] == "tombstone":
            self.becomes(state="cancelling", origin=origin, content=content)
        if content == model["content"] and generation >= model["generation"]:
            self._claim(model, holder, until)
        event = ClaimPart(brought, holder) if until is None else ClaimCall(brought, holder, until)
        self.happens(event)

    def _claim(self, model: dict[str, Any], holder: str, until: Any) -> None:
        due = model["state"] == "queued" and (model["wait"] is None or model["wait"] <= self.now)
        if model["rescued"] and until is None:
            due = False  # it is on its way to a call
        abandoned = model["state"] == "calling" and model["until"] <= self.now
        if due or abandoned:
            state = "staged" if until is None else "calling"
            self.becomes(state=state, holder=holder, until=until, attempt=model["attempt"] + 1)
            self.becomes(repaid=model["repaid"] + abandoned)
        elif model["state"] == "cancelling":
            # By any delivery of the task: no other need be left.
            self.ends("cancelled")

    @rule(holder=HOLDERS, off_by=OFF_BY, status=st.sampled_from([Status.ANSWERED, Status.DEAD]), unsure=UNSURE)
    def settled(self, holder: str, off_by: int, status: Status, unsure: int) -> None:
        model, attempt = self.model, self.model["attempt"] + off_by
        if model["state"] in HELD and self.is_its(holder, attempt):
            self.becomes(repaid=model["repaid"] + unsure)
            self.ends(status.value)
        elif unsure or status is Status.ANSWERED:
            self.counted_for_nobody(holder, attempt)
        pointer = Pointer(key="results/1", offset=0, length=1)
        self.happens(Settle(frozenset({holder}), attempt, status, None, pointer=pointer, unsure=unsure))

    @rule(holder=HOLDERS, off_by=OFF_BY, minutes=MINUTES, unsure=UNSURE)
    def released(self, holder: str, off_by: int, minutes: int, unsure: int) -> None:
        model, attempt = self.model, self.model["attempt"] + off_by
        wait = self.now + timedelta(minutes=minutes)
        if model["state"] == "calling" and self.is_its(holder, attempt):
            self.becomes(state="queued", holder=None, wait=wait, repaid=model["repaid"] + unsure)
        self.happens(Release(holder, attempt, wait, Strikes(), unsure))

    @rule(holder=PARTS, part=st.sampled_from(["p1", "p2", "p3"]), off_by=OFF_BY, unsure=UNSURE)
    def restaged(self, holder: str, part: str, off_by: int, unsure: int) -> None:
        model, attempt = self.model, self.model["attempt"] + off_by
        if model["state"] == "staged" and self.is_its(holder, attempt):
            self.becomes(holder=part, attempt=attempt + 1, repaid=model["repaid"] + unsure)
        elif unsure:
            self.counted_for_nobody(holder, attempt)
        self.happens(Restage(attempt, frozenset({holder}), part, Strikes(), unsure))

    @rule(holder=PARTS, batch=st.sampled_from(["b1", "b2"]), off_by=st.one_of(st.none(), OFF_BY), unsure=UNSURE)
    def freed(self, holder: str, batch: str, off_by: int | None, unsure: int) -> None:
        model = self.model
        attempt = None if off_by is None else model["attempt"] + off_by
        if model["state"] == "staged" and self.is_its(holder, model["attempt"] + (off_by or 0)):
            self.becomes(state="queued", holder=None, wait=None, rescued=True, repaid=model["repaid"] + unsure)
        elif unsure:
            self.counted_for_nobody(holder, model["attempt"] + (off_by or 0))
        self.happens(Free(frozenset({holder}), batch, attempt, unsure=unsure))

    @rule(holder=PARTS, part=PARTS)
    def carried(self, holder: str, part: str) -> None:
        if self.model["state"] == "staged" and self.model["holder"] == holder:
            self.becomes(holder=part)
        self.happens(Carry(frozenset({holder}), part))

    @rule(brings=st.sampled_from([None, task()]))
    def cancelled(self, brings: AcceptedTask | None) -> None:
        match self.model["state"]:
            case None:
                self.becomes(state="tombstone", content=None, origin=None)
            case "queued" | "calling" as state:
                self.becomes(state="cancelling", holder=None, repaid=self.model["repaid"] + (state == "calling"))
            case "staged" if brings is not None:
                self.ends("cancelled")
        self.happens(Cancel("acme", "t_1", brings))

    @rule(behind=OFF_BY, content=CONTENTS)
    def redriven(self, behind: int, content: str) -> None:
        model = self.model
        generation = max(1, model["generation"] + 1 + min(behind, 0))
        if model["state"] == "dead" and model["content"] == content and generation == model["generation"] + 1:
            self.becomes(state="queued", generation=generation, holder=None, wait=None, origin="redrive", rescued=False)
            self.records = 0
        self.happens(Redrive(task(origin="redrive", content_hash=content, generation=generation), Decimal(0)))

    @precondition(lambda self: self.last is not None)
    @rule()
    def the_last_happens_again(self) -> None:
        """Whatever was delivered twice, or repeated after a crash: only a claim can find that its time has come."""
        before = self.row
        assert self.last is not None
        decision = transition(self.row, self.last, self.now)
        if not (isinstance(self.last, ClaimCall | ClaimPart) and decision.verdict is Verdict.APPLIED):
            assert decision.row == before
            assert not decision.changed

    # --- the model ----------------------------------------------------------------------------------------------

    def becomes(self, **changes: Any) -> None:
        self.model |= changes

    def ends(self, state: str) -> None:
        self.records += 1
        self.becomes(state=state)

    def counted_for_nobody(self, holder: str, attempt: int) -> None:
        """It was cancelled in its part, and that attempt has, or may have, been billed; counted once."""
        if self.model["state"] == "cancelled" and self.is_its(holder, attempt):
            self.becomes(repaid=self.model["repaid"] + 1, holder=None)

    def is_its(self, holder: str, attempt: int) -> bool:
        return bool(self.model["holder"] == holder and self.model["attempt"] == attempt)

    def happens(self, event: TaskEvent) -> None:
        before = self.row
        decision = transition(before, event, self.now)
        assert decision.changed == (decision.row != before)
        if before is not None and decision.row is not None:
            assert decision.row.attempt >= before.attempt
            assert decision.row.repaid >= before.repaid
            assert decision.row.generation >= before.generation
        self.row, self.last = decision.row, event

    @invariant()
    def the_row_is_as_the_model_says(self) -> None:
        told = None if self.row is None else self.row.state.value
        assert told == self.model["state"]
        if self.row is None:
            return
        names = ("attempt", "repaid", "generation")
        assert {name: getattr(self.row, name) for name in names} == {name: self.model[name] for name in names}
        if self.row.state in (TaskState.CALLING, TaskState.STAGED):
            assert self.row.holder == self.model["holder"]

    @invariant()
    def what_has_ended_has_one_record_and_nothing_else_has_any(self) -> None:
        ended = self.row is not None and self.row.state in SETTLED
        assert self.records == int(ended)
        if ended and self.row is not None:
            assert (self.row.document is None) != (self.row.pointer is None)
            assert self.row.settled_at is not None


TestTaskRow = TaskMachine.TestCase
TestTaskRow.settings = settings(max_examples=300, stateful_step_count=40, deadline=None, derandomize=True)
