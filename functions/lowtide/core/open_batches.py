"""How many batches may be open, and whose places they take.

The cap is on what the provider works on. A batch that waits to be submitted, for as long as its model does not answer
or its account is refused, takes a place from its own lot alone: the others have theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .batches import NOT_ASKED_FOR, BatchRow
from .parts import PartRow


def places_left(active: Iterable[BatchRow], most: int) -> int:
    """How many of the batches that wait may be submitted beside what the provider has."""
    return most - sum(row.state not in NOT_ASKED_FOR for row in active)


def takes_a_place(before: BatchRow, after: BatchRow) -> bool:
    return before.state in NOT_ASKED_FOR and after.state not in NOT_ASKED_FOR


def within_cap(groups: Sequence[Sequence[PartRow]], active: Iterable[BatchRow], most: int) -> list[Sequence[PartRow]]:
    """The groups, in order, that may become batches beside those that are ``active``."""
    rows = list(active)
    waiting = Counter(row.lot for row in rows if row.state in NOT_ASKED_FOR)
    taken = len(rows) - waiting.total()
    chosen = []
    for group in groups:
        if taken + waiting[group[0].lot] < most:
            chosen.append(group)
            taken += 1
    return chosen
