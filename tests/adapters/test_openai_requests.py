"""What goes over the wire, beside what OpenAI's own SDK sends for the same call."""

from __future__ import annotations

import io
import json
import re
import ssl

import httpx2
import pytest
from openai import AsyncOpenAI

from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.adapters.openai.headers import headers_of
from lowtide.adapters.openai.ranges import asking
from lowtide.core.batches import ProviderBatch, ProviderStatus
from lowtide.core.errors import ConfigError, Unreachable
from lowtide.core.lanes import Lane
from lowtide.core.task import Endpoint
from lowtide.ports import Call, SubmissionKey
from lowtide_local.simulator.testing import SteppingClock

KEY = SubmissionKey("run-1", "b-1", 1)
LINES = b'{"custom_id": "\xe2\x80\xa8"}\n'
CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": 'a "b" \\ \u2028 \x7f ü 😀 \ud7ff \x00'}],
    "temperature": 1e-7,
    "seed": 2**63 - 1,
    "top_p": 1.0,
    "logit_bias": {"50256": -100},
    "n": None,
}
HEADERS = ("authorization", "accept", "content-type", "openai-organization", "openai-project", "x-team", "traceparent")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def wired(seen):
    def reply(request):
        body = request.read()
        kind = request.headers.get("content-type", "")
        boundary = re.search(r"boundary=(\S+)", kind)
        if boundary is not None:
            body = body.replace(boundary[1].encode(), b"BOUNDARY")
            parts = sorted(body.split(b"--BOUNDARY"))
        else:
            parts = json.loads(body) if body else None
        headers = {name: request.headers.get(name) for name in HEADERS}
        headers["content-type"] = kind.partition(";")[0]
        url = request.url
        seen.append((request.method, url.scheme, url.host, url.path, sorted(url.params.multi_items()), headers, parts))
        if url.path.endswith("/content"):
            return httpx2.Response(200, content=b"{}\n")
        return httpx2.Response(200, json={"id": "batch_1", "data": [], "object": "list", "status": "completed"})

    return httpx2.AsyncClient(transport=httpx2.MockTransport(reply))


async def by_lowtide(base_url):
    seen = []
    client = build_client(base_url=base_url, api_key="sk-1", http_client=wired(seen))
    answers, batches = OpenAIAnswers(client, sends_default_tier=True), OpenAIBatches(client, SteppingClock())
    await answers.answer(Call(Endpoint.CHAT, CHAT, Lane.FLEX, "id-1", 5.0, traceparent="00-1-2-03"))
    await answers.answer(Call(Endpoint.RESPONSES, {"model": "m", "input": "hi"}, Lane.DEFAULT, "id-2", 5.0))
    await answers.answer(Call(Endpoint.EMBEDDINGS, {"model": "m", "input": ["hi"]}, Lane.DEFAULT, "id-3", 5.0))
    await answers.presence()
    await batches.prepare(KEY, io.BytesIO(LINES))
    await batches.create(KEY, Endpoint.CHAT, "file_1")
    await batches.get("batch_1")
    await batches.cancel("batch_1")
    await batches.clean(["file_1"])
    await batches.supported()
    batch = ProviderBatch(id="batch_1", status=ProviderStatus.COMPLETED, output_ref="file_2")
    assert [line async for line in batches.results(batch)] == [b"{}"]
    return seen


async def by_the_sdk(base_url):
    seen = []
    address, _, query = base_url.partition("?")
    asked = dict(pair.split("=") for pair in query.split("&") if pair)
    client = AsyncOpenAI(base_url=address, api_key="sk-1", max_retries=0, default_query=asked, http_client=wired(seen))
    raw = client.with_raw_response
    await client.post(
        "/chat/completions",
        cast_to=httpx2.Response,
        body=CHAT | {"service_tier": "flex"},
        options={"headers": {"traceparent": "00-1-2-03"}},
    )
    await raw.responses.create(model="m", input="hi", service_tier="default")
    await raw.embeddings.create(model="m", input=["hi"], encoding_format="float")
    await raw.models.list()
    openais_own = "openai.com" in address
    kept = {"anchor": "created_at", "seconds": 2_592_000}
    await raw.files.list(limit=100, order="desc", purpose="batch")
    file = ("lowtide-run-1.b-1.1.jsonl", io.BytesIO(LINES), "application/jsonl")
    await raw.files.create(purpose="batch", file=file, **({"expires_after": kept} if openais_own else {}))
    await raw.batches.create(
        input_file_id="file_1",
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"lowtide_key": KEY.text, "lowtide_deployment": KEY.deployment},
        **({"output_expires_after": kept} if openais_own else {}),
    )
    await raw.batches.retrieve("batch_1")
    await raw.batches.cancel("batch_1")
    await raw.files.delete("file_1")
    await raw.batches.list(limit=1)
    await client.files.content("file_2")
    return seen


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.openai.com/v1",
        "https://elsewhere.example/v1",
        "https://elsewhere.example/a%20b/openai/v1/",
        "https://elsewhere.example/openai/v1?api-version=2025-04-01-preview&label=x",
        "http://[::1]:8000/v1",
    ],
)
async def test_each_request_is_the_one_that_the_sdk_sends(monkeypatch, base_url):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: search\nnonsense")
    ours, theirs = await by_lowtide(base_url), await by_the_sdk(base_url)
    for mine, sdks in zip(ours, theirs, strict=True):
        if isinstance(sdks[-1], dict):
            sdks[-1].pop("encoding_format", None)  # the SDK's own addition
        if sdks[0] == "DELETE":
            sdks[5]["content-type"] = ""  # it names a type for a body that it does not send
        assert mine == sdks


