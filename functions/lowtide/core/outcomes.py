"""What a provider's answer or failure means for the task that asked: answered, again, bury, or stop sending.

A real-time reply and a line of a batch's output are judged by the same table (whose_fault.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, assert_never

from .account_words import names_account
from .answer_shapes import what_is_missing
from .lanes import Lane
from .own_words import own_words
from .provider_errors import ProviderError, error_inside, error_of, wait_told
from .provider_words import any_text, code_text, message_text
from .reported_usage import ran
from .task import Endpoint
from .whose_fault import Fault, fault_of_request, no_capacity, of_account


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
    """An answer, but not what was asked for, or a response that failed at work: it says what it used, and that was paid
    for."""
    doubt: bool = False
    """The refusal does not name its request. Other calls show whether the request or the account is at fault
    (core/doubts.py)."""


@dataclass(frozen=True, slots=True)
class Bury:
    """Cannot succeed, however often it is asked. ``billed``: see Again."""

    code: str
    message: str
    billed: bool = False


@dataclass(frozen=True, slots=True)
class Halt:
    """The account is refused, not the task, or there is no key to ask with: stop sending, lose nothing, call the
    operator. ``in_words``: only a sentence says so, and it may repeat what the sender wrote."""

    code: str
    message: str
    in_words: bool = False


Outcome = Answered | Again | Bury | Halt

LAST_WAIT_SHARE = 0.1
"""Of the time left: what a deadline can spare. NORMAL waits minutes, CRITICAL as long as it always did."""
LONGEST_RETRY_AFTER_S = 900.0
"""One that says more is asked again all the same: windows of rate limits are minutes, and tasks have deadlines."""
_TRIED_STATUSES = frozenset({408, 409})
"""Statuses of a request that the provider had begun to work on: they use up a try. A rate limit does not."""
_OK = range(200, 300)
_MOST_DOUBLINGS = 60
"""Past any cap, and within a float: a task that waits out a long storm of 429s is tried thousands of times."""
_NO_RESPONSE = frozenset({"failed", "cancelled", "queued", "in_progress"})
"""Values of ``status`` with which a response of /v1/responses says that it holds no answer. ``incomplete`` is an
answer, as a chat is that ends at its limit."""
_FAILED_FOR_A_WHILE = frozenset(
    {"server_error", "rate_limit_exceeded", "vector_store_timeout", "failed_to_download_image"}
)
_FAILED_FOR_GOOD = ("invalid_", "image_", "unsupported_", "empty_", "data_residency_")
"""How the codes of a failed response begin that no repetition mends. Source: openai 3.x, its ResponseError."""
_LANE_FIELD = re.compile(r"service_?tier", re.IGNORECASE)
TIMEOUT = "timeout"
"""The ``fault`` of a call that took all its time."""
KEY_UNREADABLE = "key_unreadable"
"""The ``fault`` of a call that was not made, because its provider's key could not be had."""
KEY_STORE_AWAY = "key_store_away"
"""The ``fault`` of a call that was not made, because the place where its provider's key is kept did not answer."""
REDIRECTED = "redirected"
"""The ``fault`` of a call that its provider's address sent on to another."""
UNSENDABLE = frozenset({KEY_UNREADABLE, REDIRECTED})
"""Faults for which nothing is sent until an operator acts. The ``body`` is our own sentence on them."""
BATCH_CANCELLED = "batch_cancelled"
"""The provider's code for a line of a cancelled batch that did not run."""
INVALID_RESPONSE = "invalid_response"


def judge(response: Response, lane: Lane, endpoint: Endpoint | None = None) -> Outcome:
    """Judge a reply. Unknown codes and statuses are judged by their class. Without ``endpoint``, the shape of a body
    that came with 200 is not checked."""
    status = response.status
    if response.fault in UNSENDABLE:
        return Halt(response.fault, str(response.body))
    if status is None:
        code = response.fault or "connection"
        if code == KEY_STORE_AWAY:
            return Again(code, str(response.body), counts=False)
        if lane is Lane.FLEX and code == TIMEOUT and response.sent:
            # Flex may take longer than we wait. That is no fault of the task's: it is tried elsewhere in the end.
            message = "flex did not answer in time"
            return Again(code, message, counts=False, unsure=True, lane_fault=LaneFault.STALLED)
        # A request that never left was no try: an outage must not use up a task's attempts.
        return Again(code, f"no answer from the provider ({code})", counts=response.sent, unsure=response.sent)
    if status in _OK:
        outcome = _judged_answer(response, lane, endpoint)
        if isinstance(outcome, Answered) or endpoint is None or not ran(response.body, endpoint):
            return outcome
        return _paid_for(outcome)
    return _judged_error(error_of(status, response.body), response, lane)


def status_told(response: Response) -> int | None:
    """Return the HTTP status, or the status that an error names in a body that came with 200."""
    if response.status not in _OK or (error := error_inside(response.body)) is None:
        return response.status
    return error.status or response.status


def no_response(body: Any) -> bool:
    """Does a response of /v1/responses say that it holds no answer? A chat or an embedding may have a ``status`` of its
    server's own beside its answer."""
    if not isinstance(body, dict) or body.get("object") == "error" or body.get("choices") or body.get("data"):
        return False
    status = body.get("status")
    return isinstance(status, str) and status in _NO_RESPONSE


