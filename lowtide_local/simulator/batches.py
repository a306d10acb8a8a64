"""The provider's batches: made at once, run when somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import orjson

from lowtide.core.batches import TERMINAL, ProviderStatus, ValidationFault
from lowtide.core.records import Usage

from .asked import Asked
from .billing import BilledLine
from .dice import between, draw
from .endpoints import Endpoint
from .fates import Fate, Judge, Manner
from .inputs import BatchInput, InputLine
from .refusals import ApiError
from .scenario import Mishap, MishapKind, ResultKind, Scenario
from .timeline import Phase, Timeline

_UNFINISHED = {
    ProviderStatus.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    ProviderStatus.CANCELLED: ("batch_cancelled", "This request was not executed, because the batch was cancelled."),
}
_STAMPS = {
    ProviderStatus.IN_PROGRESS: "in_progress_at",
    ProviderStatus.FINALIZING: "finalizing_at",
    ProviderStatus.COMPLETED: "completed_at",
    ProviderStatus.FAILED: "failed_at",
    ProviderStatus.EXPIRED: "expired_at",
    ProviderStatus.CANCELLING: "cancelling_at",
    ProviderStatus.CANCELLED: "cancelled_at",
}


@dataclass(slots=True)
class Outcome:
    """What an ended batch left: its files' lines and what it billed."""

    output: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    billed: list[BilledLine] = field(default_factory=list)
    completed: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(
            input_tokens=sum(line.input_tokens for line in self.billed),
            cached_input_tokens=sum(line.cached_input_tokens for line in self.billed),
            output_tokens=sum(line.output_tokens for line in self.billed),
        )


@dataclass(slots=True)
class Batch:
    """``ordinal`` counts creations from 1. ``outcome`` is None until somebody looks at it after its end."""

    id: str
    ordinal: int
    endpoint: Endpoint
    input_file_id: str
    metadata: dict[str, str] | None
    given: BatchInput
    mishaps: Sequence[Mishap]
    timeline: Timeline
    output_kept_s: int | None = None
    faults: Sequence[ValidationFault] = ()
    outcome: Outcome | None = None
    file_ids: dict[ResultKind, str] = field(default_factory=dict)

    def befalls(self, kind: MishapKind) -> Mishap | None:
        return next((mishap for mishap in self.mishaps if mishap.kind is kind), None)

    def cancel(self, now: datetime) -> None:
        """Raises ApiError (409) where it has ended otherwise."""
        status = self.timeline.at(now).status
        if status in (ProviderStatus.CANCELLING, ProviderStatus.CANCELLED):
            return
        if status in TERMINAL:
            raise ApiError(409, f"Cannot cancel a batch with status '{status.value}'.")
        self.timeline = replace(self.timeline, cancelled_at=now)

    def body(self, now: datetime) -> dict[str, Any]:
        phase = self.timeline.at(now)
        total = len(self.given.lines) if phase.status is not ProviderStatus.VALIDATING else 0
        done = int(total * phase.fraction)
        completed = done if self.outcome is None else self.outcome.completed
        stamps: dict[str, int | None] = dict.fromkeys(_STAMPS.values())
        if phase.status is not ProviderStatus.VALIDATING:
            stamps["in_progress_at"] = None if self.timeline.invalid else int(self.timeline.finished_at(0).timestamp())
            stamps[_STAMPS[phase.status]] = int(phase.since.timestamp())
        if self.timeline.cancelled_at is not None:
            stamps["cancelling_at"] = int(self.timeline.cancelled_at.timestamp())
        shown = self.outcome is not None
        failed = phase.status is ProviderStatus.FAILED
        counts = {"total": total, "completed": completed, "failed": done - completed if shown else 0}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint.value,
            "model": self.given.model,
            "errors": {"object": "list", "data": [_fault(fault) for fault in self.faults]} if failed else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": phase.status.value,
            "output_file_id": self._names(ResultKind.OUTPUT, phase, now),
            "error_file_id": self._names(ResultKind.ERROR, phase, now),
            "created_at": int(self.timeline.created_at.timestamp()),
            "expires_at": int((self.timeline.created_at + timedelta(seconds=self.timeline.window_s)).timestamp()),
            **stamps,
            "request_counts": None if self.befalls(MishapKind.NO_COUNTS) else counts,
            "usage": _usage(self.outcome.usage) if self.outcome is not None else None,
            "metadata": self.metadata,
        }

    def _names(self, kind: ResultKind, phase: Phase, now: datetime) -> str | None:
        """The file's id, once the batch has ended and says so."""
        late = self.befalls(MishapKind.LATE_FILE_IDS)
        if self.outcome is None or (late is not None and kind in late.files and late.lasts(phase.since, now)):
            return None
        return self.file_ids.get(kind)


