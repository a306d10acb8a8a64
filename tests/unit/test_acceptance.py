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
from lowtide.core.prompts import request_body
from lowtide.core.routes import Limits, Routes
from lowtide.core.task import AcceptedTask, Endpoint
from lowtide.core.tiers import Tier
from lowtide.core.token_limits import limits_in

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


CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"


def asking(url=CHAT, **body):
    own = {"messages": BODY["messages"]} if url == CHAT else {"input": "?"}
    model = "text-embedding-3-small" if url == EMBEDDINGS else "gpt-5-mini"
    return task(request={"url": url, "body": {"model": model} | own | body})


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (asking(n=2, max_completion_tokens=501), "max_completion_tokens"),
        (asking(n=128, max_tokens=100), "max_tokens"),
        (asking(best_of=4, max_tokens=300), "max_tokens"),
        (asking(n=2, best_of=11, max_tokens=100), "max_tokens"),
        (asking(n=1001), "n"),
        (asking(best_of=5_000, max_tokens=1), "best_of"),
        (asking(RESPONSES, n=3, max_output_tokens=400), "max_output_tokens"),
        (asking(max_tokens=10_000_000), "max_tokens"),
        (asking(max_completion_tokens=5, max_tokens=1001), "max_tokens"),
        (asking(max_new_tokens=5), "max_new_tokens"),
        (asking(n_predict=-1), "n_predict"),
        (asking(max_tokens=5, num_predict=9_000), "num_predict"),
    ],
)
def test_all_the_answers_to_one_request_share_the_cap(raw, field):
    refused = refusal(raw, limited(max_tokens=1000))
    assert (refused.code, refused.field) == ("max_tokens_over_cap", f"request.body.{field}")
    assert "1000" in refused.message or "at most" in refused.message


@pytest.mark.parametrize(
    ("raw", "share"),
    [
        (asking(), 1000),
        (asking(n=3), 333),
        (asking(n=1000), 1),
        (asking(n=None, max_tokens=None), 1000),
        (asking(RESPONSES), 1000),
    ],
)
def test_a_request_without_a_limit_has_its_answers_share_of_the_cap(raw, share):
    body = request_body(accepted(raw, limited(max_tokens=1000)))
    assert body["max_output_tokens" if "input" in body else "max_completion_tokens"] == share


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"extra_body": {"max_tokens": 5_000}}, "extra_body.max_tokens"),
        ({"extra_body": {"options": {"num_predict": -1}}}, "extra_body.options.num_predict"),
        ({"options": {"num_predict": 5_000}}, "options.num_predict"),
        ({"generationConfig": {"maxOutputTokens": 5_000}}, "generationConfig.maxOutputTokens"),
        ({"generation_config": {"max_output_tokens": "5000"}}, "generation_config.max_output_tokens"),
        ({"generationConfig": {"candidateCount": 2_000}}, "generationConfig.candidateCount"),
        ({"generationConfig": {"candidateCount": 8, "maxOutputTokens": 200}}, "generationConfig.maxOutputTokens"),
        ({"config": {"thinkingConfig": {"thinkingBudget": -1}}}, "config.thinkingConfig.thinkingBudget"),
        ({"thinking": {"type": "enabled", "budget_tokens": 50_000}}, "thinking.budget_tokens"),
        ({"reasoning": {"max_tokens": 5_000}}, "reasoning.max_tokens"),
        ({"chat_template_kwargs": {"thinking_budget": 5_000}}, "chat_template_kwargs.thinking_budget"),
        ({"thinking_budget": 5_000}, "thinking_budget"),
        ({"thinking_token_budget": 5_000}, "thinking_token_budget"),
        ({"parameters_list": [{"max-tokens": 5_000}]}, "parameters_list.0.max-tokens"),
        ({"num_return_sequences": 5, "max_tokens": 600}, "max_tokens"),
        ({"num_return_sequences": 5_000}, "num_return_sequences"),
        ({"N": 4, "max_tokens": 300}, "max_tokens"),
        ({"min_tokens": 5_000}, "min_tokens"),
        ({"minNewTokens": 5_000}, "minNewTokens"),
        ({"maxTokens": 5_000}, "maxTokens"),
        ({"maxCompletionTokens": 5_000}, "maxCompletionTokens"),
        ({"MAX_TOKENS": 5_000}, "MAX_TOKENS"),
        ({"Max-Tokens": 5_000}, "Max-Tokens"),
        ({"max_tokens_to_sample": 5_000}, "max_tokens_to_sample"),
        ({"maxTokenCount": 5_000}, "maxTokenCount"),
        ({"maxTokens": "many"}, "maxTokens"),
        ({"maxTokens": 1e300}, "maxTokens"),
    ],
)
def test_a_limit_of_any_spelling_and_at_any_depth_is_held_to_the_cap(extra, field):
    refused = refusal(asking(**extra), limited(max_tokens=1000))
    assert (refused.code, refused.field) == ("max_tokens_over_cap", f"request.body.{field}")
    assert accepted(asking(**extra)), "a deployment without a cap lets it pass"


