"""The body to send: a request's own but for its lane, or a payload rendered with the fixed text first."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowtide
from lowtide.core.acceptance import accept
from lowtide.core.prompts import request_body
from lowtide.core.routes import Limits, Routes

ROUTES = Routes.load((Path(lowtide.__file__).parent / "routes.toml").read_text(encoding="utf-8"))
CAPPED = ROUTES.model_copy(update={"limits": Limits(max_tokens=500)})
SENT = datetime(2026, 2, 28, 10, tzinfo=UTC)
LONG = "Judge it by these rules, one after the other. " * 100
"""Long enough for the provider to cache."""
CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "?"}]}


def rendered(raw, routes=ROUTES):
    task = accept(raw, origin="o", sent_at=SENT, routes=routes)
    before = task.model_dump_json()
    body = request_body(task)
    assert task.model_dump_json() == before
    return body


def asking(body, url="/v1/chat/completions"):
    return {"task_id": "t", "type": "email_draft", "request": {"url": url, "body": body}}


def paying(payload, kind="meeting_summary"):
    return {"task_id": "t", "type": kind, "payload": payload}


def test_a_request_is_sent_as_it_came_but_for_its_lane():
    body = CHAT | {"service_tier": "flex", "metadata": {"kept": "yes"}, "stream": False}
    expected = {name: value for name, value in body.items() if name != "service_tier"}
    assert rendered(asking(body)) == expected
    assert rendered({"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": body}) == expected


def test_a_payload_comes_after_the_text_that_is_the_same_for_its_type():
    one, other = rendered(paying({"b": 1, "a": "ä"})), rendered(paying({"c": 2}))
    assert [message["role"] for message in one["messages"]] == ["system", "user"]
    assert one["messages"][0] == other["messages"][0]
    assert one["messages"][1]["content"] == '{"a":"ä","b":1}'
    assert one["model"] == ROUTES.profiles["standard"]


def test_a_type_without_a_template_gets_the_generic_one_with_its_name():
    system = rendered(paying({}, "data_enrichment"))["messages"][0]["content"]
    assert system == ROUTES.templates["generic"].replace("{type}", "data_enrichment").strip()
    assert rendered(paying({}, "haiku"))["messages"][0]["content"] == system.replace("data_enrichment", "haiku")


def test_a_type_with_a_template_gets_that_one():
    assert "summary" in rendered(paying({}))["messages"][0]["content"].splitlines()[0]


def test_a_payload_without_a_type_is_rendered_too():
    body = rendered({"task_id": "t", "priority": "LOW", "payload": {"x": 1}})
    assert '"general"' in body["messages"][0]["content"]


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5), st.randoms())
def test_the_same_payload_gives_the_same_body_however_it_was_written(payload, dice):
    payload = {name: value for name, value in payload.items() if not isinstance(value, int) or abs(value) < 2**63}
    names = list(payload)
    dice.shuffle(names)
    assert rendered(paying({name: payload[name] for name in names})) == rendered(paying(payload))


@pytest.mark.parametrize(
    ("raw", "limit"),
    [
        (asking(CHAT), {"max_completion_tokens": 500}),
        (asking(CHAT | {"max_completion_tokens": None}), {"max_completion_tokens": 500}),
        (asking(CHAT | {"max_tokens": 20}), {"max_tokens": 20}),
        (asking({"model": "gpt-5", "input": "x"}, "/v1/responses"), {"max_output_tokens": 500}),
        (asking({"model": "text-embedding-3-small", "input": "x"}, "/v1/embeddings"), {}),
        (paying({}), {"max_completion_tokens": 500}),
    ],
)
def test_where_tokens_are_capped_a_request_without_a_limit_gets_the_cap(raw, limit):
    body = rendered(raw, CAPPED)
    assert {name: value for name, value in body.items() if name.startswith("max_")} == limit


def with_template(text, **provider):
    openai = ROUTES.providers["openai"].model_copy(update=provider)
    update = {"templates": ROUTES.templates | {"judgement": text}, "providers": {"openai": openai}}
    return ROUTES.model_copy(update=update)


def test_tasks_under_one_long_text_have_one_cache_key_and_another_text_has_another():
    routes, other = with_template(LONG), with_template(LONG + "And kindly.")
    one = rendered(paying({"a": 1}, "lead_scoring"), routes)["prompt_cache_key"]
    assert rendered(paying({"b": 2}, "lead_scoring"), routes)["prompt_cache_key"] == one
    assert rendered(paying({"a": 1}, "lead_scoring"), other)["prompt_cache_key"] != one
    assert len(one) <= 64


@pytest.mark.parametrize(
    ("raw", "routes"),
    [
        (paying({}, "lead_scoring"), ROUTES),  # too short to be cached
        (paying({}, "lead_scoring"), with_template(LONG, prompt_cache_key=False)),
        (paying({}, "lead_scoring"), with_template(LONG).without_cache_keys()),
        (asking(CHAT), with_template(LONG)),
    ],
)
def test_where_a_cache_key_would_not_help_or_not_be_known_there_is_none(raw, routes):
    assert "prompt_cache_key" not in rendered(raw, routes)


def test_a_senders_own_cache_key_is_sent_as_it_came():
    body = CHAT | {"prompt_cache_key": "theirs"}
    assert rendered(asking(body), with_template(LONG)) == body


@pytest.mark.parametrize("raw", [paying({"a": 1}, "lead_scoring"), asking(CHAT)])
def test_what_a_task_is_asked_with_is_what_it_was_when_it_was_accepted(raw):
    """Carried through a queue, and rendered by a process that has other routes in force: it needs none."""
    task = accept(raw, origin="o", sent_at=SENT, routes=CAPPED)
    carried = type(task).model_validate_json(task.model_dump_json())
    assert request_body(carried) == request_body(task)
    assert request_body(carried)["max_completion_tokens"] == 500
    assert (carried.prompt is None) == ("request" in raw)