def timeline(
    scenario: Scenario, ordinal: int, mishaps: Sequence[Mishap], now: datetime, *, invalid: bool, unfinished: bool
) -> Timeline:
    """``unfinished``: some line asks not to be finished, so the batch expires."""
    weather = scenario.batch
    duration = between(weather.min_s, weather.max_s, draw(scenario.seed, "duration", ordinal))
    kinds = {mishap.kind: mishap for mishap in mishaps}
    if (slow := kinds.get(MishapKind.SLOW)) is not None:
        duration *= slow.factor
    expires = kinds.get(MishapKind.EXPIRES)
    fraction = expires.fraction if expires is not None else (1.0 if unfinished else None)
    return Timeline(
        created_at=now,
        duration_s=duration,
        window_s=weather.window_s,
        cancel_s=weather.cancel_s,
        invalid=invalid,
        never_ends=MishapKind.NEVER_ENDS in kinds,
        expires_fraction=fraction,
    )


def run(batch: Batch, phase: Phase, judge: Judge, scenario: Scenario) -> Outcome:
    """Everything that an ended batch did. Called once for each batch."""
    outcome = Outcome()
    lines = batch.given.lines
    if batch.timeline.invalid or batch.befalls(MishapKind.NO_OUTPUT_FILE):
        return outcome
    done = int(len(lines) * phase.fraction)
    for place, line in enumerate(lines):
        if place >= done:
            outcome.errors.append(_unfinished(batch, line, phase.status))
            continue
        at = batch.timeline.finished_at((place + 1) / len(lines))
        fate = judge.line(line.asked, at) if isinstance(line.asked, Asked) else _refused(line.asked)
        _write(outcome, batch, line, fate)
    if batch.befalls(MishapKind.DUPLICATE_LINE) and outcome.output:
        outcome.output.append(outcome.output[0])
    if scenario.batch.shuffled or batch.befalls(MishapKind.SHUFFLED):
        dice = Random(f"{scenario.seed} {batch.ordinal}")
        dice.shuffle(outcome.output)
        dice.shuffle(outcome.errors)
    return outcome


def _refused(error: ApiError) -> Fate:
    return Fate(error.status, error.body, None, "batch")


def _write(outcome: Outcome, batch: Batch, line: InputLine, fate: Fate) -> None:
    if isinstance(line.asked, Asked) and fate.usage is not None:
        ordered_at = batch.timeline.created_at
        outcome.billed.append(billed(line.asked, fate, ordered_at, batch_id=batch.id, line_id=line.custom_id))
    body = fate.body
    match fate.manner:
        case Manner.MISSING | Manner.DROP:
            return
        case Manner.UNFINISHED:
            outcome.errors.append(_unfinished(batch, line, ProviderStatus.EXPIRED))
            return
        case Manner.HANG:
            outcome.errors.append(_error(batch, line, "request_timeout", "The request timed out."))
            return
        case Manner.STRING_BODY:
            body = orjson.dumps(body).decode()
        case Manner.GARBAGE:
            body = "<html>no JSON</html>"
        case Manner.PLAIN | Manner.TWICE:
            pass
    response = {"status_code": fate.status, "request_id": f"req_{line.custom_id}", "body": body}
    raw = _json({"id": _line_id(batch, line), "custom_id": line.custom_id, "response": response, "error": None})
    if fate.usage is None:
        outcome.errors.append(raw)
        return
    outcome.completed += 1
    outcome.output.append(raw)
    if fate.manner is Manner.TWICE:
        outcome.output.append(raw)


def billed(asked: Asked, fate: Fate, at: datetime, *, batch_id: str | None, line_id: str | None) -> BilledLine:
    usage = fate.usage or Usage()
    return BilledLine(
        kind="call" if batch_id is None else "batch",
        batch_id=batch_id,
        id=line_id,
        request_digest=asked.digest,
        endpoint=asked.endpoint.value,
        model=asked.model,
        service_tier=fate.tier,
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        at=at,
    )


def _unfinished(batch: Batch, line: InputLine, status: ProviderStatus) -> bytes:
    code, message = _UNFINISHED[status]
    return _error(batch, line, code, message)


def _error(batch: Batch, line: InputLine, code: str, message: str) -> bytes:
    error = {"code": code, "message": message}
    return _json({"id": _line_id(batch, line), "custom_id": line.custom_id, "response": None, "error": error})


def _json(value: object) -> bytes:
    """UTF-8 without escapes, so that a U+2028 in an answer is one in the file."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _line_id(batch: Batch, line: InputLine) -> str:
    return f"batch_req_{batch.id.removeprefix('batch_')}_{line.custom_id}"


def _fault(fault: ValidationFault) -> dict[str, Any]:
    return {"code": fault.code, "message": fault.message, "param": fault.param, "line": fault.line}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
