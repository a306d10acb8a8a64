"""Provider batches against the simulated provider."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import threading
from datetime import timedelta

import httpx2
import pytest

from lowtide.adapters.clock import WallClock
from lowtide.adapters.openai import batches as module
from lowtide.adapters.openai.batches import OpenAIBatches, file_name
from lowtide.adapters.openai.client import build_client
from lowtide.core.batches import ProviderBatch, ProviderStatus
from lowtide.core.errors import ProviderRefused, Unreachable
from lowtide.core.lines import request_line
from lowtide.core.provider_errors import ProviderError
from lowtide.core.task import Endpoint
from lowtide.ports import SubmissionKey
from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Window, WindowKind
from lowtide_local.simulator.testing import SteppingClock, connect, on_a_socket

pytestmark = pytest.mark.anyio
KEY = SubmissionKey("prod", "b-1", 1)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def provider_of(*mishaps, windows=(), **weather):
    batch = BatchWeather(**{"min_s": 100, "max_s": 100, "mishaps": mishaps, **weather})
    return SimulatedProvider(Scenario(batch=batch, windows=windows), SteppingClock())


def api_of(provider):
    return OpenAIBatches(connect(provider), provider.clock)


def content_of(*texts):
    lines = (
        request_line(f"t{n}", Endpoint.CHAT, {"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}]})
        for n, text in enumerate(texts)
    )
    return b"".join(lines)


async def submit(api, *texts, key=KEY):
    ref = await api.prepare(key, io.BytesIO(content_of(*texts)))
    return await api.create(key, Endpoint.CHAT, ref)


async def finished(provider, api, *texts, key=KEY):
    batch = await submit(api, *texts, key=key)
    provider.clock.advance(100)
    seen = await api.get(batch.id)
    assert seen is not None
    return seen


async def ids_of(api, batch):
    return [json.loads(line)["custom_id"] async for line in api.results(batch)]


def replying(handler, clock=None):
    """The adapter over a transport that does as ``handler`` says."""
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    client = build_client(base_url="http://elsewhere/v1", api_key="k", http_client=http_client)
    return OpenAIBatches(client, clock or SteppingClock())


# --- the whole way ----------------------------------------------------------------------------------------------


async def test_a_batch_from_its_input_to_a_clean_provider():
    provider = provider_of()
    api = api_of(provider)
    ref = await api.prepare(KEY, io.BytesIO(content_of("one", "two [sim:500]")))
    assert provider.state()["files"][0]["filename"] == "lowtide-prod.b-1.1.jsonl"
    created = await api.create(KEY, Endpoint.CHAT, ref)
    assert (created.status, created.input_ref, created.ended) == (ProviderStatus.VALIDATING, ref, False)
    provider.clock.advance(100)
    done = await api.get(created.id)
    assert done is not None
    assert (done.status, done.ended, done.ended_at) == (ProviderStatus.COMPLETED, True, provider.clock.now())
    lines = [json.loads(line) async for line in api.results(done)]
    assert [(line["custom_id"], line["response"]["status_code"]) for line in lines] == [("t0", 200), ("t1", 500)]
    await api.clean([ref, done.output_ref, done.error_ref])
    assert provider.state()["files"] == []
    await api.clean([ref, done.output_ref, done.error_ref])


def test_on_a_socket_a_batch_goes_the_same_way(tmp_path):
    """From a file's own handle, over real HTTP, through a download that breaks twice."""
    reset = Mishap(kind=MishapKind.DOWNLOAD_RESET, downloads=2)
    lost = Mishap(kind=MishapKind.REPLY_LOST, batches=(1,))
    provider = SimulatedProvider(Scenario(batch=BatchWeather(mishaps=(reset, lost))), WallClock())
    path = tmp_path / "input"
    path.write_bytes(content_of(*(f"question {n} " + "x" * 1_000 for n in range(3_000))))

    async def visit(url):
        async with build_client(base_url=url, api_key="") as client:
            api = OpenAIBatches(client, WallClock())
            assert await api.supported()
            with path.open("rb") as lines:
                ref = await api.prepare(KEY, lines)
            with pytest.raises(Unreachable):
                await api.create(KEY, Endpoint.CHAT, ref)
            found = await api.find(KEY, None)
            assert found is not None
            ids = await ids_of(api, found)
            await api.clean([ref or "", found.output_ref or ""])
            return ids

    with on_a_socket(provider) as url:
        ids = asyncio.run(visit(url))
    assert ids == [f"t{n}" for n in range(3_000)]
    assert provider.state()["files"] == []
    assert len(provider.billed) == 3_000


