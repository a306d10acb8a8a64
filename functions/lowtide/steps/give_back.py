"""Give back: take back a submission that the provider refused, to upload and submit it again later, whole.

Nothing of it ran, and none of its tasks is at fault, so no attempt is counted. After three refusals the batch is tried
less and less often, and other batches of the same model and endpoint are held back.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from lowtide.core.batches import Return
from lowtide.core.collection import WHOLE_TRIES, refused_wait_s, token_limit_wait_s
from lowtide.core.errors import ProviderRefused, Unreachable, safely_told
from lowtide.core.outcomes import believed_s
from lowtide.core.provider_errors import ProviderError
from lowtide.ports import BatchApi, System

from .lease import LeasedBatch
from .submission_gate import batches_key_of, permit_of, refuse


async def give_back(
    system: System, batch: LeasedBatch, api: BatchApi, error: ProviderError, *, retry_after_s: float | None = None
) -> None:
    """Take the batch back because it, or its file, was refused."""
    row, now, retries = batch.row, system.clock.now(), system.routes.retries
    refusals = row.refusals + 1
    wait_s = refused_wait_s(refusals, base_s=retries.batch_base_s, cap_s=retries.cap_s, seed=row.batch_id)
    not_before = now + timedelta(seconds=max(wait_s, believed_s(retry_after_s) or 0.0))
    names = {"batch_id": row.batch_id, "code": error.name}
    system.metrics.count("batches_given_back")
    if refusals >= WHOLE_TRIES:
        refused = refuse(system, batches_key_of(row), permit_of(system, row))
        if refused is not None and refused.retry_at is not None:
            not_before = max(not_before, refused.retry_at)
        system.metrics.log("batches_refused", **names)
    system.metrics.log("batch_given_back", **names, refusals=refusals, not_before=not_before.isoformat())
    await _return(system, batch, api, Return(batch.owner, not_before, refused=True))


async def give_back_failed(system: System, batch: LeasedBatch, api: BatchApi, error: ProviderError) -> None:
    """Take the batch back because the provider failed it whole, and wait longer each time."""
    not_before = system.clock.now() + timedelta(seconds=token_limit_wait_s(batch.row.setbacks))
    names = {"batch_id": batch.row.batch_id, "code": error.name, "not_before": not_before.isoformat()}
    system.metrics.count("batches_given_back")
    system.metrics.log("batch_given_back", **names)
    await give_back_until(system, batch, api, not_before)


async def give_back_until(system: System, batch: LeasedBatch, api: BatchApi, not_before: datetime) -> None:
    """Take the batch back until a moment."""
    await _return(system, batch, api, Return(batch.owner, not_before))


async def _return(system: System, batch: LeasedBatch, api: BatchApi, event: Return) -> None:
    """Return the batch, then delete its old input. If that fails, the hourly sweep deletes it."""
    input_ref = batch.row.input_ref
    if not batch.apply(event) or not input_ref:
        return
    try:
        await api.clean([input_ref])
    except (Unreachable, ProviderRefused) as error:
        system.metrics.log("clean_failed", batch_id=batch.row.batch_id, reason=safely_told(error))
