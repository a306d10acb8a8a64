"""The end of a task, written down: the record with its receipt, and the dead letter where there is no answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from .charges import Charge, Seller
from .jsontext import DEEPEST, layers
from .lanes import Lane
from .masking import masked, masked_in
from .model import usd_text
from .outcomes import LaneFault, Response
from .quotes import Prompt
from .records import (
    DeadLetter,
    ErrorInfo,
    LetterError,
    LineResponse,
    ResultDocument,
    ResultRecord,
    Status,
    Usage,
)
from .task import AcceptedTask, record_id
from .tasks import Strikes

ZERO = Decimal(0)
_OK = range(200, 300)
_WRITTEN = frozenset({"choices", "output", "data"})
"""Fields of an answer that hold what the model wrote, one for each endpoint."""
_REQUEST_ID_CHARACTERS = 200
"""The provider's are 36 or 40 long; a header may hold anything."""


@dataclass(frozen=True, slots=True)
class Try:
    """The attempt that ended a task: its number, where it ran and what it had cost before.

    ``bought_at``, when it was ordered, is the one moment that prices it: the day of its prices and the off-peak hours
    that it lies in. None: when its answer came."""

    number: int
    lane: Lane
    reason: str
    strikes: Strikes
    batch_id: str | None = None
    rescued: bool = False
    """A deadline took the task out of batching."""
    bought_at: datetime | None = None


def answered(task: AcceptedTask, attempt: Try, response: Response, seller: Seller, now: datetime) -> ResultDocument:
    """The answer with its receipt: at the price of the day on which it was ordered, on the lane that was billed."""
    charge = seller.charge(response.body, task.endpoint, task.model, attempt.lane, attempt.bought_at or now)
    cost = charge.cost_usd
    premium = _premium(cost, charge.batch_usd) if attempt.rescued else None
    before = attempt.strikes.total_usd
    record = ResultRecord(
        id=record_id(task),
        custom_id=task.task_id,
        response=_line(response),
        error=None,
        task_id=task.task_id,
        tenant=task.tenant,
        type=task.type,
        tags=task.tags,
        tier=task.tier,
        lane=charge.lane,
        model=charge.model,
        model_asked=None if charge.model == task.model else task.model,
        status=Status.ANSWERED,
        attempts=attempt.number,
        batch_id=attempt.batch_id,
        usage=charge.usage,
        cost_usd=None if cost is None or before is None else cost + before,
        list_cost_usd=charge.list_usd,
        tool_calls=dict(charge.tool_calls),
        unpriced=charge.unpriced,
        accepted_at=task.accepted_at,
        finished_at=now,
        deadline_met=now <= task.deadline_at,
        route="; ".join(_route(attempt, task, charge, premium)),
    )
    return ResultDocument(record=record, premium_usd=premium)


def _route(attempt: Try, task: AcceptedTask, charge: Charge, premium: Decimal | None) -> Iterator[str]:
    yield attempt.reason
    if charge.model != task.model:
        yield f"billed as {charge.model}"
    if premium and premium > 0:
        yield f"${usd_text(premium)} over a batch"


def _premium(cost: Decimal | None, batched: Decimal | None) -> Decimal:
    """None has no price: then what it costs more is not known either, and counted as nothing."""
    return ZERO if cost is None or batched is None else cost - batched


