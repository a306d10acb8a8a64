from __future__ import annotations

from datetime import datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.batches import (
    GRACE,
    Away,
    AwayFile,
    BatchDecision,
    BatchEvent,
    BatchRow,
    BatchState,
    BatchTally,
    BatchVerdict,
    Checkpoint,
    Clean,
    Collect,
    Done,
    Intend,
    Keep,
    Lease,
    Made,
    Miss,
    Postpone,
    Progress,
    ProviderStatus,
    Rescue,
    Return,
    Run,
    Seal,
    Seen,
    Start,
    Stop,
    Unanswered,
    Upload,
    may_intend_again,
    transition,
)
from tests.contract.cases import LATER, NOW, SOON, batch, provider_batch

TALLY = BatchTally(answered=7, retried=2, dead=1)
PROGRESS = Progress(shards=3, digest="d", tally=TALLY)
ENDED = provider_batch(ProviderStatus.COMPLETED)
AWAY = AwayFile(ref="file-2", why=Away.GONE, reason="HTTP 404", since=NOW)


def events_of(owner: str) -> dict[str, BatchEvent]:
    return {
        "lease": Lease(owner, LATER),
        "seal": Seal(owner, "batches/b_1.jsonl", "batches/b_1.manifest", requests=10, bytes=1000, tokens=250),
        "upload": Upload(owner),
        "intend": Intend(owner, "file-1"),
        "run": Run(owner, provider_batch()),
        "seen": Seen(owner, provider_batch(), SOON),
        "postpone": Postpone(owner, SOON, Made.MAYBE),
        "return": Return(owner, SOON),
        "rescue": Rescue(owner),
        "collect": Collect(owner, ENDED, tries=3),
        "miss": Miss(owner, AWAY),
        "check": Checkpoint(owner, PROGRESS),
        "clean": Clean(owner, TALLY),
        "done": Done(owner),
    }


MINE = events_of("me") | {"stop": Stop(Unanswered.CANCEL), "keep": Keep(NOW)}
THEIRS = events_of("them")
WAY = ("lease", "seal", "upload", "intend", "run", "collect", "clean", "done")
"""From birth to the end."""


def after(*names: str) -> BatchRow:
    """A batch that I lease, moved by these events, each of which must apply."""
    row: BatchRow | None = batch()
    for name in names:
        decision = transition(row, MINE[name], NOW)
        assert decision.verdict is BatchVerdict.APPLIED
        row = decision.row
    assert row is not None
    return row


ROWS = {row.state.value: row for row in (after(*WAY[:length]) for length in range(1, len(WAY) + 1))}
# + applied, . refused
TABLE = """
         open sealed uploading submitting running collecting cleaning done
lease     +     +       +          +         +        +          +      .
seal      +     .       .          .         .        .          .      .
upload    .     +       +          .         .        .          .      .
intend    .     .       +          +         .        .          .      .
run       .     .       .          +         .        .          .      .
seen      .     .       .          .         +        .          .      .
postpone  .     .       +          +         .        +          +      .
return    .     .       +          +         +        .          .      .
rescue    .     +       +          +         +        .          .      .
collect   .     .       .          .         +        +          .      .
miss      .     .       .          .         .        +          .      .
check     .     .       .          .         .        +          .      .
clean     .     .       .          .         .        +          .      .
done      +     .       .          .         .        .          +      .
stop      +     +       +          +         +        .          .      .
keep      +     +       +          +         +        +          +      .
"""
_HEAD, *_LINES = TABLE.strip().splitlines()
CASES = [
    (row, event, BatchVerdict.APPLIED if sign == "+" else BatchVerdict.REFUSED)
    for line in _LINES
    for event in [line[:8].strip()]
    for row, sign in zip(_HEAD.split(), line[8:].split(), strict=True)
]


def test_the_table_has_every_state_and_every_event_but_the_first() -> None:
    assert {(row, event) for row, event, _ in CASES} == {(row, event) for row in ROWS for event in MINE}
    assert {*(type(event) for event in MINE.values()), Start} == set(get_args(BatchEvent))
    assert set(ROWS) == {state.value for state in BatchState}


@pytest.mark.parametrize(("row", "event", "verdict"), CASES)
def test_every_state_takes_every_event(row: str, event: str, verdict: BatchVerdict) -> None:
    decision = transition(ROWS[row], MINE[event], NOW)
    assert decision.verdict is verdict
    assert decision.changed is (verdict is BatchVerdict.APPLIED)
    if not decision.changed:
        assert decision.row is ROWS[row]


@pytest.mark.parametrize(("row", "event", "verdict"), CASES)
def test_an_event_that_is_repeated_leaves_the_batch_where_it_is(row: str, event: str, verdict: BatchVerdict) -> None:
    first = transition(ROWS[row], MINE[event], NOW)
    second = transition(first.row, MINE[event], NOW)
    assert first.row is not None
    assert second.row is not None
    assert second.row.state is first.row.state
    assert second.row.submission == first.row.submission


