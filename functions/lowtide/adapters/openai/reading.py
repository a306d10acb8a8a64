"""A provider's batch out of its JSON, as far as it can be read: compatible servers leave fields out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from lowtide.core.batches import ProviderBatch, ProviderStatus, RequestCounts, ValidationFault
from lowtide.core.provider_words import any_text, code_text, message_text

_ENDED = ("completed_at", "failed_at", "expired_at", "cancelled_at")
_BEGAN = ("in_progress_at", "finalizing_at")
_AT_WORK = frozenset({"in_progress", "finalizing"})
_FIRST_BATCHES = datetime(2024, 1, 1, tzinfo=UTC)
"""OpenAI's batches came in April 2024. An earlier moment is a zero that stands for none."""
MOST_FAULTS = 1_000
MOST_FAULT_BYTES = 100_000
"""Of a batch's faults in all: they are kept in its row, of which DynamoDB takes 400 KB. What is not named goes again,
and is named the next time."""
_FAULT_MESSAGE = 200
"""Characters of a fault's message."""
_USAGE_BYTES = 4_000
"""Ten times what OpenAI says of a batch's usage; more is kept by nobody, and our own count does without it."""
_MOST_REQUESTS = 10**9
"""Far beyond any batch: a server that counts more is mistaken."""
_ID_CHARACTERS = 1_000
"""Longest id of a file: some servers write an address for it. It is kept in the batch's row."""
_NO_SEGMENTS = frozenset({".", ".."})
"""What no path can hold, so that no file can be asked for by it."""


def provider_batch(body: Mapping[str, Any]) -> ProviderBatch:
    """A status that nobody has seen yet counts as in progress. ``body`` has an ``id``."""
    status = _status(body.get("status"))
    ended = next((moment for name in _ENDED if (moment := moment_of(body.get(name))) is not None), None)
    usage = body.get("usage")
    return ProviderBatch(
        id=any_text(body["id"]),
        status=status,
        input_ref=_ref(body.get("input_file_id")),
        output_ref=_ref(body.get("output_file_id")),
        error_ref=_ref(body.get("error_file_id")),
        counts=_counts(body.get("request_counts")),
        faults=_faults(body.get("errors") or body.get("error")),
        created_at=moment_of(body.get("created_at")),
        ended_at=ended,
        began=_began(body),
        usage=dict(usage) if isinstance(usage, Mapping) and len(any_text(usage)) <= _USAGE_BYTES else None,
    )


def moment_of(value: Any) -> datetime | None:
    """From Unix seconds, or from ISO 8601 as some servers send it; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _status(value: Any) -> ProviderStatus:
    try:
        # Together writes them in capitals.
        return ProviderStatus(value.lower()) if isinstance(value, str) else ProviderStatus.IN_PROGRESS
    except ValueError:
        return ProviderStatus.IN_PROGRESS


def _began(body: Mapping[str, Any]) -> bool:
    """Tell whether it says that it worked on the lines. An unknown status does not: ``queued`` is one, too."""
    status = body.get("status")
    if isinstance(status, str) and status.lower() in _AT_WORK:
        return True
    moments = (moment_of(body.get(name)) for name in _BEGAN)
    return any(moment is not None and moment >= _FIRST_BATCHES for moment in moments)


def _faults(errors: Any) -> tuple[ValidationFault, ...]:
    """From ``{"data": [fault]}``, a bare list of them, one alone, or a text."""
    listed = errors.get("data", [errors]) if isinstance(errors, Mapping) else errors
    if isinstance(listed, str):
        listed = [{"message": listed}] if listed else []
    if not isinstance(listed, list):
        return ()
    return tuple(_bounded(_fault(each) for each in listed if isinstance(each, Mapping)))


def _fault(said: Mapping[str, Any]) -> ValidationFault:
    code, kind, param = (_text(said.get(name)) for name in ("code", "type", "param"))
    message, name = _text(said.get("message")), code or kind
    return ValidationFault(
        code=None if name is None else code_text(name),
        message=None if message is None else message_text(message, _FAULT_MESSAGE),
        line=_line(said.get("line")),
        param=None if param is None else code_text(param),
        type=None if kind is None else code_text(kind),
    )


def _bounded(faults: Iterable[ValidationFault]) -> Iterator[ValidationFault]:
    """The first of them, as many as a row has room for."""
    size = 0
    for fault in islice(faults, MOST_FAULTS):
        size += len(fault.model_dump_json().encode())
        if size > MOST_FAULT_BYTES:
            return
        yield fault


def _line(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _ref(value: Any) -> str | None:
    """A file's id. None for the empty text too: ``error_file_id`` may be ``""``. Some servers write a number, or the
    file in place of its id."""
    match value:
        case {"id": str() | int() as inner} | [str() | int() as inner]:
            value = inner
        case _:
            pass
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if 0 < len(text) <= _ID_CHARACTERS and text not in _NO_SEGMENTS else None


def _counts(value: Any) -> RequestCounts:
    told = value if isinstance(value, Mapping) else {}
    return RequestCounts(**{name: _count(told.get(name)) for name in RequestCounts.model_fields})


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(_MOST_REQUESTS)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_REQUESTS:
        return None
    return int(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
