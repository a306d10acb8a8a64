"""Replies that no provider should give: whatever is in one, it is judged, and nothing is raised."""

from __future__ import annotations

from datetime import timedelta

import httpx2
import orjson
import pytest

from lowtide.adapters.openai.ranges import total_of
from lowtide.adapters.openai.reading import moment_of, provider_batch
from lowtide.adapters.openai.wire import headroom, retry_after_s
from lowtide.core.batches import ProviderStatus
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import Response, judge, judge_line
from lowtide.core.provider_words import any_text


def deep(levels: int) -> object:
    return orjson.loads("[" * levels + "]" * levels)


@pytest.mark.parametrize("levels", [300, 900, 1_020])
@pytest.mark.parametrize("status", [200, 400, 404, 429, 500])
def test_an_error_of_any_shape_and_depth_is_judged(status, levels):
    hidden = deep(levels)
    for body in (
        hidden,
        {"error": hidden},
        {"error": {"code": hidden, "type": hidden, "message": hidden}},
        {"message": hidden},
        {"detail": hidden},
        {"status": hidden},
        {"status": "failed", "error": {"code": hidden}},
    ):
        for lane in Lane:
            assert judge(Response(status, body), lane)
        assert judge_line(Response(status, body), None, None)


@pytest.mark.parametrize(
    "field", ["status", "id", "usage", "errors", "error", "created_at", "completed_at", "input_file_id"]
)
def test_a_batch_with_any_field_nested_deeply_is_read(field):
    for hidden in (deep(1_000), {"data": deep(900)}, {"data": [{"code": deep(900), "message": deep(900), "line": 1}]}):
        assert provider_batch({"id": "batch_1", field: hidden}).status is ProviderStatus.IN_PROGRESS


def test_what_cannot_be_written_is_named():
    assert any_text(deep(1_020)) == "(nested too deeply to be shown)" or any_text(deep(1_020)).startswith("[[")
    assert [any_text(said) for said in ("text", 7, None, {"a": [1]})] == ["text", "7", "null", '{"a": [1]}']


DATES = [
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 31 Dec 9999 23:59:59 -9999",
    "Mon, 01 Jan 0001 00:00:00 +9999",
    "Mon, 1 Jan 2026 00:00:00 +" + "9" * 5_000,
    "," * 50_000,
    "(" * 50_000,
    "9" * 5_000,
    "a" * 100_000,
    "",
]


@pytest.mark.parametrize("said", DATES)
def test_a_wait_that_cannot_be_read_is_none_or_a_number(said):
    for headers in ({"retry-after": said}, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": said}):
        found = retry_after_s(httpx2.Headers(headers))
        assert found is None or found >= 0
    headroom(httpx2.Headers({"x-ratelimit-limit-requests": said, "x-ratelimit-limit-tokens": "nan"}))
    moment_of(said)


@pytest.mark.parametrize(
    "moment", [1e308, -1e308, 2**62, -(2**63), True, [], {}, "9999-12-31T23:59:59-14:00", "2026" * 9_999]
)
def test_a_moment_beyond_the_calendar_is_none(moment):
    assert moment_of(moment) is None


@pytest.mark.parametrize(
    "told", ["bytes 0-9/" + "9" * 5_000, "bytes ٠-٩/١٠", "bytes 0-9/*", "bytes 9-0/10", "bytes " * 9_999, ""]
)
def test_a_range_that_is_not_what_was_asked_for_is_none(told):
    response = httpx2.Response(206, headers={"content-range": told.encode()})
    assert total_of(response, 0) is None


@pytest.mark.parametrize("limit", ["1e-300", "5e-324", "0.00001", "0.5", "1e13", "1e300", "nan", "inf", "-1", "0", ""])
def test_what_is_no_limit_of_a_minute_is_not_said(limit):
    assert headroom(httpx2.Headers({"x-ratelimit-limit-requests": limit, "x-ratelimit-limit-tokens": limit})) is None


@pytest.mark.parametrize("header", ["retry-after", "retry-after-ms"])
def test_no_wait_that_a_header_asks_for_lies_beyond_the_calendar(header):
    for asked in ("1e300", "1e308", "9" * 300, "Fri, 31 Dec 9999 23:59:59 GMT"):
        wait_s = retry_after_s(httpx2.Headers({header: asked}))
        assert wait_s is None or timedelta(seconds=wait_s) < timedelta(days=4_000)
