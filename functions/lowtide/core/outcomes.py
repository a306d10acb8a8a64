"""What a provider's answer or failure means for the task that asked: answered, again, bury, or stop sending.

One table for both paths: a real-time reply and a line of a batch's output are judged by the same rules
(docs/architecture.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

from .lanes import Lane
from .provider_words import any_text, code_text, message_text


@dataclass(frozen=True, slots=True)
class Headroom:
    """What the provider's headers say of its rate limits: how many a minute. None: not said."""

    requests_limit: float | None = None
    tokens_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. ``status`` is None where nothing did: ``fault`` is then ``timeout`` or ``connection``, and
    ``sent`` says whether the request left, so that the provider may have billed it. ``fault`` is one of
    ``UNSENDABLE`` where it could not be made: ``body`` then says why.
    """

    status: int | None
    body: Any = None
    request_id: str | None = None
    retry_after_s: float | None = None
    fault: str | None = None
    sent: bool = True
    headroom: Headroom | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    pass


class LaneFault(StrEnum):
    """Why flex or priority would not serve a call. It is no fault of the task's, and uses up no try."""

    NO_CAPACITY = "no_capacity"
    """It said so at once, and nothing is charged."""
    STALLED = "stalled"
    """It took all the time that a call may, and may be billed."""
    UNKNOWN = "unknown"
    """This server or this model does not have the lane."""


@dataclass(frozen=True, slots=True)
class Again:
    """May yet succeed. ``counts`` uses up a try; ``unsure``: it may have been billed; ``delay_s``: as asked for."""

    code: str
    message: str
    counts: bool = True
    unsure: bool = False
    lane_fault: LaneFault | None = None
    delay_s: float | None = None
    account: bool = False
    """The account was refused, not this line: whoever sends more has to wait for an operator."""
    billed: bool = False
    """An answer, but not what was asked for: it says what it used, and that was paid for."""


@dataclass(frozen=True, slots=True)
class Bury:
    """Cannot succeed, however often it is asked. ``billed``: see Again."""

    code: str
    message: str
    billed: bool = False


@dataclass(frozen=True, slots=True)
class Halt:
    """The account is refused, not the task, or there is no key to ask with: stop sending, lose nothing, call the
    operator."""

    code: str
    message: str


Outcome = Answered | Again | Bury | Halt

# Permanent for the account, not for the item. Source: the provider's guide to error codes.
_ACCOUNT_CODES = frozenset({"insufficient_quota", "credit_balance_exhausted", "invalid_api_key", "account_deactivated"})
LAST_WAIT_SHARE = 0.1
"""Of the time left: what a deadline can spare. NORMAL waits minutes, CRITICAL as long as it always did."""
LONGEST_RETRY_AFTER_S = 900.0
"""One that says more is asked again all the same: windows of rate limits are minutes, and tasks have deadlines."""
_BUSY_STATUSES = frozenset({408, 409})
_OK = range(200, 300)
_SERVER_FAULT = range(500, 600)
_TOO_MANY_REQUESTS = 429
_MOST_DOUBLINGS = 60
"""Past any cap, and within a float: a task that waits out a long storm of 429s is tried thousands of times."""
_UNAUTHORIZED = 401
_FAILED_FOR_A_WHILE = frozenset(
    {"server_error", "rate_limit_exceeded", "vector_store_timeout", "failed_to_download_image"}
)
_FAILED_FOR_GOOD = ("invalid_", "image_", "unsupported_", "empty_", "data_residency_")
"""How the codes of a failed response begin that no repetition mends. Source: openai 3.x, its ResponseError."""
_LANE_FIELD = "service_tier"
TIMEOUT = "timeout"
"""The ``fault`` of a call that took all its time."""
KEY_UNREADABLE = "key_unreadable"
"""The ``fault`` of a call that was not made, because its provider's key could not be had."""
REDIRECTED = "redirected"
"""The ``fault`` of a call that its provider's address sent on to another."""
UNSENDABLE = frozenset({KEY_UNREADABLE, REDIRECTED})
"""Faults for which nothing is sent until an operator acts. The ``body`` is our own sentence on them."""
BATCH_CANCELLED = "batch_cancelled"
"""The provider's code for a line of a cancelled batch that did not run."""


