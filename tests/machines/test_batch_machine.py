"""Random histories of a batch's row and of a part's, beside models that are dictionaries and a few sentences."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lowtide.core import batches, parts
from lowtide.core.batches import (
    GRACE,
    BatchRow,
    BatchTally,
    Checkpoint,
    Clean,
    Collect,
    Done,
    Intend,
    Lease,
    Made,
    Postpone,
    Progress,
    ProviderStatus,
    Return,
    Run,
    Seal,
    Seen,
    Start,
    Stop,
    Unanswered,
    Upload,
    may_intend_again,
)
from lowtide.core.parts import RESCUED, Close, Finish, Join, Open, PartRow, PartState
from tests.contract.cases import NOW, SOON, batch, part, provider_batch

WORKERS = st.sampled_from(["one", "two"])
MINUTES = st.integers(1, 6)
MADE = st.sampled_from(Made)
TALLY = BatchTally(answered=1)
HISTORIES = settings(max_examples=100, stateful_step_count=40, deadline=None, derandomize=True)

STEPS = {
    "seal": (("open",), "sealed", lambda who, _: Seal(who, "file", "manifest", requests=1, bytes=1, tokens=1)),
    "upload": (("sealed", "uploading"), "uploading", lambda who, _: Upload(who)),
    "intend": (("uploading", "submitting"), "submitting", lambda who, _: Intend(who, "file-1")),
    "run": (("submitting",), "running", lambda who, _: Run(who, provider_batch())),
    "look": (("running",), "running", lambda who, _: Seen(who, provider_batch(), SOON)),
    "return": (("uploading", "submitting", "running"), "sealed", lambda who, _: Return(who, SOON)),
    "rescue": (("sealed", "uploading", "submitting", "running"), None, lambda who, _: batches.Rescue(who)),
    "collect": (("running", "collecting"), "collecting", lambda who, _: Collect(who, COMPLETED, tries=3)),
    "check": (("collecting",), "collecting", lambda who, _: Checkpoint(who, PROGRESS)),
    "clean": (("collecting",), "cleaning", lambda who, _: Clean(who, TALLY)),
    "done": (("open", "cleaning"), "done", lambda who, _: Done(who)),
    "put off": (
        ("uploading", "submitting", "collecting", "cleaning"),
        None,
        lambda who, made: Postpone(who, SOON, made),
    ),
}
"""What a worker does with a batch in hand: from which states, to which (None: it stays), and by what event."""

NEXT = {
    "open": "seal",
    "sealed": "upload",
    "uploading": "intend",
    "submitting": "run",
    "running": "collect",
    "collecting": "clean",
    "cleaning": "done",
}

COMPLETED = provider_batch(ProviderStatus.COMPLETED)
PROGRESS = Progress(shards=1, digest="d", tally=TALLY)
AHEAD = ("running", "collecting", "cleaning", "done")


class BatchMachine(RuleBasedStateMachine):
    """Two workers and an operator, who know nothing of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.row: BatchRow | None = None
        self.state: str | None = None
        self.lease: tuple[str | None, Any] = (None, NOW)
        self.submissions = 1
        self.stop: Unanswered | None = None
        self.rescued = False
        self.kept_at: datetime | None = None
        self.unsure_until = NOW
        """Before it, the provider's list may not show a batch that an earlier creation made."""

    @rule(minutes=MINUTES)
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def started(self) -> None:
        self.state = self.state or "open"
        self.happens(Start(batch()))

    @rule(who=WORKERS, minutes=st.integers(0, 6))
    def leased(self, who: str, minutes: int) -> None:
        holder, until = self.lease
        if self.state not in (None, "done") and (holder in (None, who) or until <= self.now):
            self.lease = (who, self.now + timedelta(minutes=minutes))
        self.happens(Lease(who, self.now + timedelta(minutes=minutes)))

    @rule(who=WORKERS, step=st.sampled_from(sorted(STEPS)), made=MADE)
    def worked_on(self, who: str, step: str, made: Made) -> None:
        origins, target, event = STEPS[step]
        if self.state in origins and self.lease[0] == who:
            if step == "intend":
                self.unsure_until = self.now + GRACE
            elif step == "put off" and self.state == "submitting":
                self.unsure_until = self.now if made is Made.NOTHING else max(self.unsure_until, self._stamped())
            self.submissions += step == "return"
            self.rescued = self.rescued or step == "rescue"
            self.state = target or self.state
            if self.state == "done":
                self.lease = (None, None)
        self.happens(event(who, made))

    @rule(who=WORKERS)
    def taken_a_step_further(self, who: str) -> None:
        """So that histories come to the end of the way."""
        self.started()
        self.leased(who, 1)
        if self.state in NEXT:
            self.worked_on(who, NEXT[self.state], Made.MAYBE)

    @rule(made=MADE)
    def put_off_by_who_has_it(self, made: Made) -> None:
        if self.lease[0] is not None:
            self.worked_on(self.lease[0], "put off", made)

    @rule()
    def called_off_for_a_deadline_by_who_has_it(self) -> None:
        if self.lease[0] is not None:
            self.worked_on(self.lease[0], "rescue", Made.MAYBE)

    def _stamped(self) -> Any:
        """The grace of the newest intent."""
        assert self.row is not None
        assert self.row.intent_at is not None
        return self.row.intent_at + GRACE

    @rule(unanswered=st.sampled_from(Unanswered))
    def called_off(self, unanswered: Unanswered) -> None:
        if self.state not in (None, "collecting", "cleaning", "done"):
            self.stop = unanswered
        self.happens(Stop(unanswered))

    @rule(minutes_ago=st.integers(0, 3))
    def kept(self, minutes_ago: int) -> None:
        at = self.now - timedelta(minutes=minutes_ago)
        if self.state not in (None, "done"):
            self.kept_at = max(at, self.kept_at or at)
        self.happens(batches.Keep(at))

    def happens(self, event: batches.BatchEvent) -> None:
        before = self.row
        decision = batches.transition(before, event, self.now)
        if not decision.changed:
            assert decision.row == before
        self.row = decision.row

    @invariant()
    def the_row_is_as_the_model_says(self) -> None:
        assert (None if self.row is None else self.row.state.value) == self.state
        if self.row is not None:
            assert (self.row.submission, self.row.stop) == (self.submissions, self.stop)
            assert self.row.lease == self.lease[0]
            assert self.row.active == (self.state != "done")
            assert self.row.called_off == (self.rescued or self.stop is not None)
            assert self.row.kept_at == self.kept_at

    @invariant()
    def nobody_may_create_while_an_earlier_creation_may_still_show(self) -> None:
        if self.row is not None and self.state == "submitting":
            assert may_intend_again(self.row, self.now) == (self.now >= self.unsure_until)

    @invariant()
    def what_runs_is_known_at_the_provider_and_what_is_collected_has_its_day(self) -> None:
        if self.row is not None and self.state in AHEAD and self.row.requests:
            assert self.row.provider_batch is not None
            assert self.row.intent_at is not None
            assert (self.row.collected_at is not None) == (self.state != "running")