# --- handing over -----------------------------------------------------------------------------------------------


async def test_preparing_again_finds_the_file_that_is_there():
    provider = provider_of()
    api = api_of(provider)
    content = content_of("one")
    first = await api.prepare(KEY, io.BytesIO(content))
    assert await api.prepare(KEY, io.BytesIO(content)) == first
    assert len(provider.state()["files"]) == 1
    other = await api.prepare(SubmissionKey("prod", "b-1", 2), io.BytesIO(content))
    assert other != first


async def test_a_file_of_our_name_and_another_size_is_not_taken_for_ours():
    provider = provider_of()
    api = api_of(provider)
    half = await api.prepare(KEY, io.BytesIO(content_of("one")))
    whole = await api.prepare(KEY, io.BytesIO(content_of("one", "two")))
    assert whole != half


async def test_the_upload_begins_at_the_start_of_the_handle():
    provider = provider_of()
    handle = io.BytesIO(content_of("one", "two"))
    handle.seek(10)
    ref = await api_of(provider).prepare(KEY, handle)
    assert provider.download(ref, {}).content == content_of("one", "two")


async def test_a_large_upload_waits_for_no_thread_in_process():
    """An event loop on virtual time would hang on one."""
    provider = provider_of()
    before = threading.active_count()
    ref = await api_of(provider).prepare(KEY, io.BytesIO(content_of("x" * 3_000_000)))
    assert threading.active_count() == before
    assert provider.file(ref)["bytes"] > 3_000_000


async def test_a_server_that_lists_no_files_still_takes_one():
    posted = []

    def handler(request):
        if request.method == "GET":
            return httpx2.Response(405, json={"detail": "Method Not Allowed"})
        posted.append(request)
        return httpx2.Response(200, json={"id": "file-1"})

    assert await replying(handler).prepare(KEY, io.BytesIO(b"{}\n")) == "file-1"
    assert len(posted) == 1


@pytest.mark.parametrize(("base_url", "sets"), [("https://api.openai.com/v1", True), ("http://simulated/v1", False)])
async def test_files_expire_by_themselves_where_the_server_is_known_to_take_it(base_url, sets):
    provider = provider_of()
    api = OpenAIBatches(connect(provider, base_url=base_url), provider.clock)
    await submit(api, "one")
    [file] = provider.state()["files"]
    assert (file["expires_at"] is not None) == sets


def test_a_key_that_is_no_file_name_is_made_one_and_stays_apart():
    assert file_name(KEY) == "lowtide-prod.b-1.1.jsonl"
    slash, colon = (file_name(SubmissionKey(name, "b", 1)) for name in ("a/b", "a:b"))
    assert slash != colon
    assert slash.startswith("lowtide-a_b.b.1-")


# --- creating and finding ---------------------------------------------------------------------------------------


