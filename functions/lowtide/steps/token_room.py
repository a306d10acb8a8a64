"""Room for tokens at the provider: what may be enqueued of a model, and what a refusal teaches of it.

What is enqueued is the sum over the batches' rows. What was learned is an object that anybody may replace: it spares
refusals and decides on nothing else.
"""

from __future__ import annotations

from hashlib import sha256

from pydantic import ValidationError

from lowtide.core.batches import BatchRow, ProviderBatch
from lowtide.core.enqueued import LearnedLimit, Pool, beside, fits, learned_from, lowest, pool_of
from lowtide.core.errors import NotFound
from lowtide.ports import System


def enqueued_limit(system: System, pool: Pool) -> int | None:
    """Tokens that may be enqueued of a pool, configured or learned; None where neither says."""
    configured = system.routes.enqueued_limit(pool.provider, pool.model)
    return lowest(configured, _learned(system, pool), system.clock.now())


def has_room(system: System, row: BatchRow) -> bool:
    """May a sealed batch go? Where not, it waits as it is: nothing was tried, nothing counts."""
    limit = enqueued_limit(system, pool_of(row.lot))
    if limit is None or fits(system.batches.active(), row, limit, system.clock.now()):
        return True
    system.metrics.count("tasks_waiting_for_tokens", row.requests)
    system.metrics.log("token_room", batch_id=row.batch_id, tokens=row.tokens, limit=limit)
    return False


def learn(system: System, row: BatchRow, refused: ProviderBatch) -> bool:
    """Notes what the refusal of a batch teaches. Was it alone, so that no waiting for others can help it?"""
    pool, now = pool_of(row.lot), system.clock.now()
    taken = beside(system.batches.active(), row)
    learned = learned_from(refused, row.tokens, taken, enqueued_limit(system, pool), now)
    system.objects.put(_key(pool), learned.model_dump_json().encode())
    system.metrics.count("token_limits")
    system.metrics.log("token_limit_learned", batch_id=row.batch_id, model=pool.model, tokens=learned.tokens)
    return taken == 0


def _learned(system: System, pool: Pool) -> LearnedLimit | None:
    try:
        return LearnedLimit.model_validate_json(system.objects.get(_key(pool)))
    except (NotFound, ValidationError):
        return None


def _key(pool: Pool) -> str:
    digest = sha256(f"{pool.provider} {pool.model}".encode()).hexdigest()
    return f"batches/token-limits/{digest[:24]}.json"
