"""The life of batches at the simulated provider."""

from __future__ import annotations

import json

import openai
import pytest

from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Window, WindowKind
from lowtide_local.simulator.testing import SteppingClock
from tests.simulator.sdk import connect

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def provider_of(*mishaps, **weather):
    batch = BatchWeather(**{"min_s": 100, "max_s": 100, "mishaps": mishaps, **weather})
    return SimulatedProvider(Scenario(batch=batch), SteppingClock())


def line(custom_id, text="hello", model="gpt-5-mini", **more):
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def jsonl(lines):
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


async def submit(client, lines, **more):
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


async def lines_in(client, file_id):
    if not file_id:
        return []
    content = await client.files.content(file_id)
    return [json.loads(raw) for raw in content.content.split(b"\n") if raw]


async def ended(provider, client, lines, **more):
    batch = await submit(client, lines, **more)
    provider.clock.advance(100)
    return await client.batches.retrieve(batch.id)


async def test_a_batch_moves_with_the_clock_and_ends_with_every_answer():
    provider = provider_of()
    client = connect(provider)
    batch = await submit(client, [line("a"), line("b", "other")], metadata={"k": "v"})
    seen = [batch.status]
    for _ in range(10):
        provider.clock.advance(10)
        seen.append((await client.batches.retrieve(batch.id)).status)
    assert list(dict.fromkeys(seen)) == ["validating", "in_progress", "finalizing", "completed"]
    done = await client.batches.retrieve(batch.id)
    assert done.metadata == {"k": "v"}
    assert done.error_file_id is None
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (2, 2, 0)
    lines = await lines_in(client, done.output_file_id)
    assert {each["custom_id"] for each in lines} == {"a", "b"}
    assert all(each["response"]["status_code"] == 200 for each in lines)


async def test_a_batch_bills_each_answered_line_once_however_often_it_is_looked_at():
    provider = provider_of()
    client = connect(provider)
    batch = await ended(provider, client, [line("a"), line("b", "x [sim:500]"), line("c", "y [sim:missing]")])
    for _ in range(3):
        await client.batches.retrieve(batch.id)
    assert [(each.id, each.batch_id, each.service_tier) for each in provider.billed] == [("a", batch.id, "batch")]
    bill = provider.billing()
    assert bill["batches"][batch.id]["lines"] == bill["totals"]["lines"] == 1
    assert batch.usage is not None
    assert batch.usage.total_tokens == bill["totals"]["input_tokens"] + bill["totals"]["output_tokens"]


async def test_an_expired_batch_keeps_and_bills_what_was_finished():
    provider = provider_of(Mishap(kind=MishapKind.EXPIRES, fraction=0.25))
    client = connect(provider)
    batch = await ended(provider, client, [line(f"i{n}", f"q{n}") for n in range(8)])
    assert batch.status == "expired"
    output, errors = await lines_in(client, batch.output_file_id), await lines_in(client, batch.error_file_id)
    assert len(output) == len(provider.billed) == 2
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}
    assert {each["custom_id"] for each in output + errors} == {f"i{n}" for n in range(8)}


async def test_a_batch_slower_than_its_window_expires_at_the_window():
    provider = provider_of(min_s=200_000, max_s=200_000)
    client = connect(provider)
    batch = await submit(client, [line(f"i{n}", f"q{n}") for n in range(10)])
    provider.clock.advance(86_399)
    assert (await client.batches.retrieve(batch.id)).status == "in_progress"
    provider.clock.advance(1)
    late = await client.batches.retrieve(batch.id)
    assert late.status == "expired"
    assert 0 < len(await lines_in(client, late.output_file_id)) < 10


async def test_a_cancelled_batch_takes_its_time_and_keeps_its_partial_output():
    provider = provider_of(cancel_s=30)
    client = connect(provider)
    batch = await submit(client, [line(f"i{n}", f"q{n}") for n in range(8)])
    provider.clock.advance(50)  # half-way
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    provider.clock.advance(29)
    assert (await client.batches.retrieve(batch.id)).status == "cancelling"
    provider.clock.advance(1)
    done = await client.batches.retrieve(batch.id)
    assert done.status == "cancelled"
    assert len(await lines_in(client, done.output_file_id)) == len(provider.billed) == 4
    assert {each["error"]["code"] for each in await lines_in(client, done.error_file_id)} == {"batch_cancelled"}
    assert (await client.batches.cancel(batch.id)).status == "cancelled"