@pytest.mark.parametrize("event", sorted(THEIRS))
@pytest.mark.parametrize("row", sorted(ROWS))
def test_who_holds_no_lease_moves_nothing(row: str, event: str) -> None:
    decision = transition(ROWS[row], THEIRS[event], NOW)
    assert decision.verdict is BatchVerdict.REFUSED
    assert decision.row is ROWS[row]
    assert not decision.changed


@pytest.mark.parametrize("row", sorted(ROWS))
def test_starting_again_changes_nothing(row: str) -> None:
    decision = transition(ROWS[row], Start(batch(2)), NOW)
    assert (decision.verdict, decision.row, decision.changed) == (BatchVerdict.REPEATED, ROWS[row], False)


@pytest.mark.parametrize("event", sorted(MINE))
def test_a_batch_that_was_never_started_takes_only_its_start(event: str) -> None:
    decision = transition(None, MINE[event], NOW)
    assert (decision.verdict, decision.row, decision.changed) == (BatchVerdict.REFUSED, None, False)
    started = transition(None, Start(batch()), NOW)
    assert (started.verdict, started.row, started.changed) == (BatchVerdict.APPLIED, batch(), True)


def moved(row: BatchRow, event: BatchEvent, now: datetime = NOW) -> BatchRow:
    decision = transition(row, event, now)
    assert decision.verdict is BatchVerdict.APPLIED
    assert decision.row is not None
    return decision.row


def test_a_lease_is_taken_over_at_the_moment_it_ends_and_then_the_first_holder_is_out() -> None:
    row = ROWS["running"]
    assert transition(row, THEIRS["lease"], LATER - timedelta(milliseconds=1)).verdict is BatchVerdict.REFUSED
    taken = moved(row, Lease("them", LATER + timedelta(hours=1)), LATER)
    assert transition(taken, MINE["collect"], LATER).verdict is BatchVerdict.REFUSED
    assert moved(taken, THEIRS["collect"], LATER).state is BatchState.COLLECTING


def test_a_lease_given_back_is_free_at_once() -> None:
    given_back = moved(ROWS["running"], Lease("me", NOW))
    assert moved(given_back, THEIRS["lease"]).lease == "them"


def test_intending_again_stamps_the_intent_anew_and_keeps_the_submission() -> None:
    row = ROWS["submitting"]
    again = moved(row, MINE["intend"], LATER)
    assert (row.intent_at, again.intent_at) == (NOW, LATER)
    assert again.submission == row.submission
    assert again.input_ref == "file-1"


def test_a_returned_batch_has_a_new_number_and_nothing_of_the_old_submission() -> None:
    row = moved(ROWS["running"], Return("me", SOON))
    assert (row.state, row.submission, row.setbacks, row.not_before) == (BatchState.SEALED, 2, 1, SOON)
    assert (row.input_ref, row.intent_at, row.submitted_at, row.provider_batch) == (None, None, None, None)
    assert (row.file_key, row.requests) == ("batches/b_1.jsonl", 10)


@pytest.mark.parametrize("state", ["uploading", "submitting", "collecting", "cleaning"])
def test_a_postponed_batch_stays_where_it_is_under_its_number(state: str) -> None:
    row = moved(ROWS[state], MINE["postpone"])
    assert (row.state.value, row.submission, row.setbacks, row.not_before) == (state, 1, 1, SOON)


def test_looking_counts_and_says_when_to_look_again() -> None:
    twice = moved(moved(ROWS["running"], MINE["seen"]), MINE["seen"])
    assert (twice.polls, twice.next_poll_at, twice.state) == (2, SOON, BatchState.RUNNING)


def test_running_begins_the_polls_anew() -> None:
    returned = moved(moved(ROWS["running"], MINE["seen"]), MINE["return"])
    again = moved(moved(moved(returned, MINE["upload"]), MINE["intend"]), MINE["run"], SOON)
    assert (again.polls, again.next_poll_at, again.submitted_at) == (0, None, SOON)


def test_collecting_is_stamped_once_however_often_it_begins() -> None:
    row = ROWS["collecting"]
    assert row.collected_at == NOW
    assert moved(row, MINE["collect"], SOON).collected_at == NOW


def test_a_rescue_is_stamped_once_and_waits_for_no_next_look_and_no_next_try() -> None:
    seen = moved(ROWS["running"], MINE["seen"])
    row = moved(seen, MINE["rescue"])
    assert (row.rescued_at, row.polls, row.next_poll_at, row.state) == (NOW, 0, None, BatchState.RUNNING)
    assert moved(row, MINE["rescue"], SOON).rescued_at == NOW
    assert moved(moved(ROWS["submitting"], MINE["postpone"]), MINE["rescue"]).not_before is None


@pytest.mark.parametrize("order", ["stop", "rescue"])
def test_a_batch_that_is_to_be_cancelled_for_whatever_reason_is_called_off(order: str) -> None:
    assert not ROWS["sealed"].called_off
    assert moved(ROWS["sealed"], MINE[order]).called_off


