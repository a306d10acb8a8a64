"""When ready parts become a batch, and which of them together.

A batch goes when it is full (requests, inputs, bytes, tokens), when its oldest task has waited long enough, when a
deadline draws near, or when no more is coming. Where a cheaper hour is ahead, parts that have the time wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .parts import Lot, PartRow
from .tenants import in_turn


@dataclass(frozen=True, slots=True)
class SealLimits:
    """What one batch of a lot may hold, and how long a part may wait for company."""

    requests: int
    """At which it is full, too."""
    inputs: int
    """Of embeddings; other endpoints have none to count."""
    bytes: int
    tokens: int
    max_wait: timedelta
    deadline_margin: Callable[[int], timedelta]
    """How long before its tightest deadline a batch of so many tasks has to go."""
    cheaper_at: datetime | None = None
    """When an off-peak window opens, where none is open."""


def plan(
    parts: Sequence[PartRow],
    taken: Mapping[str, int],
    limits: Mapping[Lot, SealLimits],
    now: datetime,
    *,
    flush: bool,
) -> list[list[PartRow]]:
    """Which ready parts become batches now, in the order in which they are to go where not all of them may.

    ``taken`` is what each tenant has under way (core/tenants.py): turns decide which parts come first, into a batch
    and among batches.
    """
    turns = in_turn(parts, taken)
    lots: dict[Lot, list[PartRow]] = {}
    for part in turns:
        lots.setdefault(part.lot, []).append(part)
    groups = [group for lot, those in lots.items() for group in choose_parts(those, limits[lot], now, flush=flush)]
    place = {part.part_id: number for number, part in enumerate(turns)}
    return sorted(groups, key=lambda group: place[group[0].part_id])


def choose_parts(parts: Sequence[PartRow], limits: SealLimits, now: datetime, *, flush: bool) -> list[list[PartRow]]:
    """Which of one lot's ready parts become batches now, in the order given, each within the limits.

    A batch is due when it is full, when its oldest task has waited ``max_wait``, when a deadline draws near, or when
    ``flush`` says that no more is coming. What can wait for a cheaper hour is not in it.
    """
    groups: list[list[PartRow]] = []
    going = [part for part in parts if not _has_time(part, limits)]
    alone = [[part] for part in going if part.alone]
    for part in going:
        if part.alone:
            continue
        if groups and _fits([*groups[-1], part], limits):
            groups[-1].append(part)
        else:
            groups.append([part])
    full, last = groups[:-1], groups[-1:]
    return alone + full + [group for group in last if flush or _full(group, limits) or _due(group, limits, now)]


def _has_time(part: PartRow, limits: SealLimits) -> bool:
    """For the cheaper hour: begun then, its batch still meets every deadline."""
    opens = limits.cheaper_at
    return opens is not None and opens + limits.deadline_margin(part.tasks) < part.tightest_deadline


def _fits(group: Sequence[PartRow], limits: SealLimits) -> bool:
    return all(held <= limit for held, limit in _measures(group, limits))


def _full(group: Sequence[PartRow], limits: SealLimits) -> bool:
    return any(held >= limit for held, limit in _measures(group, limits))


def _measures(group: Sequence[PartRow], limits: SealLimits) -> list[tuple[int, int]]:
    return [
        (sum(part.tasks for part in group), limits.requests),
        (sum(part.inputs for part in group), limits.inputs),
        (sum(part.bytes for part in group), limits.bytes),
        (sum(part.tokens for part in group), limits.tokens),
    ]


def _due(group: Sequence[PartRow], limits: SealLimits, now: datetime) -> bool:
    waited = now - min(part.oldest_at for part in group)
    left = min(part.tightest_deadline for part in group) - now
    return waited >= limits.max_wait or left <= limits.deadline_margin(sum(part.tasks for part in group))
