"""The ledger of enqueued tokens: what waits at the provider, by model, and whether more fits. Sums over rows.

A provider allows so many tokens of a model in batches that have not ended, and refuses what exceeds it after it was
created. Where the limit is not written down, a refusal teaches what it may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .batches import BatchRow, BatchState, ProviderBatch
from .model import Stored, Utc
from .parts import Lot, PartRow
from .routes import family

REMEMBERED = timedelta(days=1)
"""Accounts are raised, and others share them: a limit that was learned is tried again after a day."""

_AT_PROVIDER = frozenset({BatchState.UPLOADING, BatchState.SUBMITTING, BatchState.RUNNING})
_AHEAD = frozenset({BatchState.OPEN, BatchState.SEALED}) | _AT_PROVIDER

_TOLD = re.compile(r"[Ll]imit:? ([\d,_]+) enqueued tokens")
"""How OpenAI's message of a ``token_limit_exceeded`` puts it: ``Limit: 2,000,000 enqueued tokens.``"""


@dataclass(frozen=True, slots=True)
class Pool:
    """What the provider counts together: a model and its dated snapshots, at every endpoint."""

    provider: str
    model: str


def pool_of(lot: Lot) -> Pool:
    return Pool(lot.provider, family(lot.model))


class LearnedLimit(Stored):
    """``tokens`` of a pool that a refusal showed to be the most that is worth trying."""

    tokens: int
    learned_at: Utc

    def holds(self, now: datetime) -> bool:
        return now < self.learned_at + REMEMBERED


def lowest(configured: int | None, learned: LearnedLimit | None, now: datetime) -> int | None:
    """The limit in force; None where none is known."""
    known = [configured, learned.tokens if learned is not None and learned.holds(now) else None]
    return min((tokens for tokens in known if tokens is not None), default=None)


def committed(rows: Iterable[BatchRow], pool: Pool) -> int:
    """Estimated tokens of every batch that has not ended, those included that are yet to be submitted."""
    return sum(row.tokens for row in rows if pool_of(row.lot) == pool and row.state in _AHEAD)


def beside(rows: Iterable[BatchRow], batch: BatchRow) -> int:
    """Estimated tokens at the provider in other batches of its pool."""
    pool = pool_of(batch.lot)
    return sum(
        row.tokens
        for row in rows
        if row.batch_id != batch.batch_id and pool_of(row.lot) == pool and row.state in _AT_PROVIDER
    )


def fits(rows: Sequence[BatchRow], batch: BatchRow, limit: int | None, now: datetime) -> bool:
    """May a sealed batch be submitted? One that is larger than any limit goes when nothing else is there.

    Whoever was there first goes first, or a large batch would wait for ever behind small ones.
    """
    if limit is None:
        return True
    taken = beside(rows, batch) + _before(rows, batch, now)
    return taken == 0 or taken + batch.tokens <= limit


def _before(rows: Sequence[BatchRow], batch: BatchRow, now: datetime) -> int:
    """Estimated tokens of what was sealed earlier, and waits for nothing but room."""
    pool, place = pool_of(batch.lot), (batch.created_at, batch.batch_id)
    return sum(
        row.tokens
        for row in rows
        if row.state is BatchState.SEALED
        and pool_of(row.lot) == pool
        and (row.created_at, row.batch_id) < place
        and (row.not_before is None or row.not_before <= now)
    )


def admitted(
    groups: Sequence[Sequence[PartRow]], taken: Mapping[Pool, int], limits: Mapping[Pool, int | None]
) -> list[Sequence[PartRow]]:
    """The groups, in order, that still fit. Behind one that has to wait no other of its pool goes: it is next."""
    sums = dict(taken)
    closed: set[Pool] = set()
    chosen = []
    for group in groups:
        pool = pool_of(group[0].lot)
        before, tokens, limit = sums.get(pool, 0), sum(part.tokens for part in group), limits.get(pool)
        if pool in closed or (limit is not None and before > 0 and before + tokens > limit):
            closed.add(pool)
            continue
        sums[pool] = before + tokens
        chosen.append(group)
    return chosen


def learned_from(refused: ProviderBatch, tokens: int, taken: int, known: int | None, now: datetime) -> LearnedLimit:
    """What a refusal of ``tokens`` on top of ``taken`` teaches: never more than what was known before.

    The provider's own figure, where its message has one that explains the refusal; else what had been taken, or half
    of what was too much.
    """
    total = taken + tokens
    told = [int(found[1].replace(",", "").replace("_", "")) for found in _figures(refused)]
    guess = next((figure for figure in told if 0 < figure < total), max(taken, total // 2))
    return LearnedLimit(tokens=max(1, guess if known is None else min(known, guess)), learned_at=now)


def _figures(refused: ProviderBatch) -> list[re.Match[str]]:
    return [found for fault in refused.faults if (found := _TOLD.search(fault.message or ""))]
