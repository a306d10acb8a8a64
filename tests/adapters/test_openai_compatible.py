"""Provider batches at a server that is not OpenAI: what was seen to differ does no harm."""

from __future__ import annotations

import io

import httpx2
import pytest

from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.core.batches import ProviderStatus
from lowtide.core.collection import Reading
from lowtide.core.lines import request_line
from lowtide.core.outcomes import Answered
from lowtide.core.result_lines import parse_result_line
from lowtide.core.task import Endpoint
from lowtide.ports import SubmissionKey
from lowtide_local.simulator.testing import SteppingClock
from tests.adapters.compatible_server import CompatibleServer

pytestmark = pytest.mark.anyio
KEY = SubmissionKey("prod", "b-1", 1)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def api_of(server):
    http_client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=server.app))
    return OpenAIBatches(
        build_client(base_url="http://elsewhere/v1", api_key="", http_client=http_client), SteppingClock()
    )


def content_of(*custom_ids):
    return b"".join(request_line(each, Endpoint.CHAT, {"model": "m"}) for each in custom_ids)


async def submit(api, *custom_ids):
    ref = await api.prepare(KEY, io.BytesIO(content_of(*custom_ids)))
    return await api.create(KEY, Endpoint.CHAT, ref)


async def test_a_batch_goes_the_whole_way_and_each_line_is_read():
    server = CompatibleServer(fails=frozenset({"t1"}))
    api = api_of(server)
    assert await api.supported()
    created = await submit(api, "t0", "t1")
    batch = await api.get(created.id)
    assert batch.status is ProviderStatus.COMPLETED
    reading = Reading()
    expected = ("t0", "t1")
    taken = [reading.take(parse_result_line(raw), expected) async for raw in api.results(batch)]
    [finished] = [each for each in taken if each is not None]
    assert finished.custom_id == "t0"
    assert finished.outcome == Answered()
    assert finished.response.body["usage"] == {"prompt_tokens": 1, "completion_tokens": 2}
    [(custom_id, again, _)] = reading.unanswered(expected, batch)
    assert (custom_id, again.message) == ("t1", "dropped")
    await api.clean([batch.input_ref, batch.output_ref, batch.error_ref])
    assert set(server.files) == {"in", "out", "err"}


async def test_an_error_file_without_a_line_is_no_broken_download():
    api = api_of(CompatibleServer())
    batch = await api.get((await submit(api, "t0")).id)
    assert batch.error_ref == "err"
    assert len([line async for line in api.results(batch)]) == 1


async def test_a_submission_is_found_again_without_metadata_and_an_input_without_pages():
    api = api_of(CompatibleServer())
    assert await api.find(KEY, "in") is None
    await submit(api, "t0")
    assert (await api.find(KEY, "in")).id == "batch-1"
    assert await api.prepare(KEY, io.BytesIO(content_of("t0"))) == "in"


async def test_a_batch_that_nobody_knows_is_none_whatever_the_shape_of_the_404():
    assert await api_of(CompatibleServer()).get("batch-2") is None


@pytest.mark.parametrize(
    ("errors", "code", "message"),
    [
        ({"data": [{"code": "invalid", "message": "bad", "line": 1}]}, "invalid", "bad"),
        ({"type": "server_error", "message": "bad"}, "server_error", "bad"),
        ("bad", None, "bad"),
    ],
)
async def test_why_a_batch_failed_is_read_from_any_shape_of_its_errors(errors, code, message):
    api = api_of(CompatibleServer(errors=errors))
    batch = await api.get((await submit(api, "t0")).id)
    assert batch.status is ProviderStatus.FAILED
    assert [(fault.code, fault.message) for fault in batch.faults] == [(code, message)]


async def test_a_failed_batch_that_names_its_error_in_the_singular_is_understood():
    server = CompatibleServer(errors="")
    api = api_of(server)
    await submit(api, "t0")
    server.batch |= {"error": "the input is no file of ours"}
    batch = await api.get("batch-1")
    assert [fault.message for fault in batch.faults] == ["the input is no file of ours"]