async def test_a_batch_that_has_ended_by_itself_cannot_be_cancelled():
    provider = provider_of()
    client = connect(provider)
    batch = await ended(provider, client, [line("a")])
    with pytest.raises(openai.ConflictError, match="status 'completed'"):
        await client.batches.cancel(batch.id)


async def test_validation_names_the_broken_lines_and_runs_none():
    provider = provider_of()
    client = connect(provider)
    good = jsonl([line("a"), line("a"), line("b", model="gpt-5"), line("c", "[sim:bad-line]")])
    batch = await ended(provider, client, good + b"{broken\n")
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(fault.line, fault.code) for fault in batch.errors.data or []] == [
        (2, "duplicate_custom_id"),
        (3, "mismatched_model"),
        (4, "invalid_request"),
        (5, "invalid_json_line"),
    ]
    assert provider.billed == []


async def test_a_body_that_the_endpoint_refuses_fails_alone():
    provider = provider_of()
    client = connect(provider)
    mistaken = {"model": "gpt-5-mini", "messages": [{"rolez": "user", "contentz": "hello"}]}
    batch = await ended(provider, client, [line("good"), {**line("bad"), "body": mistaken}])
    assert batch.status == "completed"
    [error] = await lines_in(client, batch.error_file_id)
    assert (error["custom_id"], error["response"]["status_code"], error["error"]) == ("bad", 400, None)
    assert [each["custom_id"] for each in await lines_in(client, batch.output_file_id)] == ["good"]


@pytest.mark.parametrize(("lines", "named"), [((2, 3), [2, 3]), ((), [None])])
async def test_a_scenario_can_fail_a_batch_with_or_without_naming_lines(lines, named):
    provider = provider_of(Mishap(kind=MishapKind.FAILS_VALIDATION, batches=(1,), lines=lines))
    client = connect(provider)
    batch = await ended(provider, client, [line(f"i{n}") for n in range(3)])
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [fault.line for fault in batch.errors.data or []] == named
    again = await ended(provider, client, [line("other")])
    assert again.status == "completed"


async def test_enqueued_tokens_over_the_limit_fail_the_batch_until_there_is_room():
    provider = provider_of(max_enqueued_tokens=30)
    client = connect(provider)
    first = await submit(client, [line("a", max_completion_tokens=20)])
    second = await submit(client, [line("b", max_completion_tokens=20)])
    provider.clock.advance(50)
    failed = await client.batches.retrieve(second.id)
    assert failed.status == "failed"
    assert failed.errors is not None
    assert [fault.code for fault in failed.errors.data or []] == ["token_limit_exceeded"]
    provider.clock.advance(50)
    assert (await client.batches.retrieve(first.id)).status == "completed"
    assert (await ended(provider, client, [line("c", max_completion_tokens=20)])).status == "completed"


async def test_a_lost_reply_leaves_a_batch_behind():
    provider = provider_of(Mishap(kind=MishapKind.REPLY_LOST, batches=(1,)))
    client = connect(provider)
    with pytest.raises(openai.APIConnectionError):
        await submit(client, [line("a")])
    assert len((await client.batches.list()).data) == 1


async def test_the_list_lags_behind_creations():
    provider = provider_of(list_lag_s=60)
    client = connect(provider)
    batch = await submit(client, [line("a")])
    assert (await client.batches.retrieve(batch.id)).id == batch.id
    assert (await client.batches.list()).data == []
    provider.clock.advance(60)
    assert [each.id for each in (await client.batches.list()).data] == [batch.id]


async def test_lists_page_newest_first():
    provider = provider_of()
    client = connect(provider)
    made = []
    for n in range(5):
        made.append((await submit(client, [line(f"i{n}")])).id)
        provider.clock.advance(1)
    assert [each.id async for each in client.batches.list(limit=2)] == made[::-1]
    files = [each.id async for each in client.files.list(purpose="batch", limit=2)]
    oldest_first = [each.id async for each in client.files.list(purpose="batch", limit=2, order="asc")]
    assert len(files) == 5
    assert oldest_first == files[::-1]


async def test_output_may_be_shuffled_doubled_and_oddly_named():
    mishaps = [
        Mishap(kind=MishapKind.SHUFFLED),
        Mishap(kind=MishapKind.DUPLICATE_LINE),
        Mishap(kind=MishapKind.BLANK_ERROR_FILE_ID),
    ]
    provider = provider_of(*mishaps)
    client = connect(provider)
    batch = await ended(provider, client, [line(f"i{n}", f"q{n}") for n in range(20)])
    ids = [each["custom_id"] for each in await lines_in(client, batch.output_file_id)]
    assert batch.error_file_id == ""
    assert len(ids) == 21
    assert len(provider.billed) == len(set(ids)) == 20
    assert list(dict.fromkeys(ids)) != [f"i{n}" for n in range(20)]


