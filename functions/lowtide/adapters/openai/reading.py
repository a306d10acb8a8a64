"""A provider's batch out of its JSON, as far as it can be read: compatible servers leave fields out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lowtide.core.batches import ProviderBatch, ProviderStatus, ValidationFault

_ENDED = ("completed_at", "failed_at", "expired_at", "cancelled_at")


def provider_batch(body: Mapping[str, Any]) -> ProviderBatch:
    """A status that nobody has seen yet counts as in progress. ``body`` has an ``id``."""
    status = _status(body.get("status"))
    ended = next((moment for name in _ENDED if (moment := moment_of(body.get(name))) is not None), None)
    usage = body.get("usage")
    return ProviderBatch(
        id=str(body["id"]),
        status=status,
        input_ref=_text(body.get("input_file_id")),
        output_ref=_text(body.get("output_file_id")),
        error_ref=_text(body.get("error_file_id")),
        faults=_faults(body.get("errors") or body.get("error")),
        created_at=moment_of(body.get("created_at")),
        ended_at=ended,
        usage=dict(usage) if isinstance(usage, Mapping) else None,
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
        return ProviderStatus(value.lower() if isinstance(value, str) else value)
    except ValueError:
        return ProviderStatus.IN_PROGRESS


def _faults(errors: Any) -> tuple[ValidationFault, ...]:
    """From ``{"data": [fault]}``, a bare list of them, one alone, or a text."""
    listed = errors.get("data", [errors]) if isinstance(errors, Mapping) else errors
    if isinstance(listed, str):
        listed = [{"message": listed}] if listed else []
    if not isinstance(listed, list):
        return ()
    return tuple(
        ValidationFault(
            code=_text(fault.get("code")) or _text(fault.get("type")),
            message=_text(fault.get("message")),
            line=_line(fault.get("line")),
            param=_text(fault.get("param")),
        )
        for fault in listed
        if isinstance(fault, Mapping)
    )


def _line(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _text(value: Any) -> str | None:
    """None for the empty text too: ``error_file_id`` may be ``""``."""
    return value if isinstance(value, str) and value else None
