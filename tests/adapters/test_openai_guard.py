"""Redirects and bodies without an end: the key goes nowhere else, and no reply fills memory or disk."""

from __future__ import annotations

import gzip
import io
import json
import random
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache

import httpx2
import pytest

from lowtide.adapters.openai import guard
from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.adapters.openai.downloads import lines_of
from lowtide.core.errors import ProviderRefused, Redirected, Unreachable
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import REDIRECTED, Again, Halt, judge
from lowtide.core.task import Endpoint
from lowtide.ports import Call, SubmissionKey
from lowtide_local.simulator.testing import SteppingClock

pytestmark = pytest.mark.anyio
KEY = "sk-canary-0123456789"
HOME = "https://here.example/v1"
ANSWER = {"object": "chat.completion", "choices": [{"message": {"content": "Hello."}}], "usage": {}}
ORDER = SubmissionKey("b", 1, "world")


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Web:
    """Answers as ``page`` says, and remembers what was sent where."""

    def __init__(self, page: Callable[[httpx2.Request], httpx2.Response]) -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        self._page = page

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        content = await request.aread()
        self.seen.append((request.method, str(request.url), content))
        return self._page(request)

    def client(self, base_url: str = HOME):
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self), follow_redirects=True)
        return build_client(base_url=base_url, api_key=KEY, http_client=http)


def call(**body):
    asked = {"model": "m", "messages": [{"role": "user", "content": "secret prompt"}]} | body
    return Call(Endpoint.CHAT, asked, Lane.DEFAULT, call_id="c", timeout_s=5.0)


def sends_on(status: int, location: str, *, once: bool = False) -> Web:
    def page(request: httpx2.Request) -> httpx2.Response:
        if once and "moved" in request.url.path:
            return httpx2.Response(200, json=ANSWER)
        return httpx2.Response(status, headers={"location": location})

    return Web(page)


ELSEWHERE = (
    "https://elsewhere.example/v1/chat/completions",
    "//elsewhere.example/v1",
    "http://here.example/v1",
    "https://here.example:8443/v1",
    "https://here.example.evil.example/v1",
    "https://here.example@elsewhere.example/v1",
    "ftp://here.example/v1",
)


@pytest.mark.parametrize("location", ELSEWHERE)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_neither_key_nor_prompt_goes_to_another_origin(status, location):
    web = sends_on(status, location)
    response = await OpenAIAnswers(web.client()).answer(call())
    assert [url for _, url, _ in web.seen] == [f"{HOME}/chat/completions"]
    assert (response.status, response.fault, response.sent) == (None, REDIRECTED, False)
    halt = judge(response, Lane.DEFAULT)
    assert isinstance(halt, Halt)
    assert "https://here.example redirects to " in halt.message
    assert halt.message.endswith(" as the base URL")
    assert KEY not in halt.message
    with pytest.raises(Redirected, match=r"https://here\.example redirects to "):
        await OpenAIBatches(web.client(), SteppingClock()).supported()
    assert len(web.seen) == 2


async def test_a_step_up_to_https_is_named_for_the_base_url_that_it_should_be():
    web = sends_on(308, "https://here.example/v1/chat/completions")
    response = await OpenAIAnswers(web.client("http://here.example/v1")).answer(call())
    assert "give https://here.example as the base URL" in response.body
    assert len(web.seen) == 1


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    "location", ["/moved/chat/completions", f"{HOME}/moved", "moved", "https://HERE.example:443/moved"]
)
async def test_a_call_is_sent_on_within_its_origin_once(status, location):
    web = sends_on(status, location, once=True)
    response = await OpenAIAnswers(web.client()).answer(call())
    assert (response.status, response.body) == (200, ANSWER)
    assert [method for method, _, _ in web.seen] == ["POST", "POST"]
    assert web.seen[0][2] == web.seen[1][2] != b""


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_call_is_not_lost_by_becoming_another_request(status):
    web = sends_on(status, "/moved", once=True)
    response = await OpenAIAnswers(web.client()).answer(call())
    assert (response.fault, len(web.seen)) == (REDIRECTED, 1)
    assert f"redirects POST /v1/chat/completions with HTTP {status}" in response.body


async def test_a_circle_of_redirects_sends_a_call_twice_at_most_and_a_look_six_times():
    web = sends_on(307, f"{HOME}/chat/completions")
    response = await OpenAIAnswers(web.client()).answer(call())
    assert (response.fault, len(web.seen)) == (REDIRECTED, 2)
    looked = sends_on(302, f"{HOME}/batches")
    with pytest.raises(Redirected, match="more than 5 times"):
        await OpenAIBatches(looked.client(), SteppingClock()).supported()
    assert len(looked.seen) == 6


async def test_an_upload_is_whole_where_it_is_sent_on_to_and_a_creation_is_made_once():
    made: list[str] = []

    def page(request: httpx2.Request) -> httpx2.Response:
        if "moved" not in request.url.path:
            return httpx2.Response(308, headers={"location": f"/moved{request.url.path}"})
        if request.method == "GET":
            return httpx2.Response(200, json={"data": [], "has_more": False})
        made.append(request.url.path)
        return httpx2.Response(200, json={"id": "file-1" if "files" in request.url.path else "batch_1"})

    web = Web(page)
    api = OpenAIBatches(web.client(), SteppingClock())
    lines = io.BytesIO(b'{"custom_id":"1"}\n' * 1_000)
    assert await api.prepare(ORDER, lines) == "file-1"
    assert (await api.create(ORDER, Endpoint.CHAT, "file-1")).id == "batch_1"
    assert made == ["/moved/v1/files", "/moved/v1/batches"]
    assert b'{"custom_id":"1"}\n' * 1_000 in web.seen[-3][2]


