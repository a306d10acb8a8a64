"""What the lines of an ended batch come to, in whatever order, however often, and whatever is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.batches import ProviderBatch, ProviderStatus, RequestCounts, ValidationFault
from lowtide.core.collection import (
    Reading,
    named_faults,
    refused_model,
    refused_wait_s,
    suspects,
    token_limit_wait_s,
    too_large,
    took_none,
    whole_fault,
)
from lowtide.core.outcomes import Again, Answered, Bury, Response
from lowtide.core.result_lines import ResultLine
from lowtide.core.whose_fault import Fault

SENT = {"a-1": 1, "b-1": 2, "c-1": 3}


def answer(name: str) -> ResultLine:
    return ResultLine(name, Response(200, {"id": name}), None, None)


def error(name: str, code: str = "batch_expired") -> ResultLine:
    return ResultLine(name, None, code, "why")


def refusal(name: str) -> ResultLine:
    return ResultLine(name, Response(400, {"error": {"code": "bad", "message": "It is bad."}}), None, None)


def ended(status: ProviderStatus = ProviderStatus.COMPLETED, *faults: ValidationFault) -> ProviderBatch:
    return ProviderBatch(id="batch_1", status=status, faults=faults)


def left(reading: Reading, batch: ProviderBatch) -> dict[str, Again]:
    return {name: outcome for name, outcome, _ in reading.unanswered(SENT, batch)}


def test_an_answer_settles_its_line_and_its_double_settles_nothing():
    reading = Reading()
    first = reading.take(answer("a-1"), SENT)
    assert first is not None
    assert (first.custom_id, first.outcome) == ("a-1", Answered())
    assert reading.take(answer("a-1"), SENT) is None
    assert "a-1" not in left(reading, ended())


@pytest.mark.parametrize("order", [("answer", "error"), ("error", "answer")])
def test_an_answer_beats_an_error_whichever_comes_first(order):
    reading = Reading()
    lines = {"answer": answer("a-1"), "error": error("a-1")}
    taken = [reading.take(lines[kind], SENT) for kind in order]
    assert [found.outcome for found in taken if found is not None] == [Answered()]
    assert set(left(reading, ended())) == {"b-1", "c-1"}


def test_a_burial_is_final_too():
    reading = Reading()
    taken = reading.take(refusal("a-1"), SENT)
    assert taken is not None
    assert taken.outcome == Bury("bad", "It is bad.")
    assert reading.take(answer("a-1"), SENT) is None


@pytest.mark.parametrize("line", [None, answer("z-1"), answer("a-2"), error("z-1")])
def test_a_line_that_the_batch_never_sent_settles_nothing(line):
    reading = Reading()
    assert reading.take(line, SENT) is None
    assert set(left(reading, ended())) == set(SENT)


def test_a_line_that_neither_file_speaks_of_is_missing_and_has_had_its_try():
    reading = Reading()
    reading.take(answer("a-1"), SENT)
    missing = left(reading, ended())
    assert list(missing) == ["b-1", "c-1"]
    assert {(outcome.code, outcome.counts) for outcome in missing.values()} == {("missing", True)}


def test_the_provider_s_own_word_on_a_line_beats_what_is_said_of_its_batch():
    reading = Reading()
    reading.take(error("a-1", "request_timeout"), SENT)
    assert left(reading, ended(ProviderStatus.EXPIRED))["a-1"].code == "request_timeout"


@pytest.mark.parametrize(
    ("status", "code", "counts"),
    [(ProviderStatus.EXPIRED, "batch_expired", True), (ProviderStatus.CANCELLED, "batch_cancelled", False)],
)
def test_what_a_batch_left_undone_goes_again(status, code, counts):
    outcome = left(Reading(), ended(status))["a-1"]
    assert (outcome.code, outcome.counts) == (code, counts)


@given(st.lists(st.tuples(st.sampled_from([*SENT, "z-1"]), st.sampled_from([answer, error, refusal])), max_size=12))
def test_every_line_is_finished_once_or_goes_again_once_whatever_the_files_hold(lines):
    reading = Reading()
    finished = [found.custom_id for name, make in lines if (found := reading.take(make(name), SENT)) is not None]
    again = [name for name, _, _ in reading.unanswered(SENT, ended())]
    assert sorted(finished + again) == sorted(SENT)


def test_what_is_said_of_a_whole_batch_goes_to_a_line_that_is_alone_and_to_no_other_tenants():
    quoting = ended(ProviderStatus.FAILED, ValidationFault(code="server_error", message="line 2 says: my secret"))
    assert {outcome.message for outcome in left(Reading(), quoting).values()} == {"the batch failed (server_error)"}
    [(_, lone, _)] = Reading().unanswered(["a-1"], quoting)
    assert (lone.code, lone.message) == ("server_error", "line 2 says: my secret")


# --- a batch that failed validation ------------------------------------------------------------------------------


def test_the_lines_that_the_provider_named_are_buried_each_with_its_reason():
    faults = (
        ValidationFault(code="bad_line", message="No.", line=2),
        ValidationFault(line=3),
        ValidationFault(code="x"),
    )
    named = named_faults(ended(ProviderStatus.FAILED, *faults))
    assert named[2] == Bury("bad_line", "No.")
    assert named[3].code == "invalid_line"
    assert set(named) == {2, 3}


def test_only_a_failed_batch_has_named_lines():
    assert named_faults(ended(ProviderStatus.COMPLETED, ValidationFault(line=2))) == {}


def test_the_others_of_a_batch_with_a_named_line_have_not_had_their_try():
    reading = Reading(finished={"b-1"})
    again = left(reading, ended(ProviderStatus.FAILED, ValidationFault(code="bad_line", line=2)))
    assert {(outcome.code, outcome.counts) for outcome in again.values()} == {("batch_failed", False)}


def test_a_word_on_the_batch_as_a_whole_beside_a_named_line_costs_the_others_nothing():
    reading = Reading(finished={"b-1"})
    faults = (ValidationFault(code="invalid_file", message="No."), ValidationFault(code="bad_line", line=2))
    assert not any(outcome.counts for outcome in left(reading, ended(ProviderStatus.FAILED, *faults)).values())


def test_a_batch_whose_named_lines_are_none_of_ours_has_had_its_try_or_it_would_go_round_for_ever():
    again = left(Reading(), ended(ProviderStatus.FAILED, ValidationFault(code="bad_line", message="No.", line=99)))
    assert {(outcome.code, outcome.counts) for outcome in again.values()} == {("bad_line", True)}


def test_a_batch_that_failed_for_a_line_that_nobody_named_is_halved_and_no_line_has_had_its_try():
    batch = ended(ProviderStatus.FAILED, ValidationFault(code="mismatched_model", message="No."))
    again = left(Reading(), batch)
    assert suspects(batch)
    assert {(outcome.code, outcome.message, outcome.counts) for outcome in again.values()} == {
        ("mismatched_model", "No.", False)
    }


@pytest.mark.parametrize("faults", [(), (ValidationFault(code="server_error", message="Oops."),)])
def test_a_failure_that_does_not_speak_of_the_input_counts_as_a_try_where_lines_may_have_run(faults):
    batch = ended(ProviderStatus.FAILED, *faults)
    assert not suspects(batch)
    assert {outcome.counts for outcome in left(Reading(), batch).values()} == {False}
    at_work = batch.model_copy(update={"began": True})
    assert whole_fault(at_work) is None
    assert {outcome.counts for outcome in left(Reading(), at_work).values()} == {True}


@pytest.mark.parametrize(
    ("fault", "completed", "counts"),
    [
        (ValidationFault(code="invalid_line", line=1), None, False),
        (ValidationFault(code="invalid_line", line=1), 2, True),
        (ValidationFault(code="invalid_request"), None, False),
        (ValidationFault(code="invalid_request"), 2, True),
        (ValidationFault(code="server_error"), None, True),
        (ValidationFault(code="insufficient_quota"), None, False),
        (ValidationFault(code="insufficient_quota"), 2, False),
        (ValidationFault(code="invalid_request", param="file_id"), 2, False),
    ],
)
def test_a_batch_that_lost_its_files_was_a_try_unless_it_failed_for_a_line_and_ran_none(fault, completed, counts):
    told = {"began": True, "counts": RequestCounts(completed=completed)}
    batch = ended(ProviderStatus.FAILED, fault).model_copy(update=told)
    again = [outcome for _, outcome, _ in Reading().unanswered(SENT, batch, lost="its files never came")]
    assert {(outcome.counts, outcome.unsure) for outcome in again} == {(counts, True)}


@pytest.mark.parametrize(
    ("completed", "failed", "counts"), [(0, 0, False), (1, 0, True), (0, 1, True), (None, 0, True)]
)
def test_a_batch_that_expired_before_its_first_line_was_no_try(completed, failed, counts):
    told = RequestCounts(total=3, completed=completed, failed=failed)
    batch = ended(ProviderStatus.EXPIRED).model_copy(update={"counts": told})
    assert {outcome.counts for outcome in left(Reading(), batch).values()} == {counts}


@pytest.mark.parametrize(
    ("fault", "whose"),
    [
        (ValidationFault(code="insufficient_quota", message="No."), Fault.ACCOUNT),
        (ValidationFault(code="insufficient_quota", message="No.", line=1), Fault.ACCOUNT),
        (ValidationFault(code="x", type="insufficient_quota"), Fault.ACCOUNT),
        (ValidationFault(code="invalid_request", param="file_id"), Fault.BATCH),
        (ValidationFault(code="mismatched_model"), None),
        (ValidationFault(code="server_error"), Fault.PROVIDER),
        (ValidationFault(code="rate_limit_exceeded"), Fault.NOW),
        (ValidationFault(code="service_unavailable", line=1), Fault.PROVIDER),
        (ValidationFault(message="Something went wrong."), Fault.PROVIDER),
        (ValidationFault(code="bad_line", line=1, param="metadata"), None),
        (ValidationFault(code="token_limit_exceeded"), None),
    ],
)
def test_a_batch_that_failed_as_a_whole_says_for_whom_and_costs_no_line_a_try(fault, whose):
    batch = ended(ProviderStatus.FAILED, fault)
    found = whole_fault(batch)
    assert (None if found is None else found[0]) is whose
    if whose is not None:
        assert not suspects(batch)
        assert named_faults(batch) == {}
        again = left(Reading(), batch)
        assert {(each.counts, each.account) for each in again.values()} == {(False, whose is Fault.ACCOUNT)}


def test_a_batch_that_left_a_file_is_read_whatever_it_failed_for():
    fault = ValidationFault(code="insufficient_quota")
    batch = ended(ProviderStatus.FAILED, fault).model_copy(update={"output_ref": "file-1"})
    assert whole_fault(batch) is None


def test_the_model_that_all_lines_ask_for_is_all_lines_fault():
    fault = ValidationFault(code="model_not_found", message="No such model.")
    assert refused_model(ended(ProviderStatus.FAILED, fault)) == Bury("model_not_found", "No such model.")
    assert refused_model(ended(ProviderStatus.FAILED, fault.model_copy(update={"line": 2}))) is None
    assert refused_model(ended(ProviderStatus.COMPLETED, fault)) is None


def test_a_line_that_is_named_for_a_passing_fault_is_not_dead_of_it():
    faults = ValidationFault(code="server_error", line=1), ValidationFault(code="bad_line", line=2)
    assert set(named_faults(ended(ProviderStatus.FAILED, *faults))) == {2}


def forbidden(name: str) -> ResultLine:
    return ResultLine(name, Response(403, {"error": {"message": "Forbidden"}}), None, None)


def test_a_refusal_that_names_nothing_is_its_lines_where_others_were_answered_and_the_accounts_where_nobody_was():
    reading = Reading()
    assert reading.take(forbidden("a-1"), SENT) is None
    [(_, outcome, _), *_] = reading.unanswered(SENT, ended())
    assert outcome == Again("http_403", "Forbidden", counts=False, doubt=True, account=True)
    reading.take(answer("b-1"), SENT)
    [(_, outcome, _), *_] = reading.unanswered(SENT, ended())
    assert outcome == Bury("http_403", "Forbidden")


def test_an_outage_is_many_lines_that_the_provider_failed_and_none_that_it_answered():
    names = {f"{number}-1": number for number in range(9)}
    reading = Reading()
    for name in list(names)[:4]:
        reading.take(ResultLine(name, Response(500, {}), None, None), names)
    assert not reading.outage
    reading.take(ResultLine("4-1", Response(503, {}), None, None), names)
    assert reading.outage
    reading.take(answer("5-1"), names)
    assert not reading.outage


def test_a_batch_that_is_refused_goes_again_soon_at_first_and_then_ever_more_rarely():
    waits = [refused_wait_s(times, base_s=60, cap_s=300, seed="b") / 60 for times in range(1, 9)]
    assert waits[0] <= 1 < waits[1] + 1 <= 3
    assert waits[2:] == [5, 10, 20, 40, 80, 80]


# --- the enqueued-token limit ------------------------------------------------------------------------------------


def test_a_batch_over_the_token_limit_took_none_of_its_lines():
    over = ValidationFault(code="token_limit_exceeded", message="Later.")
    assert took_none(ended(ProviderStatus.FAILED, over))
    assert not took_none(ended(ProviderStatus.FAILED, ValidationFault(code="bad_line", line=1)))
    assert not took_none(ended(ProviderStatus.COMPLETED, over))


def test_a_batch_goes_in_halves_when_it_was_over_the_limit_three_times_with_nothing_beside_it():
    assert not too_large(2, 10, alone=True)
    assert not too_large(3, 10, alone=False)
    assert not too_large(3, 1, alone=True)
    assert too_large(3, 2, alone=True)


def test_the_waits_for_the_token_limit_double_from_five_minutes_to_eighty():
    assert [token_limit_wait_s(setbacks) / 60 for setbacks in range(7)] == [5, 10, 20, 40, 80, 80, 80]
