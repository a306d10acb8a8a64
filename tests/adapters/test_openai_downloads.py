"""Downloads that break: resumed by range where the server can, begun again where it cannot, whole or nothing."""

from __future__ import annotations

import io
import json

import anyio
import httpx2
import pytest

from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.adapters.openai.downloads import TRIES, lines_of
from lowtide.adapters.openai.ranges import OVERLAP
from lowtide.core.batches import ProviderBatch, ProviderStatus
from lowtide.core.errors import ProviderRefused, Unreachable
from lowtide.core.lines import request_line
from lowtide.core.task import Endpoint
from lowtide.ports import SubmissionKey
from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.downloads import Ranges
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind
from lowtide_local.simulator.testing import SteppingClock, connect, on_a_socket

pytestmark = pytest.mark.anyio
CONTENT = "GET /v1/files/{id}/content"
BREAKS = [MishapKind.DOWNLOAD_RESET, MishapKind.DOWNLOAD_TRUNCATED]
LINES = 400
FILE = b"".join(b'{"n":%d,"text":"%s"}\n' % (n, b"x" * 20) for n in range(LINES))
SIZE = len(FILE)


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Ended:
    """A provider with one ended batch of ``LINES`` lines."""

    def __init__(self, kind: MishapKind, downloads: int, ranges: Ranges = Ranges.SERVED) -> None:
        weather = BatchWeather(mishaps=(Mishap(kind=kind, downloads=downloads),))
        self.provider = SimulatedProvider(Scenario(batch=weather, ranges=ranges), SteppingClock())
        self.api = OpenAIBatches(connect(self.provider), self.provider.clock)

    async def run(self) -> ProviderBatch:
        body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]}
        lines = b"".join(request_line(f"t{n}", Endpoint.CHAT, body) for n in range(LINES))
        ref = await self.api.prepare(SubmissionKey("prod", "b-1", 1), io.BytesIO(lines))
        batch = await self.api.create(SubmissionKey("prod", "b-1", 1), Endpoint.CHAT, ref)
        ended = await self.api.get(batch.id)
        assert ended is not None
        return ended

    async def ids(self) -> list[str]:
        return [json.loads(line)["custom_id"] async for line in self.api.results(await self.run())]

    @property
    def asked(self) -> int:
        return self.provider.requests[CONTENT]

    @property
    def sent(self) -> int:
        """Bytes of the output file, over all its downloads."""
        return sum(self.provider.downloads.sent.values())

    @property
    def size(self) -> int:
        [file] = [file for file in self.provider.state()["files"] if file["purpose"] == "batch_output"]
        return file["bytes"]


EVERY = [f"t{n}" for n in range(LINES)]


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("downloads", [1, 2])
async def test_what_has_come_is_not_sent_again(kind, downloads):
    ended = Ended(kind, downloads)
    assert await ended.ids() == EVERY
    assert ended.asked == downloads + 1
    assert ended.sent == ended.size + downloads * OVERLAP


@pytest.mark.parametrize("kind", BREAKS)
async def test_where_a_server_ignores_ranges_the_download_begins_again(kind):
    ended = Ended(kind, 1, Ranges.IGNORED)
    assert await ended.ids() == EVERY
    assert ended.asked == 2
    assert ended.sent == ended.size // 2 + ended.size


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("ranges", [Ranges.REFUSED, Ranges.MISLABELLED, Ranges.SHIFTED])
async def test_a_server_that_refuses_or_lies_is_asked_once_more_for_the_whole(kind, ranges):
    ended = Ended(kind, 1, ranges)
    assert await ended.ids() == EVERY
    assert ended.asked == 3


@pytest.mark.parametrize("ranges", list(Ranges))
async def test_not_one_line_of_a_download_that_always_breaks_is_told(ranges):
    ended = Ended(MishapKind.DOWNLOAD_RESET, 99, ranges)
    results = ended.api.results(await ended.run())
    with pytest.raises(Unreachable):
        await anext(results)
    assert ended.asked == TRIES


def test_on_a_socket_it_goes_on_where_it_broke(tmp_path):
    async def visit(url, ref):
        async with build_client(base_url=url, api_key="") as client:
            return [line async for line in lines_of(client, ref)]

    ended = Ended(MishapKind.DOWNLOAD_RESET, 2)
    batch = anyio.run(ended.run)
    assert batch.status is ProviderStatus.COMPLETED
    with on_a_socket(ended.provider) as url:
        lines = anyio.run(visit, url, batch.output_ref)
    assert len(lines) == LINES
    assert ended.asked == 3
    assert ended.sent < 1.1 * ended.size


# --- servers of every kind ----------------------------------------------------------------------------------------


async def cut(content, at):
    yield content[:at]
    raise httpx2.ReadError("the connection was reset")