async def test_a_header_of_ones_own_replaces_the_keys(monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "authorization: Basic abc")
    ours, theirs = await by_lowtide("https://elsewhere.example/v1"), await by_the_sdk("https://elsewhere.example/v1")
    assert {seen[5]["authorization"] for seen in ours} == {seen[5]["authorization"] for seen in theirs} == {"Basic abc"}


async def test_the_request_says_which_program_and_release_sent_it():
    agents = []
    transport = httpx2.MockTransport(
        lambda request: agents.append(request.headers["user-agent"]) or httpx2.Response(200)
    )
    client = build_client(base_url="http://p/v1", api_key="k", http_client=httpx2.AsyncClient(transport=transport))
    await client.get("/models")
    assert re.fullmatch(r"lowtide/\d+\.\d+\.\d+", agents[0])


async def test_a_type_of_ones_own_breaks_no_upload(monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: search\nContent-Type: application/json\nContent-Length: 3")
    seen = await by_lowtide("https://elsewhere.example/v1")
    [upload] = [each for each in seen if (each[0], each[3]) == ("POST", "/v1/files")]
    assert upload[5]["content-type"] == "multipart/form-data"
    assert upload[5]["x-team"] == "search"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPENAI_ORG_ID", "caf\u00e9"),
        ("OPENAI_ORG_ID", "a\udce9"),
        ("OPENAI_PROJECT_ID", "p\r\nX-Evil: 1"),
        ("OPENAI_CUSTOM_HEADERS", "X T: b"),
        ("OPENAI_CUSTOM_HEADERS", "X-\u00e9: b"),
        ("OPENAI_CUSTOM_HEADERS", "a: b\rc"),
    ],
)
async def test_what_no_header_can_carry_is_refused_before_any_request(variable, value):
    with pytest.raises(ConfigError, match=variable) as refused:
        headers_of({variable: value})
    assert value not in str(refused.value)


async def test_blanks_around_an_organisation_are_no_part_of_it():
    assert headers_of({"OPENAI_ORG_ID": " org-1\n"})["openai-organization"] == "org-1"


class Failing(io.BytesIO):
    def read(self, *_):
        raise OSError(5, "Input/output error")


def answering(reply):
    transport = httpx2.MockTransport(reply)
    return build_client(base_url="http://p/v1", api_key="k", http_client=httpx2.AsyncClient(transport=transport))


def failing_with(error):
    def reply(_):
        raise error

    return answering(reply)


async def test_a_disk_that_fails_while_a_file_is_sent_is_no_fault_of_the_network():
    batches = OpenAIBatches(answering(lambda _: httpx2.Response(404)), SteppingClock())
    with pytest.raises(OSError, match="Input/output"):
        await batches.prepare(KEY, Failing(LINES))


async def test_a_garbled_record_of_tls_is_the_networks():
    client = failing_with(ssl.SSLError(1, "bad record"))
    with pytest.raises(Unreachable, match="TLS"):
        await OpenAIBatches(client, SteppingClock()).get("batch_1")
    response = await OpenAIAnswers(client).answer(Call(Endpoint.CHAT, CHAT, Lane.DEFAULT, "id", 5.0))
    assert (response.fault, response.sent) == ("connection", True)


async def test_a_body_that_tls_garbles_half_way_is_a_download_that_broke_off():
    async def body():
        yield b"{}\n"
        raise ssl.SSLError(1, "bad record")

    client = answering(lambda _: httpx2.Response(200, content=body()))
    batch = ProviderBatch(id="batch_1", status=ProviderStatus.COMPLETED, output_ref="file_2")
    with pytest.raises(Unreachable, match="TLS"):
        _ = [line async for line in OpenAIBatches(client, SteppingClock()).results(batch)]


async def test_a_proxy_that_refuses_has_sent_nothing_on():
    answers = OpenAIAnswers(failing_with(httpx2.ProxyError("407 Proxy Authentication Required")))
    response = await answers.answer(Call(Endpoint.CHAT, CHAT, Lane.DEFAULT, "id", 5.0))
    assert (response.fault, response.sent) == ("connection", False)


@pytest.mark.parametrize("id_", ["..", ".", ""])
async def test_an_id_that_leads_elsewhere_is_never_asked_for(id_):
    batches = OpenAIBatches(failing_with(AssertionError("something was asked for")), SteppingClock())
    with pytest.raises(Unreachable, match="no address can hold"):
        await batches.get(id_)
    with pytest.raises(Unreachable, match="no address can hold"):
        await batches.cancel(id_)


async def test_a_gateways_key_that_comes_back_is_masked(monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Ocp-Apim-Subscription-Key: 0123456789abcdef")
    said = {"error": {"message": "no such subscription 0123456789abcdef"}}
    client = answering(lambda _: httpx2.Response(400, json=said))
    response = await OpenAIAnswers(client).answer(Call(Endpoint.CHAT, CHAT, Lane.DEFAULT, "id", 5.0))
    assert "0123456789abcdef" not in json.dumps(response.body)


async def test_an_etag_that_no_header_can_carry_is_not_sent():
    assert "If-Range" not in asking(5_000, '"\u00e9"')
    assert asking(5_000, '"e"')["If-Range"] == '"e"'
