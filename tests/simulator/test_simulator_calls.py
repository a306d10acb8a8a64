"""Real-time calls to the simulated provider, through the provider's own SDK."""

from __future__ import annotations

import asyncio

import openai
import pytest

from lowtide.adapters.clock import WallClock
from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.scenario import CallFaults, Latencies, Latency, RateLimit, Window, WindowKind
from lowtide_local.simulator.testing import SteppingClock
from tests.simulator.sdk import connect

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def provider_of(**settings):
    return SimulatedProvider(Scenario(**settings), SteppingClock())


async def ask(client, text, **more):
    messages = [{"role": "user", "content": text}]
    return await client.chat.completions.create(model="gpt-5-mini", messages=messages, **more)


async def refusal_of(client, text, **more):
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(client, text, **more)
    return caught.value


async def test_the_same_question_has_the_same_answer_and_usage():
    client = connect(provider_of())
    one, two = (
        await ask(client, "a question of eight tokens, or so"),
        await ask(connect(provider_of()), "a question of eight tokens, or so"),
    )
    assert one.choices[0].message.content == two.choices[0].message.content
    assert one.usage == two.usage
    assert one.usage is not None
    assert one.usage.prompt_tokens == 9  # 33 bytes, 4 to a token
    other = await ask(client, "another question")
    assert other.choices[0].message.content != one.choices[0].message.content


async def test_an_output_limit_is_kept_and_reported():
    answer = await ask(connect(provider_of()), "tell me all", max_completion_tokens=3)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


async def test_responses_are_read_by_the_sdk():
    answer = await connect(provider_of()).responses.create(model="gpt-5-mini", input="hello", service_tier="priority")
    assert answer.output_text
    assert answer.service_tier == "priority"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


async def test_embeddings_honour_dimensions_and_agree_in_both_encodings():
    client = connect(provider_of())
    given = {"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 4}
    as_base64 = await client.embeddings.create(**given)  # the SDK's own choice
    as_floats = await client.embeddings.create(**given, encoding_format="float")
    assert [len(row.embedding) for row in as_base64.data] == [4, 4]
    for packed, plain in zip(as_base64.data, as_floats.data, strict=True):
        assert packed.embedding == pytest.approx(plain.embedding, abs=1e-6)
    assert as_floats.data[0].embedding != as_floats.data[1].embedding


async def test_every_answered_call_is_billed_under_its_request_id_and_tier():
    provider = provider_of()
    answer = await ask(connect(provider), "hi", service_tier="flex", extra_headers={"X-Client-Request-Id": "call-1"})
    [line] = provider.billed
    assert (line.kind, line.id, line.service_tier, line.batch_id) == ("call", "call-1", "flex", None)
    assert answer.service_tier == "flex"
    assert answer.usage is not None
    assert (line.input_tokens, line.output_tokens) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


async def test_flex_is_refused_for_a_model_that_does_not_have_it():
    provider = provider_of()
    with pytest.raises(openai.BadRequestError) as caught:
        await connect(provider).chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], service_tier="flex"
        )
    assert caught.value.param == "service_tier"
    assert provider.billed == []


async def test_flex_without_capacity_answers_resource_unavailable_and_bills_nothing():
    provider = provider_of(calls=CallFaults(flex_unavailable=1.0))
    client = connect(provider)
    error = await refusal_of(client, "hi", service_tier="flex")
    assert (error.status_code, error.code) == (429, "resource_unavailable")
    assert provider.billed == []
    assert (await ask(client, "hi")).service_tier == "default"


async def test_embeddings_know_no_service_tier():
    with pytest.raises(openai.BadRequestError, match="service_tier"):
        await connect(provider_of()).embeddings.create(
            model="text-embedding-3-small", input="hi", extra_body={"service_tier": "flex"}
        )


@pytest.mark.parametrize(
    ("mark", "status", "code"),
    [
        ("refuse", 400, "content_policy_violation"),
        ("500", 500, "server_error"),
        ("429", 429, "rate_limit_exceeded"),
        ("quota", 429, "insufficient_quota"),
        ("404", 404, "not_found"),
    ],
)
async def test_a_mark_in_the_prompt_forces_its_outcome_every_time(mark, status, code):
    provider = provider_of()
    client = connect(provider)
    for _ in range(2):
        error = await refusal_of(client, f"hello [sim:{mark}]")
        assert (error.status_code, error.code) == (status, code)
    assert provider.billed == []


async def test_a_mark_for_once_passes_at_the_second_sight():
    client = connect(provider_of())
    assert (await refusal_of(client, "hello [sim:500-once]")).status_code == 500
    assert (await ask(client, "hello [sim:500-once]")).choices[0].message.content


async def test_marks_are_only_text_where_the_scenario_says_so():
    assert await ask(connect(provider_of(markers=False)), "hello [sim:500]")


async def test_a_rate_limit_says_when_to_come_back():
    client = connect(provider_of(calls=CallFaults(rate_limited=1.0, retry_after_s=7)))
    error = await refusal_of(client, "hi")
    assert error.response.headers["retry-after"] == "7"
    assert await ask(client, "hi")  # drawn for the first sight only


async def test_fates_do_not_depend_on_the_order_of_requests():
    faults = CallFaults(rate_limited=0.3, server_error=0.3)
    texts = [f"question {n}" for n in range(60)]

    async def statuses(order):
        client = connect(provider_of(seed=3, calls=faults))
        seen = {}
        for text in order:
            try:
                await ask(client, text)
                seen[text] = 200
            except openai.APIStatusError as error:
                seen[text] = error.status_code
        return seen

    forwards = await statuses(texts)
    assert forwards == await statuses(texts[::-1])
    assert set(forwards.values()) == {200, 429, 500}