def dead(
    task: AcceptedTask, attempt: Try, code: str, message: str, response: Response | None, now: datetime
) -> ResultDocument:
    """A task that cannot succeed: its record carries the provider's last response, its letter the task as it came.

    What the provider says is kept without the keys and the parts of the prompt that it repeats.
    """
    prompt = Prompt.of(task)
    code, message = prompt.without(code), prompt.without(message)
    record = ResultRecord(
        id=record_id(task),
        custom_id=task.task_id,
        response=_refusal(response, prompt),
        error=ErrorInfo(code=code, message=message),
        task_id=task.task_id,
        tenant=task.tenant,
        type=task.type,
        tags=task.tags,
        tier=task.tier,
        lane=attempt.lane,
        model=task.model,
        status=Status.DEAD,
        attempts=attempt.number,
        batch_id=attempt.batch_id,
        usage=Usage(),
        cost_usd=attempt.strikes.total_usd,
        list_cost_usd=None,
        accepted_at=task.accepted_at,
        finished_at=now,
        deadline_met=False,
        route=attempt.reason,
    )
    letter = DeadLetter(
        task=task.message,
        error=LetterError(
            code=code,
            message=message,
            provider_status=None if response is None else response.status,
            attempts=attempt.number,
            first_failed_at=attempt.strikes.first_failed_at or now,
            last_failed_at=now,
            batch_id=attempt.batch_id,
        ),
    )
    return ResultDocument(record=record, letter=letter)


def charged(task: AcceptedTask, attempt: Try, response: Response, seller: Seller, now: datetime) -> Strikes:
    """The attempt's strikes with what its answer cost, which was not what was asked for."""
    strikes, at = attempt.strikes, attempt.bought_at or now
    cost = seller.charge(response.body, task.endpoint, task.model, attempt.lane, at).cost_usd
    return strikes.model_copy(
        update={
            "spent_usd": strikes.spent_usd + (cost or 0),
            "billed": (*strikes.billed, attempt.number),
            "unpriced": strikes.unpriced or cost is None,
        }
    )


def struck(
    strikes: Strikes,
    now: datetime,
    *,
    counts: bool,
    lane_fault: LaneFault | None = None,
    forgiven: bool = False,
    unsure: bool = False,
) -> Strikes:
    """What a task carries into its next attempt after one that did not answer."""
    return strikes.model_copy(
        update={
            "failures": strikes.failures + counts,
            "forgiven": strikes.forgiven + forgiven,
            "unsure": strikes.unsure + unsure,
            "flex_refusals": strikes.flex_refusals + (lane_fault is LaneFault.NO_CAPACITY),
            "flex_stalls": strikes.flex_stalls + (lane_fault is LaneFault.STALLED),
            "lane_unknown": strikes.lane_unknown or lane_fault is LaneFault.UNKNOWN,
            "first_failed_at": (strikes.first_failed_at or now) if counts else strikes.first_failed_at,
            "last_failed_at": now if counts else strikes.last_failed_at,
        }
    )


def refused_letter(raw: object, code: str, message: str, now: datetime) -> DeadLetter:
    """A message that never became a task: invalid, or the id of another task."""
    return DeadLetter(task=raw, error=LetterError(code=code, message=message, first_failed_at=now, last_failed_at=now))


def _line(response: Response | None) -> LineResponse | None:
    if response is None or response.status is None:
        return None
    return LineResponse(status_code=response.status, request_id=response.request_id, body=kept(response.body))


def _refusal(response: Response | None, prompt: Prompt) -> LineResponse | None:
    """A response that answers nothing. What the model wrote all the same was paid for, and stays as it is."""
    line = _line(response)
    if line is None:
        return None
    named = None if line.request_id is None else masked(line.request_id[:_REQUEST_ID_CHARACTERS])
    if _is_answer(line):
        return line.model_copy(update={"request_id": named})
    return line.model_copy(update={"request_id": named, "body": prompt.without_in(masked_in(line.body))})


def _is_answer(line: LineResponse) -> bool:
    """Did a model write it, though it is not what was asked for?"""
    body = line.body
    return line.status_code in _OK and isinstance(body, dict) and not body.get("error") and bool(_WRITTEN & body.keys())


def kept(body: Any) -> Any:
    """As it came; as JSON text where it is nested so deeply that a record of it could not be read again."""
    if not _nested(body):
        return body
    with suppress(RecursionError):
        return json.dumps(body)
    return None


def _nested(value: Any) -> bool:
    return any(islice(layers(value), DEEPEST, DEEPEST + 1))
