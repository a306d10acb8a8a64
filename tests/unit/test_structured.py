"""lowtide.core.structured: answers held to the schema that their request asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lowtide.core.acceptance import accept
from lowtide.core.outcomes import Again, Answered, Bury, Response
from lowtide.core.structured import checked
from lowtide.core.task import AcceptedTask
from tests.sweep.world import FORM, form, task, validating

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROUTES = validating("email_draft")
GOOD = {"label": "tide", "sure": True}


def accepted(raw: dict[str, Any]) -> AcceptedTask:
    return accept(raw, origin="m/0", sent_at=NOW, routes=ROUTES)


CHAT = accepted(form("a", "email_draft"))
ASKS = {"model": "gpt-5-mini", "input": "Hi", "text": {"format": {"type": "json_schema", "name": "f", "schema": FORM}}}
RESPONSES = accepted({"task_id": "a", "type": "email_draft", "request": {"url": "/v1/responses", "body": ASKS}})


def chat(content: Any, reason: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": reason}]}


def response(*parts: dict[str, Any], **body: Any) -> dict[str, Any]:
    output = [{"type": "reasoning", "summary": []}, {"type": "message", "content": list(parts)}]
    return {"status": "completed", "output": output, **body}


def text(said: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": said if isinstance(said, str) else json.dumps(said)}


def judged(task_: AcceptedTask, body: Any) -> Any:
    return checked(Answered(), Response(200, body), task_)


@pytest.mark.parametrize(
    ("task_", "body"),
    [
        (CHAT, chat(json.dumps(GOOD))),
        (CHAT, chat(None, "tool_calls", tool_calls=[{"id": "call_1"}])),
        (RESPONSES, response(text(GOOD))),
        (RESPONSES, response(text('{"label": "tide",'), text(' "sure": true}'))),
        (RESPONSES, {"output": [{"type": "function_call", "name": "f"}]}),
    ],
)
def test_what_was_asked_for_is_an_answer(task_, body):
    assert judged(task_, body) == Answered()


@pytest.mark.parametrize(
    ("task_", "body", "why"),
    [
        (CHAT, chat('{"label": "tide"}'), "$ has no sure"),
        (CHAT, chat("Sure! Here it is."), "it is no JSON"),
        (CHAT, chat('{"label": "ti', "length"), "cut off at its limit"),
        (CHAT, chat(None), "it is no JSON"),
        (CHAT, {"choices": []}, "it is no JSON"),
        (CHAT, {"choices": chat(json.dumps(GOOD))["choices"] + chat("{}")["choices"]}, "$ has no label"),
        (RESPONSES, response(text({"label": 1, "sure": True})), "$.label is not of type string"),
        (
            RESPONSES,
            response(text('{"la'), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
            "cut off at its limit",
        ),
        (RESPONSES, response(), "it is no JSON"),
        (RESPONSES, {}, "it is no JSON"),
    ],
)
def test_what_does_not_hold_is_a_try_that_was_billed(task_, body, why):
    outcome = judged(task_, body)
    assert isinstance(outcome, Again)
    assert (outcome.code, outcome.counts, outcome.billed, outcome.unsure) == ("invalid_output", True, True, False)
    assert why in outcome.message


@pytest.mark.parametrize(
    ("task_", "body", "code"),
    [
        (CHAT, chat(None, refusal="No."), "model_refusal"),
        (CHAT, chat('{"la', "content_filter"), "content_filter"),
        (RESPONSES, response({"type": "refusal", "refusal": "No."}), "model_refusal"),
        (
            RESPONSES,
            response(text('{"la'), status="incomplete", incomplete_details={"reason": "content_filter"}),
            "content_filter",
        ),
    ],
)
def test_a_refusal_is_not_asked_for_again(task_, body, code):
    outcome = judged(task_, body)
    assert isinstance(outcome, Bury)
    assert (outcome.code, outcome.billed) == (code, True)


def test_only_types_that_say_so_and_requests_that_ask_are_judged():
    relaxed = accept(form("a", "ticket_classification"), origin="m/0", sent_at=NOW, routes=ROUTES)
    assert (relaxed.validate_output, CHAT.validate_output) == (False, True)
    for each in (relaxed, accepted(task("a", "email_draft"))):
        assert judged(each, chat("no JSON at all")) == Answered()


def test_what_is_no_answer_anyway_stays_what_it_is():
    refused = Bury("bad", "why")
    assert checked(refused, Response(400, {}), CHAT) == refused
