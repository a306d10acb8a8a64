"""What the end of a call says about the provider, beside what it says about the task."""

from __future__ import annotations

import pytest

from lowtide.core.lanes import Lane
from lowtide.core.outcomes import Response, judge
from lowtide.core.pace_events import Sign
from lowtide.core.signs import sign_of


def sign(response: Response, lane: Lane = Lane.DEFAULT) -> Sign:
    return sign_of(response, judge(response, lane))


def failure(status: int, code: str | None = None) -> Response:
    return Response(status, {"error": {"code": code, "message": "It says why."}})


@pytest.mark.parametrize("status", [400, 413, 422])
def test_whoever_refuses_one_request_is_there(status):
    assert sign(failure(status, "bad_thing")) is Sign.ANSWERED
    assert sign(failure(404, "model_not_found")) is Sign.ANSWERED


@pytest.mark.parametrize("status", [403, 404, 405])
def test_a_refusal_that_names_nothing_puts_the_account_in_doubt(status):
    assert sign(failure(status, "bad_thing")) is Sign.DOUBTED


@pytest.mark.parametrize(
    ("code", "found"),
    [(429, Sign.LIMITED), (502, Sign.DOWN), (500, Sign.FAILED), (402, Sign.REFUSED), (400, Sign.ANSWERED)],
)
def test_an_error_with_200_says_of_the_provider_what_its_own_status_would(code, found):
    assert sign(Response(200, {"error": {"code": code, "message": "why"}, "choices": None})) is found


@pytest.mark.parametrize("status", [502, 503, 504, 529])
def test_some_statuses_speak_of_the_provider_itself(status):
    assert sign(failure(status)) is Sign.DOWN


@pytest.mark.parametrize(
    "response",
    [
        failure(500),
        failure(408),
        Response(200, "<html>"),
        Response(None, fault="timeout"),
        Response(None, fault="connection"),
    ],
)
def test_others_may_be_the_item_s_fault(response):
    assert sign(response) is Sign.FAILED


def test_a_connection_that_was_never_made_says_that_nobody_is_there():
    assert sign(Response(None, fault="connection", sent=False)) is Sign.DOWN


@pytest.mark.parametrize("response", [failure(429, "rate_limit_exceeded"), failure(503, "slow_down")])
def test_too_fast_is_not_down(response):
    assert sign(response) is Sign.LIMITED


@pytest.mark.parametrize("response", [failure(401, "invalid_api_key"), failure(429, "insufficient_quota")])
def test_a_refused_account_is_neither(response):
    assert sign(response) is Sign.REFUSED


def test_flex_refuses_in_two_ways_and_neither_is_the_model_s():
    assert sign(failure(429, "resource_unavailable"), Lane.FLEX) is Sign.NO_CAPACITY
    assert sign(Response(None, fault="timeout"), Lane.FLEX) is Sign.STALLED
    assert sign(failure(400, "service_tier is unknown"), Lane.FLEX) is Sign.ANSWERED


def test_a_response_that_says_that_it_failed_was_said_by_somebody():
    assert sign(Response(200, {"status": "failed", "error": {"code": "server_error"}})) is Sign.ANSWERED
