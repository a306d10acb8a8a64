"""What is an answer and what is none, endpoint by endpoint."""

from __future__ import annotations

import pytest

from lowtide.core.lanes import Lane
from lowtide.core.outcomes import Again, Answered, Bury, Halt, Response, judge, judge_line
from lowtide.core.task import Endpoint

CHAT, RESPONSES, EMBEDDINGS = Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.EMBEDDINGS

ANSWERS = [
    (CHAT, {"choices": [{"message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}]}),
    (CHAT, {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}),
    (CHAT, {"choices": [{"message": {"content": None, "refusal": "No."}}]}),
    (CHAT, {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"}]}),
    (CHAT, {"choices": [{"message": {"role": "assistant"}, "finish_reason": "content_filter"}]}),
    (CHAT, {"choices": [{"message": {"role": "assistant", "content": None, "reasoning_content": "Hm."}}]}),
    (CHAT, {"choices": [{"message": {"content": "Hi."}}], "error": None, "object": "whatever"}),
    (CHAT, {"choices": [{"message": {"content": "Cut off in the mid"}, "finish_reason": "error"}]}),
    (CHAT, {"choices": [{"message": {"content": "Hi."}}], "error": {"code": 0, "message": "ok"}}),
    (CHAT, {"choices": [{"message": {"content": "Hi."}}], "base_resp": {"status_code": 0}}),
    *(
        (CHAT, {"choices": [{"message": {"content": "Hi."}}], "error": error})
        for error in ("None", "null", "ok", "success", [None], [{}], {"message": "success"}, {"type": "None"})
    ),
    (CHAT, {"choices": [{"message": {"content": "Hi."}, "error": "None"}]}),
    *((CHAT, {"choices": [{"message": {"content": "Hi."}}], "status": status}) for status in ("queued", "failed")),
    (EMBEDDINGS, {"data": [{"embedding": [0.1]}], "status": "in_progress", "code": 30001, "message": "fine"}),
    (RESPONSES, {"status": "completed", "output": [{"type": "message", "content": []}], "error": None}),
    (RESPONSES, {"output": [{"type": "function_call"}]}),
    (RESPONSES, {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}),
    (EMBEDDINGS, {"object": "list", "data": [{"embedding": [0.1], "index": 0}]}),
    (EMBEDDINGS, {"data": [{"embedding": "AAAA"}]}),
]
NONE = [
    *((endpoint, {}) for endpoint in Endpoint),
    *((endpoint, {"id": "x", "usage": {"prompt_tokens": "some"}}) for endpoint in Endpoint),
    *((CHAT, {"choices": choices}) for choices in (None, [], [None], [{}], [{"message": None}], [{"message": {}}])),
    (CHAT, {"choices": [{"text": "A completion's."}]}),
    (CHAT, {"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "error"}]}),
    (CHAT, {"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "error"}]}),
    (CHAT, {"choices": {"message": {"content": "Hi."}}}),
    (RESPONSES, {"output": None, "status": "completed"}),
    (RESPONSES, {"output": [], "status": "completed"}),
    (RESPONSES, {"output_text": "Hi."}),
    (RESPONSES, {"status": "incomplete", "output": None}),
    (EMBEDDINGS, {"data": []}),
    (EMBEDDINGS, {"data": None}),
    (EMBEDDINGS, {"data": [{"index": 0}]}),
    (EMBEDDINGS, {"data": [{"embedding": []}]}),
    *((endpoint, body) for endpoint in Endpoint for body in ("<html>", "", None, [1], 3, "data: {}")),
]


@pytest.mark.parametrize(("endpoint", "body"), ANSWERS, ids=str)
def test_what_has_the_shape_of_an_answer_is_one(endpoint, body):
    assert judge(Response(200, body), Lane.DEFAULT, endpoint) == Answered()
    assert judge_line(Response(200, body), None, None, endpoint=endpoint) == Answered()


@pytest.mark.parametrize(("endpoint", "body"), NONE, ids=str)
def test_what_has_not_is_tried_again_counted_and_may_have_been_billed(endpoint, body):
    for outcome in (
        judge(Response(200, body), Lane.DEFAULT, endpoint),
        judge_line(Response(200, body), None, None, endpoint=endpoint),
    ):
        assert isinstance(outcome, Again)
        assert (outcome.code, outcome.counts, outcome.unsure) == ("invalid_response", True, True)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_error_with_200_is_that_error(status):
    def judged(code, **more):
        body = {"error": {"code": code, "message": "why", **more}, "choices": None}
        return judge(Response(status, body), Lane.DEFAULT, CHAT)

    assert judged(429) == Again("http_429", "why", counts=False)
    assert judged("429") == judged(429)
    assert judged(502) == Again("http_502", "why", unsure=True)
    assert judged(400) == Bury("http_400", "why")
    assert judged("context_length_exceeded") == Bury("context_length_exceeded", "why")
    assert judged(402) == Halt("http_402", "why")
    assert judged("insufficient_quota") == Halt("insufficient_quota", "why")
    assert judged("never_heard_of") == Again("never_heard_of", "why", unsure=True)
    assert judged(None) == Again(f"http_{status}", "why", unsure=True)
    assert judged(403) == Again("http_403", "why", counts=False, doubt=True)
    assert judged(404, param="model") == Bury("http_404", "why")


def test_an_error_beside_an_answer_is_the_error():
    body = {"error": {"code": 502, "message": "why"}, "choices": [{"message": {"content": "half"}}]}
    assert judge(Response(200, body), Lane.DEFAULT, CHAT) == Again("http_502", "why", unsure=True)


def test_inside_a_batch_it_has_had_its_try():
    body = {"error": {"code": 429, "message": "why"}, "choices": None}
    assert judge_line(Response(200, body), None, None, endpoint=CHAT) == Again("http_429", "why")
    body = {"error": {"code": "insufficient_quota", "message": "why"}}
    outcome = judge_line(Response(200, body), None, None, endpoint=CHAT)
    assert outcome == Again("insufficient_quota", "why", counts=False, account=True)
