"""Acceptance: what a raw task becomes, and the deployment's limits."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowtide
from lowtide.core.acceptance import accept, queue_for
from lowtide.core.errors import Refused
from lowtide.core.message import content_hash
from lowtide.core.routes import Limits, Routes
from lowtide.core.task import AcceptedTask, Endpoint
from lowtide.core.tiers import Tier

ROUTES = Routes.load((Path(lowtide.__file__).parent / "routes.toml").read_text(encoding="utf-8"))
SENT = datetime(2026, 2, 28, 10, tzinfo=UTC)
BODY = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "?"}]}
LINE = {"custom_id": "row-7", "method": "POST", "url": "/v1/chat/completions", "body": BODY}


def task(kind="content_generation", model="gpt-5-mini", **changes):
    request = {"url": "/v1/chat/completions", "body": BODY | {"model": model}}
    return {"task_id": "t_1", "type": kind, "tenant": "acme", "request": request} | changes


def accepted(raw, routes=ROUTES):
    return accept(raw, origin="m1/0", sent_at=SENT, routes=routes)


def refusal(raw, routes=ROUTES):
    with pytest.raises(Refused) as caught:
        accepted(raw, routes)
    return caught.value


def limited(**limits):
    return ROUTES.model_copy(update={"limits": Limits(**limits)})


def test_an_accepted_task_carries_all_that_is_needed_later():
    raw = task(tags={"team": "growth"}, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    made = accepted(raw)
    assert made.message == raw
    assert (made.tenant, made.task_id, made.type, made.tags) == ("acme", "t_1", "content_generation", raw["tags"])
    assert (made.tier, made.route, made.batchable) == (Tier.LOW, "type content_generation is LOW", True)
    assert (made.provider, made.model, made.endpoint) == ("openai", "gpt-5-mini", Endpoint.CHAT)
    assert (made.accepted_at, made.deadline_at) == (SENT, SENT + timedelta(hours=24))
    assert (made.content_hash, made.origin) == (content_hash(raw), "m1/0")
    assert (made.routes_version, made.traceparent) == (ROUTES.version, raw["traceparent"])
    assert AcceptedTask.model_validate_json(made.model_dump_json()) == made


def test_a_bare_batch_line_keeps_its_own_shape():
    made = accepted(LINE)
    assert made.message == LINE
    assert (made.task_id, made.tier, made.batchable, made.type) == ("row-7", Tier.LOW, True, None)
    assert made.body == BODY


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({"type": "live_chat_response"}, timedelta(seconds=30)),
        ({"type": "email_draft"}, timedelta(seconds=60)),
        ({"type": "meeting_summary"}, timedelta(hours=1)),
        ({"deadline_seconds": 90.5}, timedelta(seconds=90.5)),
        ({"deadline_at": "2026-02-28T13:00:00+02:00"}, timedelta(hours=1)),
    ],
)
def test_the_deadline_counts_from_when_the_message_was_sent(changes, due):
    assert accepted(task() | changes).deadline_at == SENT + due


@pytest.mark.parametrize("late", ["2026-02-28T10:00:00Z", "2026-02-28T09:59:59Z", "2126-01-01T00:00:00Z"])
def test_a_deadline_that_is_not_ahead_or_in_no_ones_lifetime_is_refused(late):
    refused = refusal(task(deadline_at=late))
    assert (refused.code, refused.field, refused.task_id) == ("invalid_deadline", "deadline_at", "t_1")


def test_a_payload_task_gets_the_model_of_its_type_by_profile():
    raw = task(payload={"text": "…"})
    del raw["request"]
    assert accepted(raw).model == ROUTES.profiles["standard"]
    assert accepted(raw | {"type": "report_generation"}).model == ROUTES.profiles["complex"]
    assert accepted(raw | {"type": "haiku"}).model == ROUTES.profiles["standard"]
    assert accepted(raw).endpoint is Endpoint.CHAT
    assert accepted(raw).body is None


def test_a_type_may_name_a_model_that_is_no_profile():
    types = ROUTES.types | {"haiku": ROUTES.types["email_draft"].model_copy(update={"model": "gpt-4.1"})}
    raw = {"task_id": "t", "type": "haiku", "payload": {}}
    assert accepted(raw, ROUTES.model_copy(update={"types": types})).model == "gpt-4.1"


# --- what a batch may carry -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["live_chat_response", "email_draft", "meeting_summary", "safety_check"])
def test_only_low_tasks_are_batched(kind):
    made = accepted(task(kind))
    assert not made.batchable
    assert queue_for(made) is made.tier


def test_a_batchable_low_task_travels_on_lows_queue():
    assert queue_for(accepted(task())) is Tier.LOW


def test_a_low_task_that_cannot_be_batched_travels_with_normal_and_stays_low():
    made = accepted(task(), ROUTES.without_batch())
    assert (made.tier, made.batchable, queue_for(made)) == (Tier.LOW, False, Tier.NORMAL)
    assert made.deadline_at == SENT + timedelta(hours=24)
    assert made.route == "type content_generation is LOW; openai takes no batches"


def test_a_model_that_cannot_be_batched_is_called():
    models = ROUTES.models | {"gpt-4o": ROUTES.models["gpt-4o"].model_copy(update={"batch": False})}
    made = accepted(task(model="gpt-4o"), ROUTES.model_copy(update={"models": models}))
    assert (made.batchable, made.route) == (False, "type content_generation is LOW; gpt-4o cannot be batched")


def test_a_type_whose_lanes_leave_out_batch_is_called():
    spec = ROUTES.types["content_generation"].model_copy(update={"lanes": ROUTES.tiers[Tier.NORMAL].lanes})
    routes = ROUTES.model_copy(update={"types": ROUTES.types | {"content_generation": spec}})
    assert not accepted(task(), routes).batchable


@pytest.mark.parametrize(("seconds", "batchable"), [(1_800, True), (1_799, False), (5, False)])
def test_a_low_task_due_before_any_batch_could_be_rescued_is_called_instead(seconds, batchable):
    made = accepted(task(deadline_seconds=seconds))
    assert made.batchable is batchable
    assert ("too soon for a batch" in made.route) is not batchable


@given(st.sampled_from([*ROUTES.never_batch.types]), st.sampled_from(["LOW", 3, None]), st.integers(1, 10**6))
def test_what_is_never_batched_is_not_batchable_whatever_the_sender_asks(kind, priority, seconds):
    made = accepted(task(kind, priority=priority, deadline_seconds=seconds))
    assert not made.batchable
    assert queue_for(made) is not Tier.LOW


# --- what the deployment allows ---------------------------------------------------------------------------------


def test_a_model_off_the_list_is_refused_with_the_list():
    refused = refusal(task(model="gpt-5"), limited(models=["gpt-5-mini", "gpt-5-nano"]))
    assert (refused.code, refused.field, refused.task_id) == ("model_not_allowed", "request.body.model", "t_1")
    assert "gpt-5-mini, gpt-5-nano" in refused.message
    assert accepted(task(), limited(models=["gpt-5-mini"])).model == "gpt-5-mini"


def test_a_bare_lines_model_is_refused_by_the_name_of_its_own_field():
    assert refusal(LINE, limited(models=[])).field == "body.model"


def test_the_list_of_models_binds_payload_tasks_too():
    raw = {"task_id": "t", "type": "haiku", "payload": {}}
    assert refusal(raw, limited(models=["gpt-4.1"])).code == "model_not_allowed"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_request_for_more_tokens_than_the_cap_is_refused(name):
    def asking(tokens):
        return task(request={"url": "/v1/chat/completions", "body": BODY | {name: tokens}})

    refused = refusal(asking(1001), limited(max_tokens=1000))
    assert (refused.code, refused.field) == ("max_tokens_over_cap", f"request.body.{name}")
    assert accepted(asking(1000), limited(max_tokens=1000))


def test_a_reply_queue_must_be_on_the_list():
    raw = task(reply_to="https://sqs/replies")
    assert refusal(raw).code == "reply_to_not_allowed"
    assert accepted(raw, limited(reply_to=["https://sqs/replies"])).reply_to == "https://sqs/replies"
    assert accepted(raw, ROUTES.without_reply_list()).reply_to == "https://sqs/replies"


def test_a_model_is_not_asked_at_an_endpoint_that_it_does_not_answer():
    raw = task(request={"url": "/v1/embeddings", "body": {"model": "gpt-5", "input": "x"}})
    refused = refusal(raw)
    assert (refused.code, refused.field) == ("unsupported_endpoint", "request.url")
    embedding = task(request={"url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": "x"}})
    assert accepted(embedding).endpoint is Endpoint.EMBEDDINGS
    unknown = task(request={"url": "/v1/embeddings", "body": {"model": "bge-large", "input": "x"}})
    assert accepted(unknown).endpoint is Endpoint.EMBEDDINGS