class PartMachine(RuleBasedStateMachine):
    """A drain that may die, and two batches that want what it leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.row: PartRow | None = None
        self.model: dict[str, Any] = {"state": None, "batch": None, "kept_at": None}

    @rule(minutes=MINUTES)
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(minutes=MINUTES)
    def opened_by_a_drain(self, minutes: int) -> None:
        if self.model["state"] is None:
            self.model |= {"state": "open", "ready_at": self.now + timedelta(minutes=minutes)}
        self.happens(Open(part(lease_until=self.now + timedelta(minutes=minutes))))

    @rule(minutes=MINUTES)
    def born_closed_for_a_retry(self, minutes: int) -> None:
        ready_at = self.now + timedelta(minutes=minutes)
        if self.model["state"] is None:
            self.model |= {"state": "closed", "ready_at": ready_at}
        self.happens(Open(part(state=PartState.CLOSED, lease_until=None, not_before=ready_at)))

    @rule()
    def closed(self) -> None:
        if self.model["state"] == "open":
            self.model |= {"state": "closed", "ready_at": self.now}
        self.happens(Close())

    @rule(batch_id=st.sampled_from(["b_1", "b_2"]))
    def joined(self, batch_id: str) -> None:
        if self.model["state"] in ("open", "closed") and self.model["ready_at"] <= self.now:
            self.model |= {"state": "joined", "batch": batch_id}
        self.happens(Join(batch_id))

    @rule()
    def rescued(self) -> None:
        """In place of a batch's join; the wait of a retry is no reason not to."""
        state = self.model["state"]
        if state == "closed" or (state == "open" and self.model["ready_at"] <= self.now):
            self.model |= {"state": "joined", "batch": RESCUED}
        self.happens(parts.Rescue(self.now))

    @rule(minutes_ago=st.integers(0, 3))
    def kept(self, minutes_ago: int) -> None:
        at = self.now - timedelta(minutes=minutes_ago)
        if self.model["state"] not in (None, "done"):
            self.model["kept_at"] = max(at, self.model["kept_at"] or at)
        self.happens(parts.Keep(at))

    @rule(batch_id=st.sampled_from(["b_1", "b_2", RESCUED]))
    def finished(self, batch_id: str) -> None:
        if self.model["state"] == "joined" and self.model["batch"] == batch_id:
            self.model |= {"state": "done"}
        self.happens(Finish(batch_id))

    def happens(self, event: parts.PartEvent) -> None:
        decision = parts.transition(self.row, event, self.now)
        assert decision.changed == (decision.row != self.row)
        self.row = decision.row
        again = parts.transition(self.row, event, self.now)
        assert (again.row, again.changed) == (self.row, False), "a repetition changes nothing"

    @invariant()
    def the_row_is_as_the_model_says_and_is_in_one_batch_at_most(self) -> None:
        assert (None if self.row is None else self.row.state.value) == self.model["state"]
        assert (None if self.row is None else self.row.batch_id) == self.model["batch"]
        assert (None if self.row is None else self.row.kept_at) == self.model["kept_at"]


TestBatchRow = BatchMachine.TestCase
TestBatchRow.settings = HISTORIES
TestPartRow = PartMachine.TestCase
TestPartRow.settings = HISTORIES
