"""What the simulated provider refuses: orders of batches, uploads, and the lines of an input, each by its name."""

from __future__ import annotations

import json

import openai
import pytest

from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.catalog import priced_models
from lowtide_local.simulator.testing import SteppingClock
from tests.simulator.sdk import connect

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]}
LINE = {"custom_id": "a", "method": "POST", "url": CHAT, "body": BODY}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def provider():
    return SimulatedProvider(Scenario(strict_models=True), SteppingClock())


async def uploaded(client, lines):
    content = b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in lines)
    return (await client.files.create(file=("in.jsonl", content), purpose="batch")).id


async def faults(provider, *lines, endpoint=CHAT):
    """(line, code, param) of each fault, and the batch."""
    client = connect(provider)
    file_id = await uploaded(client, lines)
    batch = await client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h")
    assert batch.status == "failed"
    assert batch.failed_at is not None
    return [(fault.line, fault.code, fault.param) for fault in batch.errors.data]


def without(name, of=LINE):
    return {key: value for key, value in of.items() if key != name}


def with_body(**changes):
    return LINE | {"body": BODY | changes}


async def test_every_line_that_lacks_something_is_named_with_what_it_lacks(provider):
    lines = [
        *(without(name) for name in ("custom_id", "method", "url", "body")),
        LINE | {"custom_id": "model", "body": without("model", BODY)},
        LINE | {"custom_id": "messages", "body": without("messages", BODY)},
    ]
    assert await faults(provider, *lines) == [
        (1, "missing_required_parameter", "custom_id"),
        (2, "missing_required_parameter", "method"),
        (3, "missing_required_parameter", "url"),
        (4, "missing_required_parameter", "body"),
        (5, "invalid_request", "body.model"),
        (6, "invalid_request", "body.messages"),
    ]


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (with_body(stream=True), "streaming_unsupported", "body.stream"),
        (with_body(model="nobody-knows-it"), "model_not_found", "body.model"),
        (with_body(model=7), "invalid_type", "body.model"),
        (LINE | {"url": "/v1/embeddings"}, "invalid_url", "url"),
        (LINE | {"method": "GET"}, "invalid_method", "method"),
        (LINE | {"custom_id": 7}, "invalid_type", "custom_id"),
        (LINE | {"body": []}, "invalid_type", "body"),
        (b"[]\n", "invalid_json_line", None),
        (b"{broken\n", "invalid_json_line", None),
    ],
)
async def test_one_faulty_line_fails_its_batch_and_is_named(provider, line, code, param):
    assert await faults(provider, LINE | {"custom_id": "fine"}, line) == [(2, code, param)]


@pytest.mark.parametrize(
    ("endpoint", "body", "param"),
    [
        ("/v1/responses", {"model": "gpt-5-mini"}, "body.input"),
        ("/v1/embeddings", {"model": "text-embedding-3-small"}, "body.input"),
        ("/v1/completions", {"model": "gpt-5-mini"}, "body.prompt"),
    ],
)
async def test_each_endpoint_misses_its_own_input(provider, endpoint, body, param):
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
    assert await faults(provider, line, endpoint=endpoint) == [(1, "invalid_request", param)]


