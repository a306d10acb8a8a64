"""What the end of a call says about the provider: the other half of the table in outcomes.py."""

from __future__ import annotations

from http import HTTPStatus
from typing import assert_never

from .outcomes import (
    KEY_STORE_AWAY,
    Again,
    Answered,
    Bury,
    Halt,
    LaneFault,
    Outcome,
    Response,
    no_response,
    status_told,
)
from .pace_events import Sign

_OF_ITSELF = frozenset(
    {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT, 529}  # 529: overloaded
)
"""Statuses in which a provider speaks of itself, and never of one request."""


def sign_of(response: Response, outcome: Outcome) -> Sign:
    match outcome:
        case Answered() | Bury():
            return Sign.ANSWERED
        case Halt():
            return Sign.REFUSED
        case Again():
            return _unanswered(response, outcome)
        case _:
            assert_never(outcome)


def _unanswered(response: Response, outcome: Again) -> Sign:
    status = status_told(response)
    if response.fault == KEY_STORE_AWAY:
        return Sign.UNUSED
    if response.status == HTTPStatus.OK and no_response(response.body):
        # A response of /v1/responses that says that it failed shows that the provider is there.
        return Sign.ANSWERED
    if status is None:
        if outcome.lane_fault is LaneFault.STALLED:
            return Sign.STALLED
        return Sign.FAILED if response.sent else Sign.DOWN
    if outcome.doubt:
        return Sign.DOUBTED
    if outcome.lane_fault is not None:
        return Sign.NO_CAPACITY if outcome.lane_fault is LaneFault.NO_CAPACITY else Sign.ANSWERED
    if not outcome.counts:
        return Sign.LIMITED
    if status in _OF_ITSELF:
        return Sign.DOWN
    return Sign.FAILED
