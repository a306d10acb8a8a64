"""When ready parts become a batch, and which of them together.

A batch goes when it is full (requests, inputs, bytes, tokens, parts), when its oldest task has waited long enough, when
a deadline draws near, or when no more is coming. Where a cheaper hour is ahead, parts that have the time wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .parts import Lot, PartRow
from .tenants import in_turn

TRIED = 8
"""Batches with room left that a part is tried in: enough to fill them, few where thousands of parts are ready."""


MOST_PARTS = 2_000
"""In a batch: its row names them all in 60 KB, may take 400 KB (DynamoDB), and each write pays by the KB."""


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
    taken: Mapping[str, float],
    limits: Mapping[Lot, SealLimits],
    now: datetime,
    *,
    flush: bool,
) -> list[list[PartRow]]:
    """Which ready parts become batches now, in the order in which they are to go where not all of them may.

    ``taken`` is what each tenant has under way or had lately (core/tenants.py): turns decide which parts come first,
    into a batch and among batches.
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
    going = [part for part in parts if not _has_time(part, limits)]
    groups: list[_Group] = []
    unfilled: deque[_Group] = deque(maxlen=TRIED)
    for part in going:
        if part.alone:
            continue
        group = next((group for group in unfilled if group.fits(part)), None)
        if group is None:
            group = _Group(limits)
            groups.append(group)
            unfilled.append(group)
        group.add(part)
        if group.fill() >= 1:
            unfilled.remove(group)
    # One may get company yet; the others are as full as they become.
    waiting = min(reversed(groups), key=_Group.fill, default=None)
    due = [group.parts for group in groups if group is not waiting or flush or group.due(now)]
    return [[part] for part in going if part.alone] + due


class _Group:
    """Parts on their way into one batch, with the sums that its limits bind."""

    def __init__(self, limits: SealLimits) -> None:
        self.parts: list[PartRow] = []
        self._limits = limits
        self._most = (limits.requests, limits.inputs, limits.bytes, limits.tokens, MOST_PARTS)
        self._held = (0, 0, 0, 0, 0)

    def fits(self, part: PartRow) -> bool:
        return all(held <= most for held, most in zip(self._with(part), self._most, strict=True))

    def add(self, part: PartRow) -> None:
        self._held = self._with(part)
        self.parts.append(part)

    def fill(self) -> float:
        """1 and above: full."""
        return max(held / most for held, most in zip(self._held, self._most, strict=True))

    def due(self, now: datetime) -> bool:
        waited = now - min(part.oldest_at for part in self.parts)
        left = min(part.tightest_deadline for part in self.parts) - now
        late = left <= self._limits.deadline_margin(self._held[0])
        return self.fill() >= 1 or waited >= self._limits.max_wait or late

    def _with(self, part: PartRow) -> tuple[int, int, int, int, int]:
        requests, inputs, size, tokens, parts = self._held
        return requests + part.tasks, inputs + part.inputs, size + part.bytes, tokens + part.tokens, parts + 1


def _has_time(part: PartRow, limits: SealLimits) -> bool:
    """For the cheaper hour: begun then, its batch still meets every deadline."""
    opens = limits.cheaper_at
    return opens is not None and opens + limits.deadline_margin(part.tasks) < part.tightest_deadline