async def test_a_file_of_results_is_not_fetched_from_elsewhere():
    web = sends_on(302, "https://storage.example/signed?sig=abc")
    with pytest.raises(Unreachable, match=r"https://here\.example redirects to https://storage\.example\. ") as told:
        await read(web)
    assert "abc" not in str(told.value)
    assert {url for _, url, _ in web.seen} == {f"{HOME}/files/file-1/content"}


async def read(web: Web) -> list[bytes]:
    return [line async for line in lines_of(web.client(), "file-1")]


# --- bodies without an end -------------------------------------------------------------------------------------------


@cache
def packed(encoding: str, mib: int) -> tuple[bytes, ...]:
    """So much of nothing, packed as the client says it can unpack."""
    packer = zlib.compressobj(wbits={"gzip": 31, "deflate": 15}[encoding])
    return (*(packer.compress(b" " * (1 << 20)) for _ in range(mib)), packer.flush())


class Counted(httpx2.AsyncByteStream):
    """A body of these chunks, for ever if there are none; ``read`` of them were taken."""

    def __init__(self, chunks: Sequence[bytes] | None) -> None:
        self._chunks = chunks
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._chunks is None:
            self.read += 1
            yield b" " * (1 << 20)
        for chunk in self._chunks:
            self.read += 1
            yield chunk


def bomb(encoding: str, status: int = 200, mib: int = 400) -> Web:
    """Half a megabyte that unpacks to 400."""
    chunks = packed(encoding, mib)
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    return Web(lambda _: httpx2.Response(status, headers=headers, stream=Counted(chunks)))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_call_whose_reply_is_a_bomb_is_no_answer_and_takes_no_memory(encoding):
    response = await OpenAIAnswers(bomb(encoding).client()).answer(call())
    assert response.status == 200
    assert "not read to its end" in response.body
    outcome = judge(response, Lane.DEFAULT)
    assert isinstance(outcome, Again)
    assert outcome.code == "invalid_response"


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_a_refusal_that_is_a_bomb_is_a_refusal(status):
    response = await OpenAIAnswers(bomb("gzip", status).client()).answer(call())
    assert response.status == status
    with pytest.raises(ProviderRefused) as caught:
        await OpenAIBatches(bomb("gzip", status).client(), SteppingClock()).create(ORDER, Endpoint.CHAT, "f")
    assert caught.value.status == status


async def test_a_list_that_is_a_bomb_is_no_list():
    with pytest.raises(Unreachable, match="no list"):
        await OpenAIBatches(bomb("gzip").client(), SteppingClock()).find(ORDER, None)


async def test_a_file_that_is_a_bomb_is_given_up_before_it_fills_the_disk(monkeypatch):
    monkeypatch.setattr(guard, "UNMEASURED", 1 << 20)
    with pytest.raises(Unreachable, match="TooMuch"):
        await read(bomb("gzip"))


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip, deflate", "deflate,gzip,gzip"])
async def test_a_body_that_is_packed_twice_is_not_read(encoding):
    content = json.dumps(ANSWER).encode()
    for each in encoding.split(","):
        content = gzip.compress(content) if each.strip() == "gzip" else zlib.compress(content)
    web = Web(lambda _: httpx2.Response(200, headers={"content-encoding": encoding}, stream=Counted([content])))
    assert "not read to its end" in (await OpenAIAnswers(web.client()).answer(call())).body
    with pytest.raises(Unreachable):
        await read(web)


@pytest.mark.parametrize(("status", "most"), [(200, 4), (500, 2)])
async def test_a_body_that_never_ends_is_left_where_it_is(monkeypatch, status, most):
    monkeypatch.setattr(guard, "MOST_REPLY", 3 << 20)
    endless = Counted(None)
    web = Web(lambda _: httpx2.Response(status, stream=endless))
    response = await OpenAIAnswers(web.client()).answer(call())
    assert response.status == status
    assert endless.read == most


async def test_a_file_that_never_ends_fails_after_as_many_tries_as_any(monkeypatch):
    monkeypatch.setattr(guard, "MOST_FILE", 5 << 20)
    endless = Counted(None)
    web = Web(lambda _: httpx2.Response(200, stream=endless))
    with pytest.raises(Unreachable):
        await read(web)
    assert len(web.seen) == 3
    assert endless.read <= 18


async def test_a_large_packed_file_and_a_large_answer_come_whole():
    dice = random.Random(1)
    text = "The customer called at noon and said that the second parcel never came. " * 20
    line = {"custom_id": "", "response": {"status_code": 200, "body": {"choices": [{"message": {"content": text}}]}}}
    lines = [json.dumps(line | {"custom_id": f"{dice.getrandbits(160):040x}-1"}).encode() for _ in range(30_000)]
    content = gzip.compress(b"\n".join(lines))
    assert len(b"\n".join(lines)) > 5 * guard.UNMEASURED
    headers = {"content-encoding": "gzip"}
    web = Web(lambda _: httpx2.Response(200, headers=headers, stream=Counted([content])))
    assert await read(web) == lines
    long = {"choices": [{"message": {"content": dice.randbytes(8_000_000).hex()}}]}
    told = gzip.compress(json.dumps(long).encode(), 1)
    assert len(long["choices"][0]["message"]["content"]) > guard.UNMEASURED
    web = Web(lambda _: httpx2.Response(200, headers=headers, stream=Counted([told])))
    assert (await OpenAIAnswers(web.client()).answer(call())).body == long
