"""What the end of a call says about the provider: the other half of the table in outcomes.py."""

from __future__ import annotations

from http import HTTPStatus
from typing import assert_never

from .lanes import Lane
from .outcomes import TIMEOUT, Again, Answered, Bury, Halt, Outcome, Response
from .pace_events import Sign

_OF_ITSELF = frozenset(
    {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT, 529}  # 529: overloaded
)
"""Statuses in which a provider speaks of itself, and never of one request."""


def sign_of(response: Response, outcome: Outcome, lane: Lane) -> Sign:
    match outcome:
        case Answered() | Bury():
            return Sign.ANSWERED
        case Halt():
            return Sign.REFUSED
        case Again():
            return _unanswered(response, outcome, lane)
        case _:
            assert_never(outcome)


def _unanswered(response: Response, outcome: Again, lane: Lane) -> Sign:
    status = response.status
    if status is None:
        if lane is Lane.FLEX and response.fault == TIMEOUT and response.sent:
            return Sign.STALLED
        return Sign.FAILED if response.sent else Sign.DOWN
    if outcome.flex_refused:
        # Any other refusal of a lane says that the model does not know it.
        return Sign.NO_CAPACITY if status == HTTPStatus.TOO_MANY_REQUESTS else Sign.ANSWERED
    if not outcome.counts:
        return Sign.LIMITED
    if status in _OF_ITSELF:
        return Sign.DOWN
    if status == HTTPStatus.OK and isinstance(response.body, dict):
        # A response of /v1/responses that says that it failed: somebody was there to say so.
        return Sign.ANSWERED
    return Sign.FAILED