def judge(response: Response, lane: Lane) -> Outcome:
    """Total: codes and statuses that nobody has seen yet are judged by their class."""
    status = response.status
    if response.fault in UNSENDABLE:
        return Halt(response.fault, str(response.body))
    if status is None:
        code = response.fault or "connection"
        if lane is Lane.FLEX and code == TIMEOUT and response.sent:
            # Flex may take longer than we wait. That is no fault of the task's: it is tried elsewhere in the end.
            message = "flex did not answer in time"
            return Again(code, message, counts=False, unsure=True, lane_fault=LaneFault.STALLED)
        # A request that never left was no try: an outage must not use up a task's attempts.
        return Again(code, f"no answer from the provider ({code})", counts=response.sent, unsure=response.sent)
    code, message = _error_of(response.body, status)
    if status in _OK:
        if not isinstance(response.body, dict):
            return Again("invalid_response", "the provider answered with no JSON object", unsure=True)
        return _judged_status(response.body.get("status"), code, message)
    if status == _UNAUTHORIZED or code in _ACCOUNT_CODES or code.endswith("_spend_limit_exceeded"):
        return Halt(code, message)
    delay_s = _believed(response.retry_after_s)
    if status == _TOO_MANY_REQUESTS or code == "slow_down":
        fault = LaneFault.NO_CAPACITY if lane is Lane.FLEX and code == "resource_unavailable" else None
        return Again(code, message, counts=False, lane_fault=fault, delay_s=delay_s)
    if status in _BUSY_STATUSES or status in _SERVER_FAULT:
        return Again(code, message, delay_s=delay_s)
    if lane in (Lane.FLEX, Lane.PRIORITY) and _LANE_FIELD in any_text(response.body):
        # The field that we added is at fault, not the task: this server or this model does not know the lane.
        return Again(code, message, counts=False, lane_fault=LaneFault.UNKNOWN)
    return Bury(code, message)


def _judged_status(status: Any, code: str, message: str) -> Outcome:
    """A response of /v1/responses says how it went; chats and embeddings say nothing. What is incomplete is an answer,
    as a chat is that ends at its limit."""
    match status:
        case "failed" if code in _FAILED_FOR_A_WHILE:
            return Again(code, message, unsure=True)
        case "failed" if code.startswith(_FAILED_FOR_GOOD) or code.endswith(("_policy", "_policy_violation")):
            # What a chat is told with 400: the request is at fault.
            return Bury(code, message)
        case "failed" | "cancelled" | "queued" | "in_progress":
            # No answer, whatever its HTTP status.
            return Again(code, message, unsure=True)
        case _:
            return Answered()


def judge_line(response: Response | None, error_code: str | None, error_message: str | None) -> Outcome:
    """A line of a batch's output or error file. ``error`` codes are open, so each may yet succeed."""
    if response is None or response.status is None:
        code = code_text(error_code or "no_response")
        message = message_text(error_message or f"the batch ended without an answer ({code})")
        # A line that a cancelled batch never ran has not had its try.
        return Again(code, message, counts=code != BATCH_CANCELLED)
    match judge(response, Lane.BATCH):
        case Again(code, message, unsure=unsure):
            # Inside a batch nothing waits its turn: every failed line has had its try.
            return Again(code, message, unsure=unsure)
        case Halt(code, message):
            return Again(code, message, counts=False, account=True)
        case outcome:
            return outcome


def backoff_s(failures: int, *, base_s: float, cap_s: float, seed: str) -> float:
    """Exponential with jitter: between half and all of ``base · 2^(failures - 1)``, at most the cap.

    The jitter is drawn from ``seed``, so that whoever repeats a step arrives at the same moment.
    """
    doublings = min(max(0, failures - 1), _MOST_DOUBLINGS)
    ceiling = min(cap_s, base_s * 2.0**doublings)
    return ceiling * (0.5 + jitter(f"{seed} {failures}") / 2)


def last_wait_s(left_s: float, *, cap_s: float, seed: str) -> float:
    """Before a task's last try: a tenth of the ``left_s`` until its deadline, at most the cap, with the same jitter.

    A breaker takes three witnesses. A task that nobody calls beside has none but itself, and its tries should not all
    fall into the same short outage.
    """
    return min(cap_s, max(0.0, left_s) * LAST_WAIT_SHARE) * (0.5 + jitter(f"{seed} last") / 2)


def jitter(seed: str) -> float:
    """From 0 to 1, and always the same for the same seed."""
    return int.from_bytes(sha256(seed.encode()).digest()[:8], "big") / 2**64


def _believed(retry_after_s: float | None) -> float | None:
    return None if retry_after_s is None else min(max(retry_after_s, 0.0), LONGEST_RETRY_AFTER_S)


def _error_of(body: Any, status: int) -> tuple[str, str]:
    body = body if isinstance(body, dict) else {}
    error = body.get("error")
    if not isinstance(error, dict):
        # Servers built on other frameworks say it as ``detail``, ``message``, or ``error`` in a word.
        told = next((text for text in (body.get("message"), body.get("detail"), error) if text), None)
        text = any_text(told) if told else None
        return f"http_{status}", message_text(text or f"the provider answered with HTTP {status}")
    code = error.get("code") or error.get("type") or f"http_{status}"
    message = error.get("message") or f"the provider answered with HTTP {status}"
    return code_text(any_text(code)), message_text(any_text(message))