async def test_a_completed_batch_may_have_no_output_file():
    provider = provider_of(Mishap(kind=MishapKind.NO_OUTPUT_FILE))
    batch = await ended(provider, connect(provider), [line("a")])
    assert (batch.status, batch.output_file_id, provider.billed) == ("completed", None, [])


async def test_a_batch_may_never_end_until_it_is_cancelled():
    provider = provider_of(Mishap(kind=MishapKind.NEVER_ENDS, contains="forever"))
    client = connect(provider)
    batch = await submit(client, [line("a", "forever"), line("b", "forever and more")])
    provider.clock.advance(1_000_000)
    assert (await client.batches.retrieve(batch.id)).status == "in_progress"
    assert (await client.batches.cancel(batch.id)).status == "cancelled"


async def test_marks_shape_the_lines_of_a_batch():
    provider = provider_of()
    client = connect(provider)
    marks = ["string-body", "garbage", "timeout", "missing", "refuse", "twice", "u2028"]
    batch = await ended(provider, client, [line(mark, f"x [sim:{mark}]") for mark in marks])
    output = {each["custom_id"]: each for each in await lines_in(client, batch.output_file_id)}
    errors = {each["custom_id"]: each for each in await lines_in(client, batch.error_file_id)}
    assert json.loads(output["string-body"]["response"]["body"])["object"] == "chat.completion"
    assert isinstance(output["garbage"]["response"]["body"], str)
    assert errors["timeout"]["error"]["code"] == "request_timeout"
    assert errors["refuse"]["response"]["body"]["error"]["code"] == "content_policy_violation"
    assert "\u2028" in output["u2028"]["response"]["body"]["choices"][0]["message"]["content"]
    assert set(output) | set(errors) == set(marks) - {"missing"}
    assert sorted(each.id or "" for each in provider.billed) == ["garbage", "string-body", "twice", "u2028"]


async def test_a_line_that_asks_to_expire_takes_only_itself_along():
    provider = provider_of()
    client = connect(provider)
    lines = [line("a"), line("b", "x [sim:expire-once]")]
    batch = await ended(provider, client, lines)
    assert batch.status == "expired"
    assert [each["custom_id"] for each in await lines_in(client, batch.error_file_id)] == ["b"]
    assert (await ended(provider, client, lines[1:])).status == "completed"


async def test_faults_of_lines_are_drawn_for_the_first_sight_only():
    provider = provider_of(item_server_error=0.5, item_rate_limited=0.5)
    client = connect(provider)
    lines = [line(f"i{n}", f"q{n}") for n in range(40)]
    batch = await ended(provider, client, lines)
    errors = await lines_in(client, batch.error_file_id)
    assert {each["response"]["status_code"] for each in errors} == {429, 500}
    failed = {each["custom_id"] for each in errors}
    again = await ended(provider, client, [each for each in lines if each["custom_id"] in failed])
    assert again.error_file_id is None


async def test_files_live_until_they_are_deleted_or_expire():
    provider = provider_of()
    client = connect(provider)
    kept = await client.files.create(
        file=("a.jsonl", b"{}\n"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3_600}
    )
    deleted = await client.files.create(file=("b.jsonl", b"{}\n"), purpose="batch")
    assert (await client.files.content(kept.id)).content == b"{}\n"
    assert (await client.files.delete(deleted.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(deleted.id)
    provider.clock.advance(3_600)
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(kept.id)
    assert provider.state()["files"] == []


async def test_a_batch_file_must_be_called_jsonl():
    with pytest.raises(openai.BadRequestError, match="jsonl"):
        await connect(provider_of()).files.create(file=("a.json", b"{}\n"), purpose="batch")


async def test_a_quota_window_refuses_new_batches_and_no_looks():
    batch = BatchWeather(min_s=1, max_s=1)
    window = Window(kind=WindowKind.QUOTA, from_s=5, to_s=10)
    provider = SimulatedProvider(Scenario(batch=batch, windows=(window,)), SteppingClock())
    client = connect(provider)
    earlier = await submit(client, [line("a")])
    provider.clock.advance(5)
    with pytest.raises(openai.RateLimitError) as caught:
        await submit(client, [line("b")])
    assert caught.value.code == "insufficient_quota"
    assert (await client.batches.retrieve(earlier.id)).status == "completed"