async def test_a_creation_whose_reply_was_lost_is_found_and_not_repeated():
    provider = provider_of(Mishap(kind=MishapKind.REPLY_LOST, batches=(1,)), list_lag_s=30)
    api = api_of(provider)
    ref = await api.prepare(KEY, io.BytesIO(content_of("one")))
    with pytest.raises(Unreachable):
        await api.create(KEY, Endpoint.CHAT, ref)
    assert provider.requests["POST /v1/batches"] == 1
    assert await api.find(KEY, ref) is None  # the list lags
    provider.clock.advance(30)
    found = await api.find(KEY, ref)
    assert found is not None
    assert found.input_ref == ref
    assert (await api.find(KEY, None)) is not None  # by our key alone
    assert await api.find(SubmissionKey("prod", "b-1", 2), None) is None


async def test_a_batch_is_found_by_its_input_where_metadata_is_not_kept():
    row = {"id": "batch_1", "status": "in_progress", "input_file_id": "file-1", "metadata": None}

    def handler(request):
        if request.url.path.endswith("/batches"):
            return httpx2.Response(200, json={"data": [row], "has_more": False})
        return httpx2.Response(404, json={})

    found = await replying(handler).find(KEY, "file-1")
    assert found is not None
    assert found.id == "batch_1"
    assert await replying(handler).find(KEY, "file-2") is None


async def test_the_look_goes_through_the_pages_and_stops_before_the_input_was_handed_over():
    provider = provider_of()
    api = api_of(provider)
    for n in range(250):
        await submit(api, f"old {n}", key=SubmissionKey("prod", f"old-{n}", 1))
    provider.clock.advance(3_600)
    ref = await api.prepare(KEY, io.BytesIO(content_of("one")))
    ours = await api.create(KEY, Endpoint.CHAT, ref)
    for n in range(150):
        await submit(api, f"new {n}", key=SubmissionKey("prod", f"new-{n}", 1))
    before = provider.requests["GET /v1/batches"]
    found = await api.find(KEY, ref)
    assert found is not None
    assert found.id == ours.id
    assert provider.requests["GET /v1/batches"] - before == 2
    before = provider.requests["GET /v1/batches"]
    absent = await api.prepare(SubmissionKey("prod", "absent", 1), io.BytesIO(content_of("absent")))
    assert await api.find(SubmissionKey("prod", "absent", 1), absent) is None
    # 401 batches in 5 pages; the third is the first that is older than the input as a whole.
    assert provider.requests["GET /v1/batches"] - before == 3


async def test_an_old_batch_is_found_however_long_we_slept():
    """A process that wakes after days must not buy it again."""
    provider = provider_of()
    api = api_of(provider)
    batch = await submit(api, "one")
    provider.clock.advance(timedelta(days=6).total_seconds())
    for n in range(150):
        await submit(api, f"new {n}", key=SubmissionKey("prod", f"new-{n}", 1))
    found = await api.find(KEY, batch.input_ref)
    assert found is not None
    assert found.id == batch.id


async def test_a_list_that_comes_oldest_first_is_read_to_its_end():
    clock = SteppingClock()
    now = int(clock.now().timestamp())
    rows = [{"id": f"b{n}", "status": "completed", "created_at": now - 400_000 + 1_000 * n} for n in range(401)]
    rows[-1]["metadata"] = {"lowtide_key": KEY.text}

    def handler(request):
        start = next((n + 1 for n, row in enumerate(rows) if row["id"] == request.url.params.get("after")), 0)
        page = rows[start : start + 100]
        return httpx2.Response(200, json={"data": page, "has_more": start + 100 < len(rows)})

    found = await replying(handler, clock).find(KEY, None)
    assert found is not None
    assert found.id == "b400"


async def test_a_server_that_repeats_its_only_page_is_read_once():
    asked = []

    def handler(request):
        asked.append(request)
        return httpx2.Response(200, json={"data": [{"id": "b1", "status": "completed"}], "has_more": True})

    assert await replying(handler).find(KEY, None) is None
    assert len(asked) == 2