def test_what_is_decided_when_collecting_begins_is_not_decided_again() -> None:
    row = moved(ROWS["running"], Collect("me", ENDED, 3, real_time_before=SOON, released=True))
    again = moved(row, Collect("me", ENDED, 3, real_time_before=LATER), LATER)
    assert (again.real_time_before, again.released, again.collected_at) == (SOON, True, NOW)


def test_a_done_batch_keeps_its_tally_and_no_lease() -> None:
    row = ROWS["done"]
    assert (row.tally, row.done_at, row.lease, row.lease_until, row.active) == (TALLY, NOW, None, None, False)


def test_an_open_batch_that_took_no_parts_may_end() -> None:
    assert moved(ROWS["open"], MINE["done"]).state is BatchState.DONE


def test_a_second_intent_waits_out_the_grace_of_the_first() -> None:
    row = ROWS["submitting"]
    assert not may_intend_again(row, NOW + GRACE - timedelta(milliseconds=1))
    assert may_intend_again(row, NOW + GRACE)
    assert not may_intend_again(ROWS["uploading"], LATER)


def test_after_a_refusal_that_made_nothing_no_grace_is_waited_out() -> None:
    refused = moved(ROWS["submitting"], Postpone("me", SOON, Made.NOTHING))
    assert may_intend_again(refused, NOW)
    again = moved(refused, MINE["intend"])
    assert not may_intend_again(again, NOW)
    assert not may_intend_again(moved(again, Postpone("me", SOON, Made.MAYBE)), NOW)
    uploading = moved(ROWS["uploading"], Postpone("me", SOON, Made.NOTHING))
    assert not may_intend_again(moved(uploading, MINE["intend"]), NOW)


@pytest.mark.parametrize("state", ["open", "sealed", "uploading", "submitting", "running"])
def test_an_operator_stops_a_batch_without_its_lease_and_nobody_waits_for_the_next_look(state: str) -> None:
    waiting = ROWS[state].model_copy(update={"not_before": SOON, "next_poll_at": SOON, "polls": 9})
    row = moved(waiting, Stop(Unanswered.AGAIN))
    assert (row.state.value, row.stop, row.lease) == (state, Unanswered.AGAIN, "me")
    assert (row.not_before, row.next_poll_at, row.polls) == (None, None, 0)


def test_an_operator_may_change_his_mind_until_the_batch_is_collected() -> None:
    row = moved(moved(ROWS["running"], Stop(Unanswered.AGAIN)), Stop(Unanswered.CANCEL))
    assert transition(row, Stop(Unanswered.CANCEL), NOW) == BatchDecision(BatchVerdict.REPEATED, row)
    collecting = moved(row, MINE["collect"])
    assert collecting.stop is Unanswered.CANCEL
    assert transition(collecting, Stop(Unanswered.AGAIN), NOW).verdict is BatchVerdict.REFUSED


def test_a_batch_that_is_returned_stays_stopped() -> None:
    row = moved(moved(ROWS["running"], MINE["stop"]), MINE["return"])
    assert (row.state, row.stop) == (BatchState.SEALED, Unanswered.CANCEL)


ORDER = list(BatchState)


@given(st.lists(st.sampled_from([*sorted(MINE.values(), key=repr), *sorted(THEIRS.values(), key=repr)]), max_size=40))
def test_whatever_happens_only_a_return_goes_back(history: list[BatchEvent]) -> None:
    row = batch()
    for event in history:
        decision = transition(row, event, NOW)
        assert decision.row is not None
        assert decision.row.rev == row.rev
        assert decision.row.part_ids == row.part_ids
        if isinstance(event, Return):
            assert decision.row.submission == row.submission + decision.changed
        else:
            assert ORDER.index(decision.row.state) >= ORDER.index(row.state)
            assert decision.row.submission == row.submission
        if decision.row.state in (BatchState.SUBMITTING, BatchState.RUNNING):
            assert decision.row.intent_at is not None
        row = decision.row


def test_a_batch_that_has_ended_without_naming_its_files_is_looked_at_soon_and_keeps_since_when() -> None:
    row = after("lease", "seal", "upload", "intend", "run", "seen", "seen")
    assert (row.polls, row.unnamed_since) == (2, None)
    row = transition(row, Seen("me", ENDED, SOON), NOW).row
    assert row is not None
    assert (row.polls, row.unnamed_since) == (1, NOW)
    row = transition(row, Seen("me", ENDED, LATER), SOON).row
    assert row is not None
    assert (row.polls, row.unnamed_since) == (2, NOW)
    row = transition(row, Seen("me", provider_batch(), LATER), SOON).row
    assert row is not None
    assert row.unnamed_since is None, "it runs again, whatever the provider means by that"


def test_a_file_that_is_away_has_one_entry_whatever_is_said_of_it() -> None:
    row = after("lease", "seal", "upload", "intend", "run", "collect", "miss")
    other = AWAY.model_copy(update={"ref": "file-3"})
    given_up = AWAY.model_copy(update={"given_up": True})
    for file in (other, given_up):
        row = transition(row, Miss("me", file), NOW).row
        assert row is not None
    assert row.away == (other, given_up)
