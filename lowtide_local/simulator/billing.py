"""What the provider billed, line by line: the other side of every reconciliation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from lowtide.core.model import Utc, Value


class BilledLine(Value):
    """One request that was answered and is charged for.

    ``id`` is the ``custom_id`` of a line of a batch, or a call's ``X-Client-Request-Id``. ``service_tier`` is the price
    that applies: ``batch``, ``flex``, ``default`` or ``priority``. ``input_tokens`` includes the cached ones.
    """

    kind: Literal["batch", "call"]
    batch_id: str | None
    id: str | None
    request_digest: str
    endpoint: str
    model: str
    service_tier: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    at: Utc


def totals(lines: Iterable[BilledLine]) -> dict[str, int]:
    count = input_tokens = cached = output_tokens = 0
    for line in lines:
        count += 1
        input_tokens += line.input_tokens
        cached += line.cached_input_tokens
        output_tokens += line.output_tokens
    return {
        "lines": count,
        "input_tokens": input_tokens,
        "cached_input_tokens": cached,
        "output_tokens": output_tokens,
    }


def statement(lines: Iterable[BilledLine]) -> dict[str, Any]:
    """``{"data": [line, …], "totals": {…}, "calls": {…}, "batches": {batch_id: {…}}}``."""
    by_batch: dict[str, list[BilledLine]] = {}
    calls: list[BilledLine] = []
    everything = list(lines)
    for line in everything:
        if line.batch_id is None:
            calls.append(line)
        else:
            by_batch.setdefault(line.batch_id, []).append(line)
    return {
        "data": [line.model_dump(mode="json") for line in everything],
        "totals": totals(everything),
        "calls": totals(calls),
        "batches": {batch_id: totals(some) for batch_id, some in by_batch.items()},
    }
