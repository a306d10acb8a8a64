"""Everything that the simulated provider answers with, held strictly to the types of the provider's own SDK."""

from __future__ import annotations

import json

import httpx2
import pytest
from openai.types import (
    Batch,
    Completion,
    CreateEmbeddingResponse,
    FileDeleted,
    FileObject,
    Model,
)
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from lowtide_local.simulator import Scenario, SimulatedProvider, build_app
from lowtide_local.simulator.scenario import BatchWeather
from lowtide_local.simulator.testing import SteppingClock

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "hello"}]
LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "gpt-5-mini", "messages": MESSAGES},
}
FAILS = LINE | {
    "custom_id": "b",
    "body": {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "[sim:500]"}]},
}
ORDER = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"k": "v"}}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def provider():
    weather = BatchWeather(min_s=100, max_s=100, cancel_s=10, window_s=86_400)
    return SimulatedProvider(Scenario(batch=weather), SteppingClock())


@pytest.fixture
async def http(provider):
    transport = httpx2.ASGITransport(app=build_app(provider))
    async with httpx2.AsyncClient(transport=transport, base_url="http://simulated") as client:
        yield client


def held(kind, answer):
    """The answer's body, which is one of the SDK's ``kind`` and has every required field, and no other."""
    body = answer.json()
    read = kind.model_validate(body, strict=True)
    assert not read.model_extra, f"{kind.__name__} knows no {read.model_extra}"
    return body


def listed(kind, answer):
    body = answer.json()
    assert body.keys() == {"object", "data", "first_id", "last_id", "has_more"}
    assert (body["object"], type(body["has_more"])) == ("list", bool)
    for each in body["data"]:
        kind.model_validate(each, strict=True)
    ends = [body["data"][0]["id"], body["data"][-1]["id"]] if body["data"] else [None, None]
    assert [body["first_id"], body["last_id"]] == ends
    return body["data"]


async def upload(http, *lines, **more):
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return await http.post("/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch", **more})


async def test_a_file_is_one_wherever_it_is_shown(http):
    kept = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = held(FileObject, await upload(http, LINE, **kept))
    assert file["expires_at"] == file["created_at"] + 3_600
    assert held(FileObject, await http.get(f"/v1/files/{file['id']}")) == file
    assert listed(FileObject, await http.get("/v1/files")) == [file]
    held(FileDeleted, await http.delete(f"/v1/files/{file['id']}"))
    assert listed(FileObject, await http.get("/v1/files")) == []


async def test_a_batch_is_one_at_every_moment_of_its_life(http, provider):
    file = (await upload(http, LINE, FAILS)).json()
    batch = held(Batch, await http.post("/v1/batches", json=ORDER | {"input_file_id": file["id"]}))
    statuses = [batch["status"]]
    for _ in range(20):
        provider.clock.advance(5)
        batch = held(Batch, await http.get(f"/v1/batches/{batch['id']}"))
        statuses.append(batch["status"])
    assert list(dict.fromkeys(statuses)) == ["validating", "in_progress", "finalizing", "completed"]
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    assert listed(Batch, await http.get("/v1/batches")) == [batch]
    for kind in ("output", "error"):
        stored = held(FileObject, await http.get(f"/v1/files/{batch[f'{kind}_file_id']}"))
        assert stored["purpose"] == "batch_output"


async def test_a_batch_that_fails_or_is_cancelled_is_one_too(http, provider):
    gone = held(Batch, await http.post("/v1/batches", json=ORDER | {"input_file_id": "file-none"}))
    file = (await upload(http, LINE)).json()
    batch = held(Batch, await http.post("/v1/batches", json=ORDER | {"input_file_id": file["id"]}))
    assert held(Batch, await http.post(f"/v1/batches/{batch['id']}/cancel"))["status"] == "cancelling"
    provider.clock.advance(10)
    cancelled = held(Batch, await http.get(f"/v1/batches/{batch['id']}"))
    assert (cancelled["status"], type(cancelled["cancelling_at"]), type(cancelled["cancelled_at"])) == (
        "cancelled",
        int,
        int,
    )
    failed = held(Batch, await http.get(f"/v1/batches/{gone['id']}"))
    assert (failed["status"], type(failed["failed_at"])) == ("failed", int)
    assert failed["errors"]["data"][0].keys() == {"code", "message", "param", "line"}


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v1/chat/completions", ChatCompletion, {"messages": MESSAGES}),
        ("/v1/chat/completions", ChatCompletion, {"messages": [{"role": "user", "content": "[sim:decline]"}]}),
        ("/v1/responses", Response, {"input": "hello"}),
        ("/v1/responses", Response, {"input": "hello", "max_output_tokens": 2}),
        ("/v1/embeddings", CreateEmbeddingResponse, {"input": ["one", "two"]}),
        ("/v1/completions", Completion, {"prompt": "hello"}),
    ],
)
async def test_an_answer_is_what_its_endpoint_answers_with(http, path, kind, body):
    answer = await http.post(path, json={"model": "gpt-5-mini", **body})
    assert answer.status_code == 200
    kind.model_validate(answer.json(), strict=True)


async def test_a_model_is_one_wherever_it_is_shown(http):
    body = (await http.get("/v1/models")).json()
    assert body["object"] == "list"
    for each in body["data"]:
        assert held(Model, await http.get(f"/v1/models/{each['id']}")) == each


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/files/file-none", 404),
        ("GET", "/v1/files/file-none/content", 404),
        ("DELETE", "/v1/files/file-none", 404),
        ("GET", "/v1/batches/batch-none", 404),
        ("POST", "/v1/batches/batch-none/cancel", 404),
        ("POST", "/v1/batches", 400),
        ("POST", "/v1/files", 400),
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/v1/files?limit=0", 400),
        ("GET", "/v1/nothing", 404),
    ],
)
async def test_every_refusal_has_the_shape_of_one(http, method, path, status):
    answer = await http.request(method, path)
    assert answer.status_code == status
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    assert isinstance(body["error"]["type"], str)