async def test_a_list_that_cannot_be_looked_through_is_no_proof_of_absence(monkeypatch):
    """``None`` would allow a second creation."""
    with pytest.raises(Unreachable):
        await replying(lambda _: httpx2.Response(200, text="<html>welcome</html>")).find(KEY, None)
    monkeypatch.setattr(module, "_BATCH_PAGES", 2)
    provider = provider_of()
    api = api_of(provider)
    for n in range(201):
        await submit(api, "x", key=SubmissionKey("prod", f"b{n}", 1))
    with pytest.raises(Unreachable, match="2 pages"):
        await api.find(KEY, None)


async def test_a_creation_whose_answer_cannot_be_read_may_exist():
    with pytest.raises(Unreachable, match="no id"):
        await replying(lambda _: httpx2.Response(200, text="ok")).create(KEY, Endpoint.CHAT, "file-1")


async def test_a_refusal_says_what_the_provider_said():
    window = Window(kind=WindowKind.RATE_LIMIT, from_s=0, to_s=60)
    api = api_of(provider_of(windows=(window,)))
    with pytest.raises(ProviderRefused) as caught:
        await submit(api, "one")
    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (429, "rate_limit_exceeded", 1.0)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"error": {"message": "no", "type": "t", "code": None}}, "t", "HTTP 400: no"),
        ({"error": "just text"}, None, "HTTP 400: just text"),
        ({"detail": "from a framework"}, None, "HTTP 400: from a framework"),
        ([], None, "HTTP 400: Bad Request"),
        ({"error": {"message": "x" * 600_000, "code": "bad\x00\ncode"}}, "bad??code", "HTTP 400: " + "x" * 490),
    ],
)
async def test_every_shape_of_error_is_read(body, code, said):
    with pytest.raises(ProviderRefused) as caught:
        await replying(lambda _: httpx2.Response(400, json=body)).get("b")
    assert (caught.value.code, str(caught.value)) == (code, said)


async def test_a_refusal_keeps_the_type_and_the_field_for_whoever_judges_it():
    body = {"error": {"message": "no", "type": "insufficient_quota", "code": "c", "param": "file_id"}}
    with pytest.raises(ProviderRefused) as caught:
        await replying(lambda _: httpx2.Response(400, json=body)).get("b")
    assert caught.value.error == ProviderError(400, code="c", type="insufficient_quota", param="file_id", message="no")


# --- looking ----------------------------------------------------------------------------------------------------


async def test_an_unknown_batch_is_none():
    assert await api_of(provider_of()).get("batch_none") is None


async def test_a_failed_batch_carries_the_faults_with_their_lines():
    provider = provider_of()
    batch = await finished(provider, api_of(provider), "good", "bad [sim:bad-line]")
    assert batch.status is ProviderStatus.FAILED
    assert [(fault.line, fault.code) for fault in batch.faults] == [(2, "invalid_request")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"id": "b"}, ProviderBatch(id="b", status=ProviderStatus.IN_PROGRESS)),
        ({"id": "b", "status": "queued_somewhere"}, ProviderBatch(id="b", status=ProviderStatus.IN_PROGRESS)),
        ({"id": "b", "status": "Finalizing"}, ProviderBatch(id="b", status=ProviderStatus.FINALIZING, began=True)),
        ({"id": "b", "in_progress_at": 0}, ProviderBatch(id="b", status=ProviderStatus.IN_PROGRESS)),
        (
            {"id": "b", "status": "failed", "in_progress_at": "2026-03-01T12:00:00Z"},
            ProviderBatch(id="b", status=ProviderStatus.FAILED, began=True),
        ),
        (
            {"id": "b", "status": "completed", "output_file_id": None, "error_file_id": "", "errors": None},
            ProviderBatch(id="b", status=ProviderStatus.COMPLETED),
        ),
        (
            {"id": "b", "status": "failed", "errors": [{"line": "4", "message": 5}, "odd"], "usage": []},
            ProviderBatch.model_validate({"id": "b", "status": "failed", "faults": [{}]}),
        ),
        (
            {"id": "b", "status": "expired", "created_at": "2026-03-01T12:00:00Z", "expired_at": 1772452800.5},
            ProviderBatch.model_validate(
                {
                    "id": "b",
                    "status": "expired",
                    "created_at": "2026-03-01T12:00:00Z",
                    "ended_at": "2026-03-02T12:00:00.5Z",
                }
            ),
        ),
    ],
)
async def test_what_a_compatible_server_leaves_out_or_writes_its_own_way_is_tolerated(body, expected):
    assert await replying(lambda _: httpx2.Response(200, json=body)).get("b") == expected


