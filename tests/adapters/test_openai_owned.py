"""Which batches and files of an account are a deployment's own."""

from __future__ import annotations

import io

import httpx2
import pytest

from lowtide.adapters.openai import batches as module
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.core.errors import ProviderRefused
from lowtide.core.lines import request_line
from lowtide.core.task import Endpoint
from lowtide.ports import OwnedKind, SubmissionKey
from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.scenario import BatchWeather
from lowtide_local.simulator.testing import SteppingClock, connect
from tests.adapters.compatible_server import CompatibleServer

pytestmark = pytest.mark.anyio
KEY = SubmissionKey("prod", "b-1", 1)
BODY = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello. [sim:500]"}]}


@pytest.fixture
def anyio_backend():
    return "asyncio"


def provider_of():
    return SimulatedProvider(Scenario(batch=BatchWeather(min_s=100, max_s=100)), SteppingClock())


def api_of(provider):
    return OpenAIBatches(connect(provider), provider.clock)


def over(app):
    http_client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
    return OpenAIBatches(
        build_client(base_url="http://elsewhere/v1", api_key="", http_client=http_client), SteppingClock()
    )


def replying(handler):
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    return OpenAIBatches(
        build_client(base_url="http://elsewhere/v1", api_key="k", http_client=http_client), SteppingClock()
    )


async def submit(api, key=KEY):
    ref = await api.prepare(key, io.BytesIO(request_line("t0", Endpoint.CHAT, BODY)))
    return await api.create(key, Endpoint.CHAT, ref)


async def owned(api, deployment="prod"):
    return [(each.kind, each.id, each.key) async for each in api.owned(deployment)]


async def test_a_batch_its_input_and_what_it_wrote_are_its_deployments():
    provider = provider_of()
    api = api_of(provider)
    created = await submit(api)
    assert set(await owned(api)) == {
        (OwnedKind.BATCH, created.id, KEY),
        (OwnedKind.INPUT, created.input_ref, KEY),
    }
    provider.clock.advance(100)
    ended = await api.get(created.id)
    assert set(await owned(api)) == {
        (OwnedKind.BATCH, created.id, KEY),
        (OwnedKind.INPUT, created.input_ref, KEY),
        (OwnedKind.OUTPUT, ended.error_ref, KEY),
    }


async def test_an_output_comes_with_its_batch_and_both_with_their_age():
    provider = provider_of()
    api = api_of(provider)
    created = await submit(api)
    began = provider.clock.now()
    provider.clock.advance(100)
    by_kind = {each.kind: each async for each in api.owned("prod")}
    assert by_kind[OwnedKind.OUTPUT].batch.id == created.id
    assert by_kind[OwnedKind.INPUT].created_at == by_kind[OwnedKind.BATCH].created_at == began
    assert by_kind[OwnedKind.OUTPUT].created_at == provider.clock.now()


@pytest.mark.parametrize("other", ["prod-eu", "prod.eu", "pro", "Prod", "pr/od"])
async def test_what_carries_another_name_is_anothers(other):
    provider = provider_of()
    api = api_of(provider)
    created = await submit(api, SubmissionKey(other, "b-1", 1))
    provider.clock.advance(100)
    assert await owned(api) == []
    assert (OwnedKind.BATCH, created.id, SubmissionKey(other, "b-1", 1)) in await owned(api, other)


@pytest.mark.parametrize("deployment", ["my stack", "a/b", "ü", "a.b"])
async def test_an_input_is_known_by_a_name_that_had_to_be_changed_for_it(deployment):
    provider = provider_of()
    api = api_of(provider)
    key = SubmissionKey(deployment, "b-1", 12)
    ref = await api.prepare(key, io.BytesIO(b"{}\n"))
    assert await owned(api, deployment) == [(OwnedKind.INPUT, ref, key)]
    assert await owned(api, "a_b") == await owned(api, "my_stack") == []


async def test_files_that_somebody_else_put_there_are_anothers():
    provider = provider_of()
    for name in ("data.jsonl", "lowtide-prod.jsonl", "lowtide-prod.b-1.jsonl", "lowtide-prod.b-1.1-x.jsonl"):
        provider.upload(name, "batch", b"{}\n")
    assert await owned(api_of(provider)) == []


async def test_where_metadata_is_not_kept_a_batch_is_known_by_its_input():
    server = CompatibleServer(fails=frozenset({"t0"}))
    api = over(server.app)
    await submit(api)
    found = {each.id: each async for each in api.owned("prod")}
    assert found.keys() == {"batch-1", "in", "out", "err"}
    assert {each.key for each in found.values()} == {KEY}
    assert {each.created_at for each in found.values()} == {None}, "without an age, nothing of it is ever old enough"
    assert await owned(api, "other") == []


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_server_without_lists_owns_nothing(status):
    assert await owned(replying(lambda _: httpx2.Response(status, json={"detail": "no"}))) == []


@pytest.mark.parametrize("body", [{}, [], {"data": None}, {"data": ["x", {"id": None}, {"id": ""}, {"filename": 3}]}])
async def test_an_answer_that_is_no_list_owns_nothing(body):
    assert await owned(replying(lambda _: httpx2.Response(200, json=body))) == []


async def test_a_refused_key_is_no_empty_account():
    with pytest.raises(ProviderRefused):
        await owned(replying(lambda _: httpx2.Response(401, json={"error": {"message": "no"}})))


async def test_an_account_that_is_full_of_others_files_is_looked_through_only_so_far(monkeypatch):
    monkeypatch.setattr(module, "_SWEPT_PAGES", 3)
    asked = []

    def endless(request):
        asked.append(request.url.path)
        rows = [{"id": f"{len(asked)}-{n}", "filename": "data.jsonl"} for n in range(100)]
        return httpx2.Response(200, json={"data": rows, "has_more": True})

    assert await owned(replying(endless)) == []
    assert asked == ["/v1/files"] * 3 + ["/v1/batches"] * 3


async def test_what_is_older_than_a_week_is_not_asked_for():
    asked = []

    def old(request):
        asked.append(request.url.path)
        rows = [{"id": f"{len(asked)}-{n}", "created_at": 1_000 - n} for n in range(100)]
        return httpx2.Response(200, json={"data": rows, "has_more": True})

    assert await owned(replying(old)) == []
    assert asked == ["/v1/files", "/v1/batches"]
