"""Real-time calls: every end is a value."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from functools import partial

import httpx2
import pytest

from lowtide.adapters.clock import WallClock
from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.client import build_client, is_openai
from lowtide.core.errors import ConfigError
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import Halt, Headroom, judge
from lowtide.core.task import Endpoint
from lowtide.ports import Call, Presence
from lowtide_local.simulator import Scenario, SimulatedProvider, listen
from lowtide_local.simulator.scenario import CallFaults, RateLimit
from lowtide_local.simulator.testing import SteppingClock, connect, on_a_socket

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def call(text="hello", *, lane=Lane.DEFAULT, timeout_s=5.0, endpoint=Endpoint.CHAT, **body):
    content = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}]}
    if endpoint is Endpoint.EMBEDDINGS:
        content = {"model": "text-embedding-3-small", "input": text}
    return Call(endpoint, content | body, lane, call_id="call-1", timeout_s=timeout_s, traceparent="00-ab-cd-01")


def provider_of(**settings):
    return SimulatedProvider(Scenario(**settings), SteppingClock())


def replying(handler, **settings):
    """Answers from a transport that does as ``handler`` says."""
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    return OpenAIAnswers(build_client(base_url="http://elsewhere/v1", api_key="k", http_client=http_client), **settings)


async def test_a_request_id_that_repeats_the_key_or_a_whole_reply_is_masked_and_cut():
    key = "opaque-" + "k" * 20

    def echo(request):
        return httpx2.Response(400, headers={"x-request-id": f"req {key} " + "x" * 5_000}, json={})

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(echo))
    client = build_client(base_url="http://elsewhere/v1", api_key=key, http_client=http_client)
    response = await OpenAIAnswers(client).answer(call())
    assert response.request_id is not None
    assert response.request_id.startswith("req (key) xxx")
    assert len(response.request_id) <= 200


async def test_an_answer_comes_with_its_status_body_and_request_id():
    provider = provider_of()
    response = await OpenAIAnswers(connect(provider)).answer(call())
    assert response.status == 200
    assert response.body["object"] == "chat.completion"
    assert response.request_id is not None
    assert response.request_id.startswith("req_")
    assert [line.id for line in provider.billed] == ["call-1"]


@pytest.mark.parametrize(
    ("lane", "settings", "sent"),
    [
        (Lane.DEFAULT, {}, None),
        (Lane.DEFAULT, {"sends_default_tier": True}, "default"),
        (Lane.FLEX, {}, "flex"),
        (Lane.PRIORITY, {}, "priority"),
    ],
)
async def test_the_lane_decides_the_service_tier_whatever_the_body_asked_for(lane, settings, sent):
    seen = []

    def handler(request):
        seen.append((request.url.path, json.loads(request.content), request.headers))
        return httpx2.Response(200, json={})

    asked = call(lane=lane, service_tier="auto", temperature=0.5)
    await replying(handler, **settings).answer(asked)
    [(path, body, headers)] = seen
    assert path == "/v1/chat/completions"
    assert body.get("service_tier") == sent
    assert {name: body[name] for name in asked.body if name != "service_tier"} == {
        name: value for name, value in asked.body.items() if name != "service_tier"
    }
    assert headers["x-client-request-id"] == "call-1"
    assert headers["traceparent"] == "00-ab-cd-01"


@pytest.mark.parametrize("lane", [Lane.DEFAULT, Lane.FLEX, Lane.PRIORITY])
async def test_embeddings_are_asked_for_without_a_tier(lane):
    answers = OpenAIAnswers(connect(provider_of()), sends_default_tier=True)
    response = await answers.answer(call(endpoint=Endpoint.EMBEDDINGS, lane=lane))
    assert response.status == 200


async def test_one_answer_is_one_request_even_when_it_fails():
    provider = provider_of()
    response = await OpenAIAnswers(connect(provider)).answer(call("hello [sim:500]"))
    assert (response.status, response.body["error"]["code"]) == (500, "server_error")
    assert provider.requests["POST /v1/chat/completions"] == 1


async def test_a_rate_limit_carries_its_wait():
    provider = provider_of(calls=CallFaults(rate_limited=1.0, retry_after_s=7))
    response = await OpenAIAnswers(connect(provider)).answer(call())
    assert (response.status, response.retry_after_s) == (429, 7.0)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
async def test_every_way_to_say_retry_after_is_understood(headers, wait_s):
    answers = replying(lambda _: httpx2.Response(429, json={"error": {}}, headers=headers))
    assert (await answers.answer(call())).retry_after_s == wait_s


async def test_flex_without_capacity_is_an_answer_and_costs_nothing():
    provider = provider_of(calls=CallFaults(flex_unavailable=1.0))
    response = await OpenAIAnswers(connect(provider)).answer(call(lane=Lane.FLEX))
    assert (response.status, response.body["error"]["code"]) == (429, "resource_unavailable")
    assert provider.billed == []


async def test_a_body_that_is_no_json_comes_as_its_text():
    response = await OpenAIAnswers(connect(provider_of())).answer(call("hello [sim:garbage]"))
    assert response.status == 200
    assert response.body == "<html>no JSON</html>"


async def test_an_error_page_and_an_empty_body_are_answers_too():
    page = await replying(lambda _: httpx2.Response(502, text="<html>bad gateway</html>")).answer(call())
    assert (page.status, page.body) == (502, "<html>bad gateway</html>")
    empty = await replying(lambda _: httpx2.Response(200)).answer(call())
    assert (empty.status, empty.body) == (200, None)


async def test_a_call_past_its_timeout_may_have_been_billed():
    provider = SimulatedProvider(Scenario(), WallClock())
    response = await OpenAIAnswers(connect(provider)).answer(call("hello [sim:timeout]", timeout_s=0.05))
    assert (response.status, response.fault, response.sent) == (None, "timeout", True)
    assert len(provider.billed) == 1


async def test_a_server_that_trickles_cannot_outlast_the_timeout():
    async def endless():
        while True:
            await asyncio.sleep(0.02)
            yield b" "

    answers = replying(lambda _: httpx2.Response(200, content=endless()))
    start = time.monotonic()
    response = await answers.answer(call(timeout_s=0.2))
    assert (response.fault, response.sent) == ("timeout", True)
    assert time.monotonic() - start < 2


async def test_a_connection_that_breaks_may_have_been_billed():
    provider = provider_of()
    response = await OpenAIAnswers(connect(provider)).answer(call("hello [sim:drop]"))
    assert (response.status, response.fault, response.sent) == (None, "connection", True)
    assert len(provider.billed) == 1


@pytest.mark.parametrize(
    ("error", "fault", "sent"),
    [
        (httpx2.ConnectError("refused"), "connection", False),
        (httpx2.ConnectTimeout("slow"), "timeout", False),
        (httpx2.PoolTimeout("busy"), "timeout", False),
        (httpx2.ReadTimeout("slow"), "timeout", True),
        (httpx2.ReadError("reset"), "connection", True),
        (ValueError("something new"), "connection", True),
    ],
)
async def test_each_failure_says_whether_the_request_left(error, fault, sent):
    def handler(_):
        raise error

    response = await replying(handler).answer(call())
    assert (response.status, response.fault, response.sent) == (None, fault, sent)


async def test_cancellation_is_the_one_thing_that_raises():
    provider = SimulatedProvider(Scenario(), WallClock())
    task = asyncio.create_task(OpenAIAnswers(connect(provider)).answer(call("[sim:timeout]", timeout_s=60)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_waits_for_a_thread_in_process():
    """An event loop on virtual time would hang on one."""
    before = threading.active_count()
    await OpenAIAnswers(connect(provider_of())).answer(call())
    assert threading.active_count() == before


async def test_only_openai_itself_is_openai():
    def at(url):
        return is_openai(build_client(base_url=url, api_key="k"))

    assert at("https://api.openai.com/v1")
    assert at("https://eu.api.openai.com/v1")
    assert not at("http://127.0.0.1:9000/v1")
    assert not at("https://notopenai.com/v1")


def test_on_a_socket_calls_end_as_they_do_in_process():
    provider = SimulatedProvider(Scenario(), WallClock())

    async def visit(url):
        async with build_client(base_url=url, api_key="") as client:
            answers = OpenAIAnswers(client)
            texts = ["hello", "a [sim:429]", "b [sim:drop]", "c [sim:timeout]"]
            return await asyncio.gather(*(answers.answer(call(text, timeout_s=1.0)) for text in texts))

    with on_a_socket(provider) as url:
        fine, limited, dropped, late = asyncio.run(visit(url))
    assert fine.status == 200
    assert (limited.status, limited.retry_after_s) == (429, 1.0)
    assert (dropped.fault, dropped.sent) == ("connection", True)
    assert (late.fault, late.sent) == ("timeout", True)
    assert len(provider.billed) == 3


def test_a_refused_connection_was_never_sent():
    with listen(0) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"

    async def visit():
        async with build_client(base_url=url, api_key="") as client:
            return await OpenAIAnswers(client).answer(call())

    response = asyncio.run(visit())
    assert (response.status, response.fault, response.sent) == (None, "connection", False)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000"}, Headroom(500, 30_000)),
        ({"x-ratelimit-limit-requests": "500"}, Headroom(500, None)),
        ({"x-ratelimit-limit-requests": "0", "x-ratelimit-limit-tokens": "-1"}, None),
        ({"x-ratelimit-limit-requests": "many"}, None),
        ({}, None),
    ],
)
async def test_the_provider_s_limits_are_read_where_they_are_told(headers, told):
    answers = replying(lambda _: httpx2.Response(200, json={}, headers=headers))
    assert (await answers.answer(call())).headroom == told


async def test_a_429_tells_the_limits_too():
    provider = provider_of(limits={"*": RateLimit(requests_per_minute=60, burst_s=1)})
    answers = OpenAIAnswers(connect(provider))
    assert (await answers.answer(call())).headroom == Headroom(60, None)
    limited = await answers.answer(call())
    assert (limited.status, limited.headroom, limited.retry_after_s) == (429, Headroom(60, None), 1.0)


async def _no_key() -> str:
    raise ConfigError("the secret has no value")


async def _broken_key() -> str:
    raise RuntimeError("sk-secret")


async def _of(text: str) -> str:
    return text


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (_no_key, "the secret has no value"),
        (_broken_key, "RuntimeError"),
        *((partial(_of, text), "store it anew") for text in ("", "sk-secret ", "sk-secret\n", "sk-secr\u00e9t")),
    ],
)
async def test_a_call_without_a_usable_key_was_never_sent_and_halts_without_telling_the_key(key, why):
    asked = []
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(asked.append))
    answers = OpenAIAnswers(build_client(base_url="http://elsewhere/v1", api_key=key, http_client=http_client))
    response = await answers.answer(call())
    assert (response.sent, asked) == (False, [])
    outcome = judge(response, Lane.DEFAULT)
    assert isinstance(outcome, Halt)
    assert why in outcome.message
    assert "sk-" not in outcome.message


@pytest.mark.parametrize(
    ("found", "statuses"),
    [
        (Presence.THERE, (200, 301, 400, 404, 405, 429)),
        (Presence.UNWELCOME, (401, 402, 403)),
        (Presence.ABSENT, (500, 502, 503, 504, 529)),
    ],
)
async def test_a_question_that_buys_nothing_says_whether_somebody_is_there(found, statuses):
    asked = []
    for status in statuses:

        def handler(request, status=status):
            asked.append((request.method, request.url.path))
            return httpx2.Response(status, text="whatever")

        assert await replying(handler).presence() is found
    assert asked == [("GET", "/v1/models")] * len(statuses)


async def test_a_provider_that_does_not_answer_it_is_not_there():
    def handler(request):
        raise httpx2.ConnectError("refused", request=request)

    assert await replying(handler).presence() is Presence.ABSENT


async def test_without_a_key_nobody_is_asked_and_nobody_is_given_up():
    asked = []
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(asked.append))
    answers = OpenAIAnswers(build_client(base_url="http://elsewhere/v1", api_key=_no_key, http_client=http_client))
    assert await answers.presence() is Presence.THERE
    assert asked == []


async def test_the_simulated_provider_is_there_and_bills_nothing_for_saying_so():
    provider = provider_of()
    assert await OpenAIAnswers(connect(provider)).presence() is Presence.THERE
    assert (provider.billed, provider.requests["GET /v1/models"]) == ([], 1)