def _judged_answer(response: Response, lane: Lane, endpoint: Endpoint | None) -> Outcome:
    body, error = response.body, error_inside(response.body)
    named = None if error is None else replace(error, status=error.status or response.status)
    if error and named and of_account(error):
        return Halt(named.name, named.sentence)
    if no_response(body):
        return _judged_end(named)
    if error and named:
        if error.status is None:
            return Again(named.name, named.sentence, unsure=True)
        outcome = _judged_error(error, response, lane)
        # The provider may have billed it before it failed.
        return replace(outcome, unsure=True) if isinstance(outcome, Again) and outcome.counts else outcome
    if not isinstance(body, dict):
        return Again(INVALID_RESPONSE, "the provider answered with no JSON object", unsure=True)
    missing = None if endpoint is None else what_is_missing(body, endpoint)
    if missing is not None:
        return Again(INVALID_RESPONSE, f"the provider answered with nothing that is an answer: {missing}", unsure=True)
    return Answered()


def _paid_for(outcome: Outcome) -> Outcome:
    """Judge what is no answer, and reports what it used: it is billed for certain, and uses up a try."""
    match outcome:
        case Again():
            return replace(outcome, billed=True, unsure=False, counts=True, doubt=False)
        case Bury():
            return replace(outcome, billed=True)
        case _:
            return outcome


def _judged_end(error: ProviderError | None) -> Outcome:
    """Judge a response of /v1/responses that says that it holds no answer."""
    if error is None:
        return Again(INVALID_RESPONSE, "the provider answered with a response that did not end", unsure=True)
    code = error.code or ""
    for_good = code.startswith(_FAILED_FOR_GOOD) or code.endswith(("_policy", "_policy_violation"))
    if for_good and code not in _FAILED_FOR_A_WHILE:
        # What a chat is told with 400: the request is at fault.
        return Bury(error.name, error.sentence)
    return Again(error.name, error.sentence, unsure=True)


def _judged_error(error: ProviderError, response: Response, lane: Lane) -> Outcome:
    code, message = error.name, error.sentence
    delay_s = believed_s(wait_asked_s(response, error))
    told_to_wait = response.retry_after_s is not None
    fault = fault_of_request(error, told_to_wait=told_to_wait)
    at_fault = fault in (Fault.ITEM, Fault.UNNAMED)
    if at_fault and lane in (Lane.FLEX, Lane.PRIORITY) and _names_lane(error, response, lane):
        # The field that we added is at fault, not the task: this server or this model does not know the lane.
        return Again(code, message, counts=False, lane_fault=LaneFault.UNKNOWN)
    match fault:
        case Fault.ACCOUNT:
            return Halt(code, message, in_words=not names_account(error, told_to_wait=told_to_wait))
        case Fault.NOW:
            full = LaneFault.NO_CAPACITY if lane is Lane.FLEX and no_capacity(error) else None
            return Again(code, message, counts=error.status in _TRIED_STATUSES, lane_fault=full, delay_s=delay_s)
        case Fault.PROVIDER:
            full = LaneFault.NO_CAPACITY if lane is Lane.FLEX and no_capacity(error) else None
            return Again(code, message, counts=full is None, lane_fault=full, delay_s=delay_s)
        case Fault.UNNAMED:
            return Again(code, message, counts=False, delay_s=delay_s, doubt=True)
        case Fault.ITEM:
            return Bury(code, message)
        case Fault.BATCH:
            raise AssertionError("a request is no batch")
        case _:
            assert_never(fault)


def _names_lane(error: ProviderError, response: Response, lane: Lane) -> bool:
    """Does the refusal speak of the lane that was asked for: its field, or in the provider's own words its name?"""
    if _LANE_FIELD.search(any_text(response.body)):
        return True
    return re.search(rf"\b{lane.value} (processing|tier|mode|lane|requests?)\b", own_words(error)) is not None


def judge_line(
    response: Response | None,
    error_code: str | None,
    error_message: str | None,
    *,
    error_type: str | None = None,
    endpoint: Endpoint | None = None,
) -> Outcome:
    """Judge a line of a batch's output or error file. A line with an unknown ``error`` code may still succeed."""
    if response is not None and response.status is not None:
        return _of_a_line(judge(response, Lane.BATCH, endpoint))
    code = code_text(error_code or error_type or "no_response")
    message = message_text(error_message or f"the batch ended without an answer ({code})")
    if code == BATCH_CANCELLED:
        # A line that a cancelled batch never ran has not had its try.
        return Again(code, message, counts=False)
    error = error_inside({"error": {"code": error_code, "type": error_type, "message": error_message}})
    if error is None:
        # A line without an answer and without an error may have been billed.
        return Again(code, message, unsure=True)
    if error.status is None and not of_account(error):
        return Again(code_text(error.code or code), message)
    told = replace(error, code=error.code or error.type or code, message=error.message or message)
    return _of_a_line(_judged_error(told, Response(None), Lane.BATCH))


def _of_a_line(outcome: Outcome) -> Outcome:
    match outcome:
        case Again(code, message, unsure=unsure, doubt=doubt, billed=billed):
            # Inside a batch nothing waits its turn: every failed line has had its try.
            return Again(code, message, counts=not doubt, unsure=unsure, doubt=doubt, billed=billed)
        case Halt(code, message, in_words):
            # A sentence is believed if the batch answered nothing else.
            return Again(code, message, counts=False, account=True, doubt=in_words)
        case _:
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


def wait_asked_s(response: Response, error: ProviderError | None = None) -> float | None:
    """Return the seconds that the provider asks to wait, from its header or its message. None: it does not say."""
    if response.retry_after_s is not None or response.status is None:
        return response.retry_after_s
    return wait_told((error or error_of(response.status, response.body)).message)


def believed_s(retry_after_s: float | None) -> float | None:
    """Return how long of it is really waited."""
    return None if retry_after_s is None else min(max(retry_after_s, 0.0), LONGEST_RETRY_AFTER_S)
