"""Every row of DESIGN 6 that speaks of one item or of the account, and the waits in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.lanes import Lane
from lowtide.core.outcomes import (
    Again,
    Answered,
    Bury,
    Halt,
    LaneFault,
    Response,
    backoff_s,
    judge,
    judge_line,
    last_wait_s,
)
from lowtide.core.task import Endpoint


def failure(status: int, code: str | None = None, **more) -> Response:
    return Response(status, {"error": {"code": code, "message": "It says why."}}, **more)


def test_a_2xx_with_a_json_object_is_an_answer():
    assert (
        judge(Response(200, {"choices": [{"message": {"content": "Hi."}}]}), Lane.DEFAULT, Endpoint.CHAT) == Answered()
    )


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_what_is_wrong_with_the_item_itself_is_buried_with_its_reason(status):
    assert judge(failure(status, "bad_thing"), Lane.DEFAULT) == Bury("bad_thing", "It says why.")


@pytest.mark.parametrize("status", [403, 404])
def test_what_names_the_model_or_the_content_is_buried_and_what_names_nothing_is_in_doubt(status):
    assert judge(failure(status, "model_not_found"), Lane.DEFAULT) == Bury("model_not_found", "It says why.")
    doubt = Again("bad_thing", "It says why.", counts=False, doubt=True)
    assert judge(failure(status, "bad_thing"), Lane.DEFAULT) == doubt
    assert judge_line(failure(status, "bad_thing"), None, None) == doubt


@pytest.mark.parametrize("lane", [Lane.DEFAULT, Lane.FLEX])
def test_a_request_that_can_never_pass_is_dead_with_those_words(lane):
    message = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 342389."
    error = {"message": message, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}
    response = Response(429, {"error": error}, retry_after_s=3.0)
    assert judge(response, lane) == Bury("rate_limit_exceeded", message)
    assert judge_line(response, None, None) == Bury("rate_limit_exceeded", message)


def test_a_wait_is_taken_from_the_header_or_else_from_the_words():
    body = {"error": {"code": "rate_limit_exceeded", "message": "Please try again in 1m5s."}}
    assert judge(Response(429, body), Lane.DEFAULT).delay_s == 65
    assert judge(Response(429, body, retry_after_s=7.0), Lane.DEFAULT).delay_s == 7
    assert judge(Response(429, body, retry_after_s=86_400.0), Lane.DEFAULT).delay_s == 900


def test_refused_content_is_buried():
    assert isinstance(judge(failure(400, "content_policy_violation"), Lane.FLEX), Bury)


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529, 599])
def test_a_busy_or_broken_server_uses_up_one_try(status):
    outcome = judge(failure(status, retry_after_s=7.0), Lane.DEFAULT)
    assert isinstance(outcome, Again)
    assert outcome.counts
    assert not outcome.unsure
    assert outcome.delay_s == 7.0


@pytest.mark.parametrize(
    "response", [failure(429, "rate_limit_exceeded", retry_after_s=3.5), failure(503, "slow_down", retry_after_s=3.5)]
)
def test_a_rate_limit_counts_no_attempt_and_keeps_the_wait_that_was_asked_for(response):
    outcome = judge(response, Lane.DEFAULT)
    assert isinstance(outcome, Again)
    assert not outcome.counts
    assert outcome.lane_fault is None
    assert outcome.delay_s == 3.5


@pytest.mark.parametrize(("lane", "fault"), [(Lane.FLEX, LaneFault.NO_CAPACITY), (Lane.DEFAULT, None)])
@pytest.mark.parametrize(("status", "code"), [(429, "resource_unavailable"), (498, "capacity_exceeded"), (498, None)])
def test_no_capacity_is_a_refusal_of_flex_only_on_flex(lane, fault, status, code):
    outcome = judge(failure(status, code), lane)
    assert isinstance(outcome, Again)
    assert (outcome.lane_fault, outcome.counts) == (fault, False)


def test_a_flex_call_that_takes_too_long_is_the_lane_s_refusal_and_uses_up_no_try():
    outcome = judge(Response(None, fault="timeout", sent=True), Lane.FLEX)
    assert isinstance(outcome, Again)
    assert (outcome.lane_fault, outcome.counts, outcome.unsure) == (LaneFault.STALLED, False, True)


def test_a_timeout_after_sending_uses_up_a_try_and_may_have_been_billed():
    outcome = judge(Response(None, fault="timeout", sent=True), Lane.DEFAULT)
    assert outcome == Again("timeout", "no answer from the provider (timeout)", counts=True, unsure=True)


def test_a_request_that_never_left_uses_up_nothing_and_costs_nothing():
    outcome = judge(Response(None, fault="connection", sent=False), Lane.DEFAULT)
    assert isinstance(outcome, Again)
    assert (outcome.counts, outcome.unsure) == (False, False)


@pytest.mark.parametrize(
    "response",
    [
        failure(401, "invalid_api_key"),
        failure(401),
        failure(429, "insufficient_quota"),
        failure(403, "credit_balance_exhausted"),
        failure(429, "project_spend_limit_exceeded"),
        Response(429, {"error": {"type": "insufficient_quota", "message": "No more."}}),
    ],
)
def test_what_is_wrong_with_the_account_stops_the_sending(response):
    assert isinstance(judge(response, Lane.DEFAULT), Halt)


@pytest.mark.parametrize("body", ["<html>", None, ["a"], 3])
def test_a_200_without_a_json_object_is_tried_again_and_may_have_been_billed(body):
    outcome = judge(Response(200, body), Lane.DEFAULT)
    assert isinstance(outcome, Again)
    assert (outcome.code, outcome.counts, outcome.unsure) == ("invalid_response", True, True)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "type", "message", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(status=st.none() | st.integers(-1, 1000), body=ANYTHING, lane=st.sampled_from(list(Lane)))
def test_every_answer_that_can_be_thought_of_has_an_outcome_with_a_code(status, body, lane):
    outcome = judge(Response(status, body), lane)
    assert isinstance(outcome, Answered) or (outcome.code and outcome.message)


# --- a line of a batch -------------------------------------------------------------------------------------------


def test_a_line_that_a_cancelled_batch_never_ran_has_not_had_its_try():
    assert judge_line(None, "batch_cancelled", "why") == Again("batch_cancelled", "why", counts=False)


@pytest.mark.parametrize("code", ["batch_expired", "request_timeout", "a_code_nobody_knows"])
def test_a_line_with_an_error_code_may_yet_succeed(code):
    assert judge_line(None, code, "why") == Again(code, "why")


def test_a_line_with_neither_response_nor_error_may_yet_succeed():
    outcome = judge_line(None, None, None)
    assert isinstance(outcome, Again)
    assert outcome.code == "no_response"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_inside_a_batch_every_failed_line_has_had_its_try(status):
    outcome = judge_line(failure(status, "why", retry_after_s=9), None, None)
    assert outcome == Again("why", "It says why.")
    assert outcome.counts


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_line_that_cannot_succeed_is_buried(status):
    assert judge_line(failure(status, "why"), None, None) == Bury("why", "It says why.")


def test_a_line_refused_for_the_account_counts_no_attempt():
    outcome = judge_line(failure(429, "insufficient_quota"), None, None)
    assert isinstance(outcome, Again)
    assert not outcome.counts


def test_a_line_that_answers_is_answered():
    assert judge_line(Response(200, {"id": "x"}), None, None) == Answered()


# --- waiting -----------------------------------------------------------------------------------------------------


@given(failures=st.integers(0, 100_000), base_s=st.floats(0.01, 100), cap_s=st.floats(0.01, 5000), seed=st.text())
def test_a_wait_is_between_half_and_all_of_the_doubled_base_and_never_above_the_cap(failures, base_s, cap_s, seed):
    ceiling = min(cap_s, base_s * 2 ** min(max(0, failures - 1), 60))
    wait = backoff_s(failures, base_s=base_s, cap_s=cap_s, seed=seed)
    assert ceiling / 2 <= wait <= ceiling
    assert wait == backoff_s(failures, base_s=base_s, cap_s=cap_s, seed=seed)


def test_the_jitter_differs_from_task_to_task():
    waits = {backoff_s(1, base_s=60, cap_s=300, seed=str(number)) for number in range(100)}
    assert len(waits) == 100
    assert max(waits) - min(waits) > 20


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("lane", [Lane.FLEX, Lane.PRIORITY])
def test_a_server_that_refuses_our_service_tier_refuses_the_lane_and_not_the_task(status, lane):
    body = {"detail": [{"loc": ["body", "service_tier"], "msg": "extra inputs are not permitted"}]}
    outcome = judge(Response(status, body), lane)
    assert isinstance(outcome, Again)
    assert outcome.lane_fault is LaneFault.UNKNOWN
    assert not outcome.counts
    assert isinstance(judge(Response(status, body), Lane.DEFAULT), Bury)


@pytest.mark.parametrize(
    ("lane", "status", "message"),
    [
        (Lane.FLEX, 400, "Flex processing is not available for this model"),
        (Lane.FLEX, 400, "serviceTier: Unknown field"),
        (Lane.FLEX, 422, "This project may not use flex mode"),
        (Lane.PRIORITY, 403, "Your key does not have access to the priority tier"),
    ],
)
def test_a_server_that_speaks_of_the_lane_refuses_the_lane_and_not_the_task(lane, status, message):
    outcome = judge(Response(status, {"error": {"message": message}}), lane)
    assert isinstance(outcome, Again)
    assert (outcome.lane_fault, outcome.counts) == (LaneFault.UNKNOWN, False)


def test_a_prompt_that_speaks_of_the_lane_is_not_the_provider():
    body = {"error": {"message": "Invalid prompt: 'is flex processing cheap?'", "param": "messages"}}
    assert isinstance(judge(Response(400, body), Lane.FLEX), Bury)


@pytest.mark.parametrize("status", [429, 503])
def test_flex_that_is_exhausted_is_without_capacity_and_no_try(status):
    outcome = judge(Response(status, {"error": {"code": "flex_capacity_exhausted", "message": "No."}}), Lane.FLEX)
    assert isinstance(outcome, Again)
    assert (outcome.lane_fault, outcome.counts) == (LaneFault.NO_CAPACITY, False)


def test_a_line_without_an_answer_and_without_an_error_may_have_been_billed():
    outcome = judge_line(None, None, None)
    assert isinstance(outcome, Again)
    assert outcome.unsure


@pytest.mark.parametrize(
    "body", [{"detail": "no such model"}, {"message": "no such model"}, {"error": "no such model"}]
)
def test_the_reason_is_read_from_wherever_a_server_says_it(body):
    outcome = judge(Response(404, body), Lane.DEFAULT)
    assert outcome == Bury("http_404", "no such model")


@pytest.mark.parametrize("status", ["failed", "cancelled", "queued", "in_progress"])
def test_a_response_that_did_not_come_to_its_end_is_no_answer(status):
    outcome = judge(Response(200, {"status": status, "error": None}), Lane.DEFAULT)
    assert isinstance(outcome, Again)
    assert (outcome.counts, outcome.unsure) == (True, True)


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded", "vector_store_timeout", "never_heard_of"])
def test_a_failed_response_may_succeed_where_its_code_does_not_speak_of_the_request(code):
    outcome = judge(Response(200, {"status": "failed", "error": {"code": code, "message": "why"}}), Lane.DEFAULT)
    assert isinstance(outcome, Again)
    assert (outcome.code, outcome.message) == (code, "why")


@pytest.mark.parametrize(
    "code", ["invalid_prompt", "image_content_policy_violation", "bio_policy", "empty_image_file", "image_too_large"]
)
def test_a_failed_response_whose_request_is_at_fault_is_buried_as_a_chat_would_be(code):
    body = {"status": "failed", "error": {"code": code, "message": "why"}}
    assert judge(Response(200, body), Lane.DEFAULT) == Bury(code, "why")
    assert judge_line(Response(200, body), None, None) == Bury(code, "why")


@pytest.mark.parametrize(
    "body",
    [
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []},
        {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []},
        {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]},
        {"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]},
    ],
)
def test_what_the_provider_took_for_an_answer_is_one_whatever_the_endpoint(body):
    assert judge(Response(200, body), Lane.DEFAULT) == Answered()
    assert judge_line(Response(200, body), None, None) == Answered()


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_not_active"])
def test_an_error_of_a_line_may_be_the_accounts_or_the_lines_own(code):
    assert judge_line(None, code, "why") == Again(code, "why", counts=False, account=True)
    assert judge_line(None, None, "why", error_type=code) == Again(code, "why", counts=False, account=True)
    assert judge_line(None, "model_not_found", "why") == Bury("model_not_found", "why")
    assert judge_line(None, "context_length_exceeded", "why") == Bury("context_length_exceeded", "why")
    assert judge_line(None, "rate_limit_exceeded", "why") == Again("rate_limit_exceeded", "why")


@given(left_s=st.floats(-100, 1e7), seed=st.text(max_size=5))
def test_a_last_try_waits_for_a_tenth_of_the_time_left_at_most_and_never_longer_than_the_cap(left_s, seed):
    wait = last_wait_s(left_s, cap_s=300, seed=seed)
    assert min(300, max(0.0, left_s) / 10) / 2 <= wait <= min(300, max(0.0, left_s) / 10)


@given(code=st.text(max_size=300), message=st.text(max_size=2_000))
def test_no_code_and_no_message_of_a_line_is_more_than_any_carrier_takes(code, message):
    error = {"code": code, "message": message}
    for outcome in (judge_line(None, code, message), judge_line(Response(400, {"error": error}), None, None)):
        assert isinstance(outcome, Again | Bury)
        assert 0 < len(outcome.code) <= 100
        assert outcome.code.isascii()
        assert outcome.code.isprintable()
        assert 0 < len(outcome.message) <= 500
        outcome.message.encode()


QUOTA_WRAPPED = "Error code: 429 - {'error': {'message': 'You exceeded your quota.', 'code': 'insufficient_quota'}}"


@pytest.mark.parametrize("told", ["insufficient_quota", QUOTA_WRAPPED, "INSUFFICIENT_BALANCE: no."])
def test_an_account_that_is_named_in_a_text_is_the_accounts_in_a_line_and_in_a_reply(told):
    line = judge_line(None, None, told)
    assert isinstance(line, Again)
    assert (line.counts, line.account, line.doubt) == (False, True, False)
    assert isinstance(judge(Response(200, {"error": told}), Lane.DEFAULT), Halt)


@pytest.mark.parametrize("told", ["You exceeded your current quota", "Your credit balance is too low"])
def test_a_sentence_alone_is_in_doubt_in_a_line_for_it_may_be_the_prompts(told):
    line = judge_line(None, None, told)
    assert line == Again("no_response", told, counts=False, account=True, doubt=True)
    assert judge_line(Response(403, {"error": {"message": told}}), None, None) == Again(
        "http_403", told, counts=False, account=True, doubt=True
    )
    assert judge(Response(200, {"error": {"message": told}}), Lane.DEFAULT) == Halt("http_200", told)


@pytest.mark.parametrize("error", [{"param": "x"}, {"message": "", "param": "x"}, {"type": "error"}, "x", ["x"]])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_no_name_says_none(error, status):
    outcome = judge(Response(status, {"error": error}), Lane.DEFAULT)
    assert isinstance(outcome, Again | Bury)
    assert "None" not in outcome.code + outcome.message


@pytest.mark.parametrize("retry_after_s", [None, 30.0])
def test_a_quota_with_a_retry_after_is_a_pace(retry_after_s):
    outcome = judge(failure(429, "quota_exceeded", retry_after_s=retry_after_s), Lane.DEFAULT)
    assert isinstance(outcome, Halt if retry_after_s is None else Again)


USED = {"input_tokens": 1_000, "output_tokens": 100}
USED_BY_CHAT = {"prompt_tokens": 1_000, "completion_tokens": 100}
FAILED = {"status": "failed", "error": {"code": "server_error", "message": "why"}, "output": []}


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.RESPONSES, FAILED | {"usage": USED}),
        (Endpoint.RESPONSES, FAILED | {"usage": USED, "error": {"code": "rate_limit_exceeded", "message": "why"}}),
        (Endpoint.RESPONSES, FAILED | {"usage": USED, "error": None}),
        (Endpoint.RESPONSES, {"status": "cancelled", "usage": USED}),
        (Endpoint.RESPONSES, {"status": "in_progress", "usage": USED}),
        (Endpoint.RESPONSES, {"status": "completed", "output": [], "usage": USED}),
        (Endpoint.RESPONSES, {"status": "failed", "usage": {"input_tokens": "7", "output_tokens": 0}}),
        (Endpoint.CHAT, {"choices": [], "usage": USED_BY_CHAT}),
        (Endpoint.CHAT, {"choices": None, "error": {"code": 429, "message": "Slow."}, "usage": USED_BY_CHAT}),
        (Endpoint.CHAT, {"choices": None, "error": {"code": 502, "message": "No."}, "usage": USED_BY_CHAT}),
        (Endpoint.EMBEDDINGS, {"data": [], "usage": {"prompt_tokens": 8}}),
    ],
)
def test_what_is_no_answer_and_says_what_it_used_was_billed_for_certain(endpoint, body):
    for outcome in (
        judge(Response(200, body), Lane.DEFAULT, endpoint),
        judge_line(Response(200, body), None, None, endpoint=endpoint),
    ):
        assert isinstance(outcome, Again)
        assert (outcome.billed, outcome.unsure, outcome.counts) == (True, False, True)


def test_a_failed_response_that_says_what_it_used_is_billed_where_it_is_buried_too():
    body = FAILED | {"usage": USED, "error": {"code": "invalid_prompt", "message": "why"}}
    assert judge(Response(200, body), Lane.FLEX, Endpoint.RESPONSES) == Bury("invalid_prompt", "why", billed=True)
    assert judge_line(Response(200, body), None, None, endpoint=Endpoint.RESPONSES) == Bury(
        "invalid_prompt", "why", billed=True
    )


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"input_tokens": 0, "output_tokens": 0},
        {"input_tokens": 9, "output_tokens": None},
        "many",
        USED_BY_CHAT,
    ],
)
def test_a_failed_response_that_does_not_say_what_it_used_may_have_been_billed(usage):
    outcome = judge(Response(200, FAILED | {"usage": usage}), Lane.DEFAULT, Endpoint.RESPONSES)
    assert isinstance(outcome, Again)
    assert (outcome.billed, outcome.unsure) == (False, True)


def test_an_account_that_is_refused_is_not_billed_whatever_the_body_counts():
    body = {"error": {"code": "insufficient_quota", "message": "why"}, "usage": USED_BY_CHAT}
    assert isinstance(judge(Response(200, body), Lane.DEFAULT, Endpoint.CHAT), Halt)
