"""Look: ask how a submitted batch is, and collect it, cancel it, or give it back."""

from __future__ import annotations

from datetime import datetime, timedelta

from lowtide.core.batches import Collect, ProviderBatch, ProviderStatus
from lowtide.core.collection import token_limit_wait_s, too_large, took_none, whole_fault
from lowtide.core.errors import ProviderRefused, Unreachable, safely_told
from lowtide.core.outcomes import Again
from lowtide.core.pace_rows import account_key
from lowtide.core.provider_errors import ProviderError
from lowtide.core.quotes import Prompt, may_quote
from lowtide.core.rescues import given_up
from lowtide.core.result_files import NAMED_WITHIN, may_yet_name_files, stops_account, waits_for_names
from lowtide.core.whose_fault import Fault
from lowtide.ports import BatchApi, System

from .give_back import give_back, give_back_failed, give_back_until
from .held import write_held
from .lease import LeasedBatch
from .next_look import look_later
from .outlook import Outlook
from .rescue import cancel_if_due
from .restage import ACCOUNT_WAIT_S
from .sent import sent_lines
from .submission_gate import account_refused, permit_of, refuse, taken
from .token_room import learn

_FORGOTTEN = (404, 410)
_NOT_SHOWN = "the provider's words are not shown, because they may repeat a task's"


async def look(system: System, batch: LeasedBatch, api: BatchApi) -> Again | None:
    """Look at a running batch. If it has ended, move it to ``collecting``. Return why the account is refused, if it
    is."""
    now, known = system.clock.now(), batch.row.provider_batch
    if known is None:
        raise AssertionError("a running batch is known at the provider")
    seen: ProviderBatch | None = None
    unheard: ProviderRefused | Unreachable | None = None
    try:
        seen = await api.get(known.id) if known.id else known
    except (ProviderRefused, Unreachable) as error:
        if stops_account(error):
            raise
        unheard = error
    if seen is not None:
        seen = seen.after(known)
        if seen.status is not known.status:
            _noted(system, batch, seen)
    elif known.ended and not _may_tell_more(batch, known, unheard, now):
        # An earlier look, or the list, told how it ended: its files can be read, or will not be named any more.
        seen = known
    released = seen is None or not seen.ended
    if released and not given_up(batch.row, now):
        await _cancel_if_due(system, batch, api, seen)
        if unheard is not None:
            raise unheard
        look_later(system, batch, seen or known)
        return None
    if released:
        await _give_up(system, batch, api, None if seen is None and unheard is None else known.id)
    ended = seen or known
    if not released and waits_for_names(batch.row, ended, now):
        _wait_for_names(system, batch, ended)
        return None
    whole = None if released or batch.row.called_off else whole_fault(ended)
    if whole is not None:
        return await _give_back(system, batch, api, *whole)
    real_time_before = Outlook(system).real_time_before(batch.row.lot, batch.row.requests)
    if took_none(ended):
        alone = learn(system, batch.row, ended)
        wait = timedelta(seconds=token_limit_wait_s(batch.row.setbacks))
        has_time = batch.row.tightest_deadline >= real_time_before + wait
        if has_time and not too_large(batch.row.submission, batch.row.requests, alone=alone):
            names = {"batch_id": batch.row.batch_id, "wait_s": wait.total_seconds()}
            system.metrics.log("token_limit", **names, not_before=(now + wait).isoformat())
            await give_back_until(system, batch, api, now + wait)
            return None
    held = write_held(system, batch.row)
    # Where the account is refused no lane would answer now: a part keeps what is unanswered, to be rescued from it.
    before = None if account_refused(system, batch.row.lot.provider) else real_time_before
    batch.apply(Collect(batch.owner, ended, system.routes.retries.attempts, before, released, held))
    return None


def _may_tell_more(
    batch: LeasedBatch, known: ProviderBatch, unheard: ProviderRefused | Unreachable | None, now: datetime
) -> bool:
    """Tell whether a later look may yet name the files of an ended batch. The provider may have forgotten it: then it
    is waited for no longer than one that the provider knows."""
    if unheard is None or (isinstance(unheard, ProviderRefused) and unheard.status in _FORGOTTEN):
        return waits_for_names(batch.row, known, now)
    return may_yet_name_files(known)


async def _cancel_if_due(system: System, batch: LeasedBatch, api: BatchApi, seen: ProviderBatch | None) -> None:
    """Cancel a batch that has not ended, as far as is known. One that was not seen may hear the cancel all the same, or
    refuse it as it refused the look."""
    known = seen or batch.row.provider_batch
    if known is None or known.ended:
        return
    try:
        await cancel_if_due(system, batch, api, known)
    except (ProviderRefused, Unreachable) as error:
        if seen is not None or stops_account(error):
            raise


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


async def _give_back(
    system: System, batch: LeasedBatch, api: BatchApi, whose: Fault, error: ProviderError
) -> Again | None:
    """Give a batch back of which nothing ran. Return why the account is refused, if it is."""
    now = system.clock.now()
    match whose:
        case Fault.ACCOUNT:
            refuse(system, account_key(batch.row.lot.provider), permit_of(system, batch.row))
            # The account may create batches, and still have no credit for them.
            await give_back_until(system, batch, api, now + timedelta(seconds=ACCOUNT_WAIT_S))
            return Again(error.name, _words_of(system, batch, error), counts=False, account=True)
        case Fault.NOW | Fault.PROVIDER:
            await give_back_failed(system, batch, api, error)
            return None
        case _:
            await give_back(system, batch, api, error)
            return None


def _words_of(system: System, batch: LeasedBatch, error: ProviderError) -> str:
    """Return the account's refusal without a prompt in it: the words leave the function as its failure."""
    if batch.row.requests > 1:
        return _NOT_SHOWN if may_quote(error.sentence) else error.sentence
    with sent_lines(system, batch.row) as sent:
        return Prompt.of(sent[next(iter(sent))].line.task).without(error.sentence)


async def _give_up(system: System, batch: LeasedBatch, api: BatchApi, known_as: str | None) -> None:
    """Give up a batch that has not ended, or that the provider does not know (None). Whether its cancel is heard
    changes nothing, and what it yet answers settles nothing."""
    metrics, batch_id = system.metrics, batch.row.batch_id
    metrics.count("batches_given_up")
    metrics.log("batch_given_up", batch_id=batch_id, known_at_provider=known_as is not None)
    if known_as is None:
        return
    try:
        await api.cancel(known_as)
    except (Unreachable, ProviderRefused) as error:
        metrics.log("cancel_failed", batch_id=batch_id, reason=safely_told(error))