@pytest.mark.parametrize(
    ("answer", "supported"),
    [
        (httpx2.Response(200, json={"object": "list", "data": []}), True),
        (httpx2.Response(422, json={"detail": "limit?"}), True),
        (httpx2.Response(429, json={}), True),
        (httpx2.Response(404, json={}), False),
        (httpx2.Response(405, json={}), False),
        (httpx2.Response(501, json={}), False),
        (httpx2.Response(200, text="<html>an application</html>"), False),
    ],
)
async def test_whether_there_is_a_batch_api(answer, supported):
    assert await replying(lambda _: answer).supported() is supported


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_what_tells_nothing_about_the_batch_api_is_raised(status):
    with pytest.raises(ProviderRefused):
        await replying(lambda _: httpx2.Response(status, json={})).supported()


async def test_a_refused_connection_is_unreachable():
    def handler(_):
        raise httpx2.ConnectError("refused")

    with pytest.raises(Unreachable, match="ConnectError refused"):
        await replying(handler).supported()


# --- results ----------------------------------------------------------------------------------------------------


async def test_an_expired_batch_gives_its_answers_and_its_rest():
    provider = provider_of(Mishap(kind=MishapKind.EXPIRES, fraction=0.5))
    api = api_of(provider)
    batch = await finished(provider, api, "a", "b", "c", "d")
    lines = [json.loads(line) async for line in api.results(batch)]
    assert batch.status is ProviderStatus.EXPIRED
    assert [line["error"] and line["error"]["code"] for line in lines] == [None, None] + ["batch_expired"] * 2


async def test_lines_are_split_on_the_newline_byte_only():
    provider = provider_of(Mishap(kind=MishapKind.DUPLICATE_LINE))
    api = api_of(provider)
    batch = await finished(provider, api, "a [sim:u2028]", "b [sim:string-body]")
    lines = [line async for line in api.results(batch)]
    assert [json.loads(line)["custom_id"] for line in lines] == ["t0", "t1", "t0"]
    assert "\u2028".encode() in lines[0]
    assert isinstance(json.loads(lines[1])["response"]["body"], str)


async def test_blank_lines_count_and_the_last_needs_no_newline():
    content = b'{"n":1}\n\n\r\n{"n":2}\r\n{"n":3}'
    api = replying(lambda _: httpx2.Response(200, content=content))
    batch = ProviderBatch(id="b", status=ProviderStatus.COMPLETED, output_ref="f")
    assert [line async for line in api.results(batch)] == [b'{"n":1}', b"", b"", b'{"n":2}', b'{"n":3}']


async def test_a_download_that_breaks_begins_again():
    provider = provider_of(Mishap(kind=MishapKind.DOWNLOAD_RESET, downloads=2))
    api = api_of(provider)
    batch = await finished(provider, api, *(f"q{n}" for n in range(50)))
    first = await ids_of(api, batch)
    assert first == [f"t{n}" for n in range(50)]
    assert provider.requests["GET /v1/files/{id}/content"] == 3
    assert await ids_of(api, batch) == first


async def test_a_download_that_always_breaks_gives_no_line_at_all():
    provider = provider_of(Mishap(kind=MishapKind.DOWNLOAD_RESET, downloads=99))
    api = api_of(provider)
    batch = await finished(provider, api, "a", "b")
    with pytest.raises(Unreachable):
        await anext(api.results(batch))
    assert provider.requests["GET /v1/files/{id}/content"] == 3