async def test_a_storm_hits_calls_only_and_passes():
    provider = provider_of(windows=(Window(kind=WindowKind.RATE_LIMIT, from_s=10, to_s=20),))
    client = connect(provider)
    await ask(client, "before")
    provider.clock.advance(15)
    assert (await refusal_of(client, "within")).status_code == 429
    assert [model.id async for model in client.models.list()]
    provider.clock.advance(5)
    await ask(client, "after")


async def test_a_window_without_flex_refuses_that_lane_alone_and_passes():
    provider = provider_of(windows=(Window(kind=WindowKind.NO_FLEX, from_s=0, to_s=5),))
    client = connect(provider)
    assert (await refusal_of(client, "hi", service_tier="flex")).code == "resource_unavailable"
    assert provider.billed == []
    await ask(client, "hi")
    provider.clock.advance(5)
    assert (await ask(client, "hi", service_tier="flex")).service_tier == "flex"


async def test_an_outage_answers_503_to_everything():
    provider = provider_of(windows=(Window(kind=WindowKind.OUTAGE, from_s=0, to_s=5),))
    client = connect(provider)
    with pytest.raises(openai.InternalServerError) as caught:
        await client.models.list()
    assert caught.value.status_code == 503
    provider.clock.advance(5)
    assert (await client.models.list()).data


async def test_latency_is_waited_for_on_the_clock():
    latency = Latencies(default=Latency(min_s=2, max_s=3), flex=Latency(min_s=60, max_s=60))
    provider = provider_of(latency=latency)
    client = connect(provider)
    start = provider.clock.now()
    await ask(client, "hi")
    assert 2 <= (provider.clock.now() - start).total_seconds() < 3
    await ask(client, "hi", service_tier="flex")
    assert 62 <= (provider.clock.now() - start).total_seconds() < 63


async def test_whoever_leaves_before_the_answer_pays_all_the_same():
    provider = SimulatedProvider(Scenario(), WallClock())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ask(connect(provider), "hello [sim:timeout]")
    assert len(provider.billed) == 1


async def test_a_broken_connection_after_the_work_is_billed():
    provider = provider_of()
    with pytest.raises(openai.APIConnectionError):
        await ask(connect(provider), "hello [sim:drop]")
    assert len(provider.billed) == 1


async def test_a_key_is_asked_for_only_where_the_scenario_has_one():
    locked = provider_of(api_key="right")
    assert await ask(connect(locked, api_key="right"), "hi")
    error = await refusal_of(connect(locked, api_key="wrong"), "hi")
    assert (error.status_code, error.code) == (401, "invalid_api_key")


async def test_strict_models_refuses_what_is_not_listed():
    provider = provider_of(strict_models=True, models=("gpt-5-nano",))
    assert (await refusal_of(connect(provider), "hi")).code == "model_not_found"


async def test_a_repeated_long_prefix_counts_as_cached_where_that_is_on():
    client = connect(provider_of(prompt_cache=True))
    start = "the same beginning " * 300
    first, second = await ask(client, start + "one"), await ask(client, start + "two")
    assert first.usage is not None
    assert second.usage is not None
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens == 1024


async def test_an_unknown_address_answers_in_the_shape_of_an_error():
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        await connect(provider_of()).get("/audio", cast_to=object)


async def test_a_request_for_a_word_is_answered_with_the_one_that_its_prompt_names():
    client = connect(provider_of())
    short = await ask(client, "which? [sim:says-simple]", max_completion_tokens=32)
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("simple", "stop")
    assert short.usage is not None
    assert short.usage.completion_tokens == 1
    long = await ask(client, "which? [sim:says-simple]")
    assert long.choices[0].message.content != "simple"


async def test_a_rate_limit_lets_so_many_through_a_minute_and_its_burst_at_once():
    provider = provider_of(limits={"gpt-5-mini": RateLimit(requests_per_minute=60, burst_s=2)})
    client = connect(provider)
    for number in range(2):
        assert await ask(client, f"hello {number}")
    error = await refusal_of(client, "hello 2")
    assert (error.status_code, error.code, error.response.headers["retry-after"]) == (429, "rate_limit_exceeded", "1")
    provider.clock.advance(1)
    assert await ask(client, "hello 2")
    assert (provider.limited, len(provider.billed)) == (1, 3)


async def test_a_limit_in_tokens_counts_what_a_request_asks_for_and_what_it_allows():
    provider = provider_of(limits={"*": RateLimit(requests_per_minute=600, tokens_per_minute=600, burst_s=60)})
    client = connect(provider)
    assert await ask(client, "hello", max_completion_tokens=500)
    error = await refusal_of(client, "hello", max_completion_tokens=500)
    assert int(error.response.headers["retry-after"]) > 30


async def test_limits_are_told_in_headers_unless_the_scenario_says_otherwise():
    limit = RateLimit(requests_per_minute=60, tokens_per_minute=6_000)
    told = connect(provider_of(limits={"*": limit}))
    answer = await told.chat.completions.with_raw_response.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}]
    )
    headers = {name: answer.headers.get(f"x-ratelimit-{name}") for name in ("limit-requests", "remaining-requests")}
    assert headers == {"limit-requests": "60", "remaining-requests": "59"}
    assert answer.headers["x-ratelimit-limit-tokens"] == "6000"
    quiet = connect(provider_of(limits={"*": limit.model_copy(update={"headers": False})}))
    answer = await quiet.chat.completions.with_raw_response.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}]
    )
    assert "x-ratelimit-limit-requests" not in answer.headers
