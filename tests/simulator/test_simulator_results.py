"""What the simulated provider can do to the result files of a batch, and the moment that it answers of."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta

import openai
import pytest

from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.dialects import Dialect
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind
from lowtide_local.simulator.testing import SteppingClock
from tests.simulator.sdk import connect

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


@pytest.fixture
def anyio_backend():
    return "asyncio"


def line(custom_id, text="hello"):
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}]}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}


async def ended(clock=None, **mishap):
    """A batch of three lines, one of which fails, and the client."""
    mishaps = (Mishap(**mishap),) if mishap else ()
    provider = SimulatedProvider(
        Scenario(batch=BatchWeather(min_s=10, max_s=10, mishaps=mishaps)), clock or SteppingClock()
    )
    client = connect(provider)
    lines = [line("a"), line("b", "[sim:500]"), line("c")]
    content = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    return provider, client, batch.id


async def content(client, file_id):
    return (await client.files.content(file_id)).content


class Ticking(SteppingClock):
    """Each reading takes a moment, as on a busy machine."""

    def now(self):
        self._now += timedelta(milliseconds=10)
        return self._now


@pytest.mark.parametrize("offset", range(2))
async def test_the_first_look_that_says_completed_names_the_files(offset):
    """A clock that is read twice for one answer ends the batch between the two readings."""
    clock = Ticking()
    provider, _, batch_id = await ended(clock)
    for _ in range(offset):
        clock.now()
    looks = [provider.batch(batch_id) for _ in range(1_500)]
    first = next(look for look in looks if look["status"] == "completed")
    assert first["output_file_id"] is not None
    assert first["error_file_id"] is not None
    assert first["usage"] is not None


async def test_every_answer_reads_the_clock_once():
    readings = 0

    class Counting(SteppingClock):
        def now(self):
            nonlocal readings
            readings += 1
            return super().now()

    provider, _, batch_id = await ended(Counting())
    order = {"input_file_id": "file-none", "endpoint": CHAT, "completion_window": "24h"}
    asked = [
        lambda: provider.batch(batch_id),
        lambda: provider.cancel_batch(batch_id),
        lambda: provider.list_batches(after=None, limit=10),
        lambda: provider.list_files(purpose=None, after=None, limit=10, newest_first=True),
        lambda: provider.create_batch(order),
        lambda: provider.call(CHAT, line("a")["body"], None),
        provider.state,
    ]
    for ask in asked:
        readings = 0
        ask()
        assert readings == 1


async def test_file_ids_may_come_late():
    provider, client, batch_id = await ended(kind=MishapKind.LATE_FILE_IDS, seconds=60, files=("output",))
    provider.clock.advance(10)
    early = await client.batches.retrieve(batch_id)
    assert (early.status, early.output_file_id) == ("completed", None)
    assert early.error_file_id is not None
    assert early.request_counts.completed == 2
    provider.clock.advance(60)
    assert (await client.batches.retrieve(batch_id)).output_file_id is not None


async def test_file_ids_may_never_come_and_counts_may_be_kept_back():
    provider, client, batch_id = await ended(kind=MishapKind.LATE_FILE_IDS)
    provider.clock.advance(1_000_000)
    batch = await client.batches.retrieve(batch_id)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("completed", None, None)
    provider, client, batch_id = await ended(kind=MishapKind.NO_COUNTS)
    assert (await client.batches.retrieve(batch_id)).request_counts is None


@pytest.mark.parametrize("status", [404, 410, 403, 500])
async def test_a_file_may_be_gone_for_a_while(status):
    provider, client, batch_id = await ended(kind=MishapKind.FILE_GONE, files=("error",), status=status, seconds=300)
    provider.clock.advance(10)
    batch = await client.batches.retrieve(batch_id)
    assert await content(client, batch.output_file_id)
    with pytest.raises(openai.APIStatusError) as caught:
        await content(client, batch.error_file_id)
    assert caught.value.status_code == status
    provider.clock.advance(300)
    assert await content(client, batch.error_file_id)


async def in_dialect(*dialects):
    provider, client, batch_id = await ended(kind=MishapKind.DIALECT, dialects=dialects)
    provider.clock.advance(10)
    batch = await client.batches.retrieve(batch_id)
    return await content(client, batch.output_file_id), await content(client, batch.error_file_id)


async def test_result_files_can_be_written_as_other_servers_write_theirs():
    plain, failed = await in_dialect()
    lines = [json.loads(each) for each in plain.splitlines()]
    assert [each["custom_id"] for each in lines] == ["a", "c"]
    assert (await in_dialect(Dialect.BOM, Dialect.CRLF))[0] == b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n")
    assert gzip.decompress((await in_dialect(Dialect.GZIP))[0]) == plain
    assert (await in_dialect(Dialect.UTF_16))[0].decode("utf-16") == plain.decode()
    assert json.loads((await in_dialect(Dialect.ARRAY))[0]) == lines
    text = [json.loads(each) for each in (await in_dialect(Dialect.STATUS_TEXT))[0].splitlines()]
    assert [each["response"]["status_code"] for each in text] == ["200", "200"]
    [said] = [json.loads(each) for each in (await in_dialect(Dialect.ERROR_TEXT))[1].splitlines()]
    told = json.loads(failed)["response"]["body"]["error"]["message"]
    assert (said["response"], said["error"]) == (None, told)


@pytest.mark.parametrize("dialect", Dialect)
async def test_every_dialect_can_be_written(dialect):
    plain, written = (await in_dialect())[0], (await in_dialect(dialect))[0]
    changed = dialect not in (Dialect.ERROR_TEXT, Dialect.ERROR_LIST)  # these are of lines that failed
    assert (written != plain) is changed
