"""Look: ask how a submitted batch is, and collect it, cancel it, or give it back."""

from __future__ import annotations

from datetime import timedelta

from lowtide.core.batches import Collect, ProviderBatch, ProviderStatus
from lowtide.core.collection import token_limit_wait_s, too_large, took_none, whole_fault
from lowtide.core.errors import ProviderRefused, Unreachable, safely_told
from lowtide.core.outcomes import Again
from lowtide.core.pace_rows import account_key
from lowtide.core.rescues import given_up
from lowtide.core.result_files import NAMED_WITHIN, waits_for_names
from lowtide.core.whose_fault import Fault
from lowtide.ports import BatchApi, System

from .give_back import give_back, give_back_until
from .held import write_held
from .lease import LeasedBatch
from .next_look import look_later
from .outlook import Outlook
from .rescue import cancel_if_due
from .restage import ACCOUNT_WAIT_S
from .submission_gate import account_refused, permit_of, refuse, taken
from .token_room import learn


async def look(system: System, batch: LeasedBatch, api: BatchApi) -> Again | None:
    """Look at a running batch. If it has ended, move it to ``collecting``. Return why the account is refused, if it
    is."""
    now, known = system.clock.now(), batch.row.provider_batch
    if known is None:
        raise AssertionError("a running batch is known at the provider")
    seen = await api.get(known.id) if known.id else known
    seen = None if seen is None else seen.after(known)
    if seen is not None and seen.status is not known.status:
        _noted(system, batch, seen)
    released = seen is None or not seen.ended
    if released and not given_up(batch.row, now):
        if seen is not None:
            await cancel_if_due(system, batch, api, seen)
        look_later(system, batch, seen or known)
        return None
    if released:
        await _give_up(system, batch, api, seen)
    ended = seen or known
    if waits_for_names(batch.row, ended, now):
        _wait_for_names(system, batch, ended)
        return None
    whole = None if released or batch.row.called_off else whole_fault(ended)
    if whole is not None:
        whose, error = whole
        if whose is Fault.BATCH:
            await give_back(system, batch, api, error)
            return None
        refuse(system, account_key(batch.row.lot.provider), permit_of(system, batch.row))
        # The account may create batches, and still have no credit for them.
        await give_back_until(system, batch, api, now + timedelta(seconds=ACCOUNT_WAIT_S))
        return Again(error.name, error.sentence, counts=False, account=True)
    real_time_before = Outlook(system).real_time_before(batch.row.lot, batch.row.requests)
    if took_none(ended):
        alone = learn(system, batch.row, ended)
        wait = timedelta(seconds=token_limit_wait_s(batch.row.setbacks))
        has_time = batch.row.tightest_deadline >= real_time_before + wait
        if has_time and not too_large(batch.row.submission, batch.row.requests, alone=alone):
            system.metrics.log("token_limit", batch_id=batch.row.batch_id, not_before=(now + wait).isoformat())
            await give_back_until(system, batch, api, now + wait)
            return None
    held = write_held(system, batch.row)
    # Where the account is refused no lane would answer now: a part keeps what is unanswered, to be rescued from it.
    before = None if account_refused(system, batch.row.lot.provider) else real_time_before
    batch.apply(Collect(batch.owner, ended, system.routes.retries.attempts, before, released, held))
    return None


def _wait_for_names(system: System, batch: LeasedBatch, ended: ProviderBatch) -> None:
    """Wait for an ended batch to name its files, unless it says that there are none. Money comes before deadlines here:
    to wait costs minutes, to buy again costs what it cost."""
    if batch.row.unnamed_since is None:
        system.metrics.count("batches_without_files")
        until = (system.clock.now() + NAMED_WITHIN).isoformat()
        names = {"batch_id": batch.row.batch_id, "status": ended.status.value}
        system.metrics.log("files_not_named", **names, until=until)
    look_later(system, batch, ended)


def _noted(system: System, batch: LeasedBatch, seen: ProviderBatch) -> None:
    if seen.status not in (ProviderStatus.VALIDATING, ProviderStatus.FAILED):
        taken(system, batch.row)


async def _give_up(system: System, batch: LeasedBatch, api: BatchApi, seen: ProviderBatch | None) -> None:
    """It has not ended, or the provider does not know it: nothing hangs on whether it can be cancelled. What it yet
    answers settles nothing."""
    metrics, batch_id = system.metrics, batch.row.batch_id
    metrics.count("batches_given_up")
    metrics.log("batch_given_up", batch_id=batch_id, known_at_provider=seen is not None)
    if seen is None:
        return
    try:
        await api.cancel(seen.id)
    except (Unreachable, ProviderRefused) as error:
        metrics.log("cancel_failed", batch_id=batch_id, reason=safely_told(error))