async def test_a_stored_prompt_stands_for_the_input(provider):
    client = connect(provider)
    body = {"model": "gpt-5-mini", "prompt": {"id": "pmpt_1"}}
    file_id = await uploaded(client, [{"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}])
    batch = await client.batches.create(input_file_id=file_id, endpoint="/v1/responses", completion_window="24h")
    assert batch.status == "completed"


async def test_a_text_completion_is_answered_in_a_batch_and_by_a_call(provider):
    client = connect(provider)
    body = {"model": "gpt-5-mini", "prompt": "Say hello", "max_tokens": 3}
    answer = await client.completions.create(**body)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)
    file_id = await uploaded(client, [{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}])
    batch = await client.batches.create(input_file_id=file_id, endpoint="/v1/completions", completion_window="24h")
    line = json.loads((await client.files.content(batch.output_file_id)).content)
    assert line["response"]["body"]["choices"][0]["text"] == answer.choices[0].text


@pytest.mark.parametrize("gone", ["never there", "deleted"])
async def test_a_batch_of_a_file_that_is_not_there_is_created_and_fails_naming_no_line(provider, gone):
    client = connect(provider)
    file_id = "file-nobody-uploaded"
    if gone == "deleted":
        file_id = await uploaded(client, [LINE])
        await client.files.delete(file_id)
    batch = await client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    [fault] = batch.errors.data
    assert (batch.status, batch.input_file_id) == ("failed", file_id)
    assert (fault.code, fault.line, fault.param) == ("invalid_request", None, "file_id")
    assert fault.message.startswith(f"Cannot find file {file_id}")
    assert provider.billed == []


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"metadata": {"tags": ["a", "b"]}}, "invalid_type", "metadata.tags"),
        ({"metadata": {"n": 1}}, "invalid_type", "metadata.n"),
        ({"metadata": "text"}, "invalid_type", "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata.k"),
        ({"metadata": {"k" * 65: "v"}}, "string_above_max_length", f"metadata.{'k' * 65}"),
        ({"completion_window": "48h"}, "invalid_value", "completion_window"),
        ({"endpoint": "/v1/invalid/endpoint"}, "invalid_value", "endpoint"),
        ({"endpoint": None}, "missing_required_parameter", "endpoint"),
        ({"input_file_id": None}, "missing_required_parameter", "input_file_id"),
        ({"input_file_id": 7}, "invalid_type", "input_file_id"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "invalid_value", "output_expires_after"),
    ],
)
async def test_an_order_that_is_wrong_is_refused_with_the_parameter_at_fault(provider, changes, code, param):
    client = connect(provider)
    order = {"input_file_id": await uploaded(client, [LINE]), "endpoint": CHAT, "completion_window": "24h", **changes}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/batches", cast_to=object, body=order)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert (await client.batches.list()).data == []


async def test_result_files_go_by_themselves_when_the_order_says_so(provider):
    client = connect(provider)
    batch = await client.batches.create(
        input_file_id=await uploaded(client, [LINE]),
        endpoint=CHAT,
        completion_window="24h",
        output_expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    stored = await client.files.retrieve(batch.output_file_id)
    assert stored.expires_at == stored.created_at + 3_600
    provider.clock.advance(3_600)
    with pytest.raises(openai.NotFoundError):
        await client.files.content(batch.output_file_id)


@pytest.mark.parametrize(
    ("name", "content", "purpose", "param"),
    [
        ("in.jsonl", b"{}\n", "lunch", "purpose"),
        ("in.jsonl", b"{}\n", "batch_output", "purpose"),
        ("in.json", b"{}\n", "batch", "file"),
        ("in.jsonl", b"", "batch", "file"),
        ("in.jsonl", b"{malformed json", "batch", "file"),
    ],
)
async def test_an_upload_that_is_wrong_is_refused_with_the_parameter_at_fault(provider, name, content, purpose, param):
    with pytest.raises(openai.BadRequestError) as caught:
        await connect(provider).files.create(file=(name, content), purpose=purpose)
    assert caught.value.param == param
    assert provider.state()["files"] == []


@pytest.mark.parametrize("purpose", ["assistants", "fine-tune", "vision", "user_data"])
async def test_a_file_for_something_else_is_taken_and_is_no_input_of_a_batch(provider, purpose):
    client = connect(provider)
    stored = await client.files.create(file=("a.txt", b"anything"), purpose=purpose)
    assert stored.purpose == purpose
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await client.batches.create(input_file_id=stored.id, endpoint=CHAT, completion_window="24h")


async def test_an_input_beyond_200_mb_is_refused(provider, monkeypatch):
    monkeypatch.setattr("lowtide_local.simulator.files._LARGEST_INPUT", 100)
    with pytest.raises(openai.APIStatusError) as caught:
        await uploaded(connect(provider), [LINE])
    assert caught.value.status_code == 413


async def test_models_are_known_by_name_by_pattern_and_by_their_dated_snapshots():
    scenario = Scenario(strict_models=True, models=("gpt-5-mini", "my-*"))
    client = connect(SimulatedProvider(scenario, SteppingClock()))
    assert [model.id for model in (await client.models.list()).data] == ["gpt-5-mini"]
    for known in ("gpt-5-mini", "gpt-5-mini-2025-08-07", "openai/gpt-5-mini", "my-own"):
        assert (await client.models.retrieve(known)).id == known
    for unknown in ("gpt-5", "nonexistent-model-xyz"):
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await client.models.retrieve(unknown)


async def test_the_shipped_weather_knows_the_priced_models_and_no_other():
    client = connect(SimulatedProvider(Scenario.default(), SteppingClock()))
    assert {model.id for model in (await client.models.list()).data} == set(priced_models())
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(**BODY | {"model": "nonexistent-model-xyz"})