def broken(at=5_000, **headers):
    told = {"content-length": str(SIZE)} | headers
    return httpx2.Response(200, headers=told, content=cut(FILE, at))


def rest(request, *, content=FILE, total=SIZE, **headers):
    """What an honest server answers, where nothing is changed."""
    start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
    told = {"content-range": f"bytes {start}-{total - 1}/{total}"} | headers
    return httpx2.Response(206, headers=told, content=content[start:])


def whole(_request):
    return httpx2.Response(200, content=FILE)


async def fetched(*answers):
    """The lines, and the requests, of a download that is answered so, one after the other."""
    requests, queue = [], list(answers)

    def handler(request):
        requests.append(request)
        return queue.pop(0)(request)

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    client = build_client(base_url="http://p/v1", api_key="k", http_client=http)
    lines = [line async for line in lines_of(client, "f")]
    assert queue == []
    return b"".join(line + b"\n" for line in lines), requests


async def test_a_part_is_asked_for_of_the_very_file_that_broke():
    got, [first, second] = await fetched(lambda _: broken(etag='"v1"'), rest)
    assert got == FILE
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={5_000 - OVERLAP}-"
    assert (second.headers["if-range"], second.headers["accept-encoding"]) == ('"v1"', "identity")


async def test_a_weak_etag_vouches_for_no_byte():
    got, [_, second] = await fetched(lambda _: broken(etag='W/"v1"'), rest)
    assert got == FILE
    assert "if-range" not in second.headers


async def test_a_file_that_changed_meanwhile_is_fetched_anew():
    got, requests = await fetched(lambda _: broken(etag='"v1"'), lambda _: httpx2.Response(200, content=FILE[26:]))
    assert got == FILE[26:]
    assert len(requests) == 2


async def test_after_its_last_byte_nothing_is_asked_for():
    got, requests = await fetched(lambda _: broken(SIZE))
    assert (got, len(requests)) == (FILE, 1)


async def test_a_short_beginning_is_not_worth_a_range():
    _, [_, second] = await fetched(lambda _: broken(OVERLAP), whole)
    assert "range" not in second.headers


MISFITS = {
    "another total": lambda r: rest(r, total=SIZE + 1),
    "no content-range": lambda r: httpx2.Response(206, content=rest(r).content),
    "no total": lambda r: rest(r, **{"content-range": "bytes 3976-9999/*"}),
    "less than the rest": lambda r: rest(r, **{"content-range": f"bytes {5_000 - OVERLAP}-9000/{SIZE}"}),
    "other bytes": lambda r: rest(r, content=FILE[::-1]),
    "a few bytes on": lambda r: rest(r, content=FILE[3:] + b"123"),
    "too much": lambda r: rest(r, content=FILE + FILE),
    "a part that is called whole": lambda r: httpx2.Response(200, headers=rest(r).headers, content=rest(r).content),
    "compressed": lambda r: rest(r, **{"content-encoding": "unheard-of"}),
    "a refusal of the range": lambda _: httpx2.Response(416, json={}),
}


@pytest.mark.parametrize("lie", MISFITS.values(), ids=MISFITS.keys())
async def test_whatever_is_not_the_rest_is_thrown_away_and_the_whole_is_asked_for(lie):
    got, requests = await fetched(lambda _: broken(), lie, whole)
    assert got == FILE
    assert ["range" in request.headers for request in requests] == [False, True, False]


async def test_a_rest_that_is_short_is_continued():
    got, requests = await fetched(lambda _: broken(), lambda r: rest(r, content=FILE[:9_000]), rest)
    assert got == FILE
    assert requests[2].headers["range"] == f"bytes={9_000 - OVERLAP}-"


async def test_a_part_that_nobody_asked_for_is_no_file():
    part = httpx2.Response(206, content=FILE[:26])
    got, _ = await fetched(lambda _: part, whole)
    assert got == FILE


async def test_a_file_that_goes_while_it_is_fetched_is_refused():
    with pytest.raises(ProviderRefused):
        await fetched(lambda _: broken(), lambda _: httpx2.Response(404, json={}))


async def test_a_long_file_may_break_as_often_as_it_comes_a_good_piece_further():
    big = FILE * 1_000

    async def some(content):
        yield content[: 3 << 20] if len(content) > 3 << 20 else content

    def first(_):
        return httpx2.Response(200, headers={"content-length": str(len(big))}, content=some(big))

    def next_(request):
        start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        told = {"content-range": f"bytes {start}-{len(big) - 1}/{len(big)}"}
        return httpx2.Response(206, headers=told, content=some(big[start:]))

    pieces = -(-len(big) // ((3 << 20) - OVERLAP))
    assert pieces > TRIES
    got, _ = await fetched(first, *[next_] * (pieces - 1))
    assert got == big