@pytest.mark.parametrize(
    "extra",
    [
        {"extra_body": {"max_tokens": 1000, "truncate_prompt_tokens": 9_000, "skip_special_tokens": True}},
        {"thinking": {"type": "enabled", "budget_tokens": 1000}, "reasoning": {"effort": "high", "max_tokens": None}},
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}, "topK": 5_000}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"maxLength": 9_000, "n": 5_000}}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"maxLength": 9_000}}}},
        {"extra_body": {"guided_json": {"properties": {"a": {"maxLength": 9_000}}}}},
        {"metadata": {"max_tokens": "5000"}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "?", "max_tokens": 5_000}]}]},
        {"seed": 5_000, "top_logprobs": 5, "logit_bias": {"50256": 100}, "stop_token_ids": [5_000]},
        {"max_input_tokens": 50_000, "max_tool_calls": 5_000, "network": 5_000, "count": 9_999},
    ],
)
def test_what_is_within_the_cap_or_bounds_no_answer_passes(extra):
    assert accepted(asking(**extra), limited(max_tokens=1000))


@pytest.mark.parametrize("name", ["stream", "Stream", "STREAM", "Stream_Options", "stream-options", "Background"])
def test_what_a_queue_cannot_honour_is_refused_however_it_is_spelt(name):
    refused = refusal(asking(**{name: True}))
    assert (refused.code, refused.field) == ("unsupported_field", f"request.body.{name}")
    assert accepted(asking(**{name: False}))


def test_every_word_for_a_tier_that_exists_is_taken():
    for tier in ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"):
        assert accepted(asking(service_tier=tier))


@pytest.mark.parametrize(
    "extra",
    [
        *({name: "gpt-5-pro"} for name in ("engine", "deployment", "deployment_id", "modelId", "model-name", "Engine")),
        *({"extra_body": {name: "gpt-5-pro"}} for name in ("engine", "Deployment-ID", "modelId")),
        {"plugins": [{"id": "file", "modelId": "gpt-5-pro"}]},
    ],
)
def test_an_engine_or_a_deployment_is_a_model(extra):
    assert refusal(asking(**extra), limited(models=["gpt-5-mini"])).code == "model_not_allowed"


def test_the_engine_of_a_web_search_is_no_model():
    assert accepted(asking(plugins=[{"id": "web", "engine": "exa"}]), limited(models=["gpt-5-mini"]))


@pytest.mark.parametrize(
    "body",
    [
        {f"max_tok{number}": 1 for number in range(60_000)},
        {"x": [{"max_tokens": 1}] * 60_000},
        {"max" + "new" * 19 + f"{number}": 1 for number in range(15_000)},
        {"tools": [{"type": "x", "max": "1"}] * 30_000},
    ],
)
def test_a_large_body_is_looked_through_in_one_pass(body):
    """Its fields are counted, not the time: each is looked at once."""
    assert len(list(limits_in(body))) in (0, 60_000)


def test_without_a_cap_nothing_is_shared_and_foreign_limits_pass():
    assert request_body(accepted(asking(n=128, max_tokens=9_000_000)))["max_tokens"] == 9_000_000
    assert request_body(accepted(asking(n_predict=-1)))["n_predict"] == -1
    assert "max_completion_tokens" not in request_body(accepted(asking(n=500)))


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (asking(max_output_tokens=50), "max_output_tokens"),
        (asking(RESPONSES, max_tokens=50), "max_tokens"),
        (asking(RESPONSES, max_completion_tokens=50), "max_completion_tokens"),
        (asking(EMBEDDINGS, max_tokens=50), "max_tokens"),
    ],
)
def test_the_limit_of_another_endpoint_is_refused_with_the_one_to_give(raw, field):
    refused = refusal(raw)
    assert (refused.code, refused.field) == ("invalid_request", f"request.body.{field}")
    assert "is no field of" in refused.message