async def trickle(*chunks):
    for chunk in chunks:
        yield chunk


async def test_a_short_download_is_noticed_by_its_length_or_by_half_a_line():
    whole = b'{"n":1}\n{"n":2}\n'
    batch = ProviderBatch(id="b", status=ProviderStatus.COMPLETED, output_ref="f")

    async def results(*answers):
        queue = list(answers)
        api = replying(lambda _: queue.pop(0))
        return [line async for line in api.results(batch)], len(queue)

    short = httpx2.Response(200, headers={"content-length": "16"}, content=trickle(whole[:8]))
    half = httpx2.Response(200, content=trickle(whole[:12]))
    assert await results(short, half, httpx2.Response(200, content=whole)) == ([b'{"n":1}', b'{"n":2}'], 0)
    with pytest.raises(Unreachable, match="half a line"):
        await results(*(httpx2.Response(200, content=trickle(whole[:12])) for _ in range(3)))


async def test_a_compressed_download_is_measured_as_it_was_sent():
    whole = b'{"n":1}\n' * 1_000
    packed = gzip.compress(whole)
    headers = {"content-encoding": "gzip", "content-length": str(len(packed))}
    api = replying(lambda _: httpx2.Response(200, headers=headers, content=trickle(packed[:9], packed[9:])))
    batch = ProviderBatch(id="b", status=ProviderStatus.COMPLETED, output_ref="f")
    assert [line async for line in api.results(batch)] == [b'{"n":1}'] * 1_000


async def test_a_file_that_is_named_and_gone_is_an_error_and_not_an_empty_file():
    provider = provider_of()
    api = api_of(provider)
    batch = await finished(provider, api, "a")
    await api.clean([batch.output_ref or ""])
    with pytest.raises(ProviderRefused) as caught:
        await ids_of(api, batch)
    assert caught.value.status == 404


async def test_a_batch_without_files_has_no_lines():
    provider = provider_of(Mishap(kind=MishapKind.NO_OUTPUT_FILE), Mishap(kind=MishapKind.BLANK_ERROR_FILE_ID))
    api = api_of(provider)
    assert await ids_of(api, await finished(provider, api, "a")) == []


# --- ending -----------------------------------------------------------------------------------------------------


async def test_cancelling_may_be_repeated_and_leaves_the_ended_alone():
    provider = provider_of(cancel_s=10)
    api = api_of(provider)
    batch = await submit(api, "a", "b")
    await api.cancel(batch.id)
    await api.cancel(batch.id)
    provider.clock.advance(10)
    await api.cancel(batch.id)
    seen = await api.get(batch.id)
    assert seen is not None
    assert seen.status is ProviderStatus.CANCELLED
    done = await finished(provider, api, "c", key=SubmissionKey("prod", "b-2", 1))
    await api.cancel(done.id)
    assert await api.get(done.id) == done
    await api.cancel("batch_none")


async def test_a_cancel_that_is_refused_while_the_batch_runs_is_raised():
    def handler(request):
        if request.method == "POST":
            return httpx2.Response(409, json={"error": {"message": "not now"}})
        return httpx2.Response(200, json={"id": "b", "status": "in_progress"})

    with pytest.raises(ProviderRefused, match="not now"):
        await replying(handler).cancel("b")


async def test_cleaning_goes_on_past_a_refusal_and_then_says_so():
    deleted = []

    def handler(request):
        name = request.url.path.rpartition("/")[2]
        if name == "held":
            return httpx2.Response(403, json={"error": {"message": "held"}})
        deleted.append(name)
        return httpx2.Response(405 if name == "undeletable" else 200, json={})

    with pytest.raises(ProviderRefused, match="held"):
        await replying(handler).clean(["one", "held", "", "undeletable", "two"])
    assert deleted == ["one", "undeletable", "two"]
