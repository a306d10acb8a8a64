"""A result file as it lies on the wire: packed, in another encoding, without line ends, or cut off."""

from __future__ import annotations

import gzip
import io
import zlib

import httpx2
import pytest

from lowtide.adapters.openai import unpacking
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.adapters.openai.downloads import TRIES, lines_of
from lowtide.adapters.openai.reading import provider_batch
from lowtide.core.batches import RequestCounts
from lowtide.core.errors import BrokenOff, Unreachable
from lowtide.core.result_lines import ResultLine, ResultReader
from lowtide_local.simulator.testing import SteppingClock

pytestmark = pytest.mark.anyio

LINES = [b'{"custom_id":"t%d","text":"\xc3\xa9"}' % n for n in range(3)]
FILE = b"\n".join(LINES) + b"\n"
TEXT = FILE.decode()


@pytest.fixture
def anyio_backend():
    return "asyncio"


def lines(content, **options):
    return list(unpacking.lines(io.BytesIO(content), **options))


@pytest.mark.parametrize(
    "content",
    [
        FILE,
        FILE.rstrip(),
        FILE.replace(b"\n", b"\r\n"),
        FILE.replace(b"\n", b"\r"),
        gzip.compress(FILE, mtime=0),
        gzip.compress(LINES[0] + b"\n", mtime=0) + gzip.compress(b"\n".join(LINES[1:]), mtime=0),
        gzip.compress(TEXT.encode("utf-16"), mtime=0),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode("utf-16"),
    ],
)
def test_the_same_three_lines_come_of_every_way_to_write_them(content):
    assert [line for line in lines(content) if line] == LINES


def test_a_byte_order_mark_of_utf_8_is_left_to_the_reader_of_the_line():
    [first, *_] = lines(b"\xef\xbb\xbf" + FILE)
    [read] = ResultReader().feed(first)
    assert isinstance(read, ResultLine)
    assert read.custom_id == "t0"


def test_blank_lines_come_too_so_that_lines_keep_their_numbers():
    assert lines(LINES[0] + b"\n\n\r\n" + LINES[1]) == [LINES[0], b"", b"", LINES[1]]


@pytest.mark.parametrize("cut", [1, 9, 40])
def test_a_packed_file_that_does_not_unpack_to_its_end_has_broken_off(cut):
    dice = [b'{"custom_id":"%d"}' % zlib.crc32(b"%d" % n) for n in range(2_000)]
    packed = gzip.compress(b"\n".join(dice), mtime=0)[:-cut]
    with pytest.raises(BrokenOff, match="gzip"):
        lines(packed)
    came = unpacking.lines(io.BytesIO(packed), partial=True)
    assert [next(came) for _ in range(1_900)] == dice[:1_900]
    with pytest.raises(BrokenOff):
        list(came)


def test_a_file_that_unpacks_to_more_than_a_disk_holds_has_broken_off(monkeypatch):
    monkeypatch.setattr(unpacking, "_MOST_UNPACKED", 1_000_000)
    with pytest.raises(BrokenOff, match="more than"):
        lines(gzip.compress(b"\n" * 5_000_000, mtime=0))


@pytest.mark.parametrize("between", [b"", b",", b"\r", b" , "])
def test_a_file_without_line_ends_comes_in_pieces_and_every_object_of_it_is_read(monkeypatch, between):
    monkeypatch.setattr(unpacking, "_PIECE", 200)
    objects = [b'{"custom_id":"t%d","response":{"body":[{"a":1},{"b":"}, {\\"c"}]}}' % n for n in range(100)]
    pieces = lines(b"[" + between.join(objects) + b"]")
    assert max(map(len, pieces)) < 500
    reader = ResultReader()
    read = [each for piece in pieces for each in reader.feed(piece)]
    assert [each.custom_id for each in read] == [f"t{n}" for n in range(100)]
    assert list(reader.end()) == []


def test_a_line_without_end_takes_bounded_memory_and_the_next_line_is_read(monkeypatch):
    monkeypatch.setattr(unpacking, "_PIECE", 100)
    monkeypatch.setattr(unpacking, "_LONGEST", 1_000)
    pieces = lines(b'{"custom_id":"t1","text":"' + b"x" * 50_000 + b"\n" + LINES[0] + b"\n")
    assert max(map(len, pieces)) <= 1_100
    assert sum(map(len, pieces)) > 50_000, "nothing is thrown away"
    reader = ResultReader()
    read = [*(each for piece in pieces for each in reader.feed(piece)), *reader.end()]
    assert [each.custom_id for each in read if isinstance(each, ResultLine)] == ["t0"]
    assert any(not isinstance(each, ResultLine) for each in read), "what could not be read is shown"