@pytest.mark.parametrize("value", [0, -1, True, "100", 100.0, 1e400, 10_000_001, 2**63, [5], {}, ""])
@pytest.mark.parametrize("name", ["max_tokens", "n", "best_of"])
def test_a_limit_that_is_no_whole_number_in_reach_is_refused(name, value):
    assert refusal(asking(**{name: value})).code in ("invalid_request", "invalid_json")


LISTED = limited(models=["gpt-5-mini", "gpt-image-1-mini"])


@pytest.mark.parametrize(
    ("raw", "at"),
    [
        (asking(RESPONSES, tools=[{"type": "image_generation", "model": "gpt-image-1"}]), "tools.0.model"),
        (asking(RESPONSES, tools=[{"type": "image_generation"}]), "tools.0.model"),
        (asking(RESPONSES, tools=[{"type": "image_generation", "model": None}]), "tools.0.model"),
        (
            asking(
                RESPONSES, tools=[{"type": "image_generation", "model": "gpt-image-1-mini", "svg": {"model": "gpt-5"}}]
            ),
            "tools.0.svg.model",
        ),
        (
            asking(RESPONSES, input=[{"type": "tool_search_output", "tools": [{"model": "gpt-5"}]}]),
            "input.0.tools.0.model",
        ),
        (asking(moderation={"model": "omni-moderation-latest"}), "moderation.model"),
        (asking(models=["gpt-5-mini", "gpt-5"]), "models.1"),
        (asking(fallback="gpt-5"), "fallback"),
        (asking(fallbacks=[{"gpt-5-mini": ["gpt-5"]}]), "fallbacks.0.gpt-5-mini.0"),
        (asking(fallbacks=[{"model": "gpt-5", "user": "anybody"}]), "fallbacks.0.model"),
        (asking(extra_body={"speculative_model": "gpt-5"}), "extra_body.speculative_model"),
        (asking(plugins=[{"id": "web", "model": "gpt-5"}]), "plugins.0.model"),
        (asking(draft_model="gpt-5"), "draft_model"),
        (asking(options={"a": [[{"Model_ID": "gpt-5"}]]}), "options.a.0.0.Model_ID"),
    ],
)
def test_every_other_model_that_a_request_names_must_be_on_the_list_too(raw, at):
    refused = refusal(raw, LISTED)
    assert (refused.code, refused.field) == ("model_not_allowed", f"request.body.{at}")
    assert "gpt-5-mini" in refused.message
    assert accepted(raw)


@pytest.mark.parametrize(
    "raw",
    [
        asking(
            RESPONSES,
            tools=[{"type": "image_generation", "model": "gpt-image-1-mini"}],
            tool_choice={"type": "image_generation"},
        ),
        asking(
            tools=[
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"properties": {"model": {"const": "gpt-5"}}}},
                }
            ]
        ),
        asking(
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "f", "schema": {"default": {"model": "gpt-5"}}},
            }
        ),
        asking(metadata={"model": "gpt-5"}),
        asking(messages=[{"role": "user", "content": "?", "model": "gpt-5"}]),
        asking(RESPONSES, input=[{"type": "image_generation_call", "svg_usage": {"model": "gpt-5"}}]),
        asking(RESPONSES, tools=[{"type": "mcp", "headers": {"x-model": "gpt-5"}}]),
        asking(RESPONSES, prompt={"id": "pmpt_1", "variables": {"model": "gpt-5"}}),
        asking(provider={"allow_fallbacks": True}, models=["gpt-5-mini"], models_seen=7),
    ],
)
def test_a_word_in_a_prompt_or_a_schema_is_no_request_for_a_model(raw):
    assert accepted(raw, LISTED)


@pytest.mark.parametrize("model", ["x" * 257, "a\u0000b", "a\u200bb", " ", ""])
def test_a_model_without_a_name_that_can_be_kept_is_refused(model):
    assert refusal(task(model=model)).code == "invalid_request"


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