def test_a_long_line_is_one_line_whatever_it_is_cut_into(monkeypatch):
    monkeypatch.setattr(unpacking, "_PIECE", 100)
    numbers = b",".join(b'{"embedding":[%d]}' % n for n in range(300))
    long = b'{"custom_id":"t1","response":{"status_code":200,"body":{"data":[' + numbers + b"]}}}"
    plain = b'{"custom_id":"t2","text":"' + b"x" * 1_000 + b'"}'
    pieces = lines(long + b"\n" + plain + b"\n" + LINES[0] + b"\n")
    assert plain in pieces, "nowhere to cut it"
    reader = ResultReader()
    read = [each for piece in pieces for each in reader.feed(piece)]
    assert [each.custom_id for each in read] == ["t1", "t2", "t0"]
    assert len(read[0].response.body["data"]) == 300


# --- downloads that never come whole --------------------------------------------------------------------------------


async def bytes_of(content):
    yield content


async def fetched(*answers, partial=False):
    queue = list(answers)
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: queue.pop(0)()))
    client = build_client(base_url="http://p/v1", api_key="k", http_client=http)
    got = []
    try:
        async for line in lines_of(client, "f", partial=partial):
            got.append(line)  # noqa: PERF401 - what came before the error is wanted
    except Unreachable as error:
        return got, error, len(queue)
    return got, None, len(queue)


def short():
    """A part under the length of the whole."""
    return httpx2.Response(200, headers={"content-length": "9999"}, content=bytes_of(FILE[:-5]))


def unmeasured(content):
    return lambda: httpx2.Response(200, content=bytes_of(content))


def refused():
    raise httpx2.ConnectError("nobody is there")


async def test_a_download_that_began_and_never_comes_whole_has_broken_off():
    got, error, _ = await fetched(*[short] * TRIES)
    assert (got, type(error)) == ([], BrokenOff)
    got, error, _ = await fetched(short, refused, refused)
    assert type(error) is BrokenOff
    got, error, _ = await fetched(*[refused] * TRIES)
    assert type(error) is Unreachable


async def test_where_it_is_wanted_what_came_of_it_is_brought_first():
    got, error, _ = await fetched(*[short] * TRIES, partial=True)
    assert got[:2] == LINES[:2]
    assert type(error) is BrokenOff


@pytest.mark.parametrize(
    "content",
    [
        FILE.replace(b"t2", b"t2\x01"),
        FILE.rstrip() + b" and a word",
        b"[\n" + b",\n".join(LINES) + b"\n]\n",
        b"not JSON at all",
        gzip.compress(FILE, mtime=0),
        TEXT.encode("utf-16"),
        b"",
    ],
)
async def test_a_file_of_untold_length_is_whole_unless_it_ends_in_the_middle_of_an_object(content):
    _, error, left = await fetched(unmeasured(content), unmeasured(content))
    assert (error, left) == (None, 1), "one request"


async def test_a_file_of_untold_length_that_ends_in_half_a_line_is_asked_for_again():
    got, error, left = await fetched(unmeasured(FILE[:-8]), unmeasured(FILE))
    assert (got, error, left) == (LINES, None, 0)


# --- what a batch says of its files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "ref"),
    [
        ("file-1", "file-1"),
        (" file-1 ", "file-1"),
        ("s3://bucket/a b?c", "s3://bucket/a b?c"),
        (7, "7"),
        ({"id": "file-1", "object": "file"}, "file-1"),
        (["file-1"], "file-1"),
        ("", None),
        ("  ", None),
        ("..", None),
        (None, None),
        (True, None),
        (1.5, None),
        ([], None),
        ({"name": "x"}, None),
        (["a", "b"], None),
        ("x" * 5_000, None),
    ],
)
def test_the_id_of_a_file_is_read_however_it_is_written(told, ref):
    batch = provider_batch({"id": "b", "status": "completed", "output_file_id": told})
    assert batch.output_ref == ref


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        ({"total": 3, "completed": 2, "failed": 1}, (3, 2, 1)),
        ({"total": "3", "completed": 2.0, "failed": None}, (3, 2, None)),
        ({"completed": -1, "failed": True, "total": 10**12}, (None, None, None)),
        ({"completed": float("nan")}, (None, None, None)),
        ({"completed": "many"}, (None, None, None)),
        ({}, (None, None, None)),
        (None, (None, None, None)),
        ([3, 2, 1], (None, None, None)),
    ],
)
def test_counts_are_read_where_they_are_counts(told, counts):
    total, completed, failed = counts
    batch = provider_batch({"id": "b", "status": "completed", "request_counts": told})
    assert batch.counts == RequestCounts(total=total, completed=completed, failed=failed)


@pytest.mark.parametrize("ref", ["a/b", "../batches/x", "a?b=c", "a#b", "a b"])
async def test_an_id_is_one_segment_of_a_path_whatever_it_holds(ref):
    asked = []

    def handler(request):
        asked.append((request.method, request.url.raw_path.decode().removeprefix("/v1")))
        return httpx2.Response(404, json={})

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    api = OpenAIBatches(build_client(base_url="http://p/v1", api_key="k", http_client=http), SteppingClock())
    await api.clean([ref])
    assert await api.get(ref) is None
    assert [path.count("/") for _, path in asked] == [2, 2]
    assert all("?" not in path and "#" not in path for _, path in asked)
