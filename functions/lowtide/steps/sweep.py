"""Sweep: what lies at the provider under this deployment's name, and no row knows, is reported, cancelled and deleted.

It happens where the provider takes a creation after the grace period had passed, where an upload or a clean-up lost
its reply. The lists come first and the rows after them: a row that did not know a thing then will not come to know it.
What carries another name, or is younger than the grace period, is never touched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from lowtide.core.batches import BatchRow, ProviderStatus
from lowtide.core.errors import LowtideError, NewerSchema, NotFound, safely_told
from lowtide.core.orphans import old_enough, orphan_batch, orphan_input, orphan_output, unheard_cancel
from lowtide.ports import BatchApi, Owned, OwnedKind, System

from .newer import rows_or_newer

SWEEP_EVERY = timedelta(hours=1)
LAST_SWEEP = "batches/last-sweep"
"""The object that holds when the last sweep began. Two workers that read it at once both sweep, which is harmless;
where it has expired, the next turn sweeps."""


@dataclass(frozen=True, slots=True)
class Swept:
    """Counts of one sweep: batches that nobody waits for, and files that were deleted."""

    batches: int = 0
    files: int = 0


async def sweep(system: System) -> Swept:
    """Every provider in turn. One that cannot be asked is logged, and is asked again by the next sweep."""
    batches = files = 0
    for provider, api in system.batch_apis.items():
        if not system.routes.provider(provider).batch:
            continue
        try:
            swept = await _sweep(system, api)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other providers go on
            system.metrics.log("sweep_failed", provider=provider, reason=safely_told(error))
            continue
        batches, files = batches + swept.batches, files + swept.files
    # Zeros too: an alarm tells them from silence.
    system.metrics.count("orphan_batch", batches)
    system.metrics.count("orphan_file", files)
    return Swept(batches, files)


async def sweep_hourly(system: System) -> Swept | None:
    """None where the last sweep, whoever did it, is less than an hour ago."""
    now = system.clock.now()
    try:
        if now < datetime.fromisoformat(system.objects.get(LAST_SWEEP).decode()) + SWEEP_EVERY:
            return None
    except NotFound:
        pass
    swept = await sweep(system)
    system.objects.put(LAST_SWEEP, now.isoformat().encode())
    return swept


async def _sweep(system: System, api: BatchApi) -> Swept:
    everything = [each async for each in api.owned(system.deployment)]
    now = system.clock.now()
    old = [each for each in everything if old_enough(each.created_at, now)]
    left = _wrote(old)
    matters = [each for each in old if _may_matter(each, left)]
    ids = sorted({each.key.batch_id for each in matters})
    found = rows_or_newer(system.batches, ids)
    # What a newer release's row says is not known: nothing of that batch is an orphan here.
    rows = {batch_id: row for batch_id, row in zip(ids, found, strict=True) if not isinstance(row, NewerSchema)}
    orphans = [each for each in matters if each.key.batch_id in rows and _is_orphan(each, rows[each.key.batch_id], now)]
    batches = [each for each in orphans if each.kind is OwnedKind.BATCH]
    for each in batches:
        _report(system, "orphan_batch", each)
        if each.batch is not None and not each.batch.ended:
            await _try(system, each, api.cancel(each.id))
    files = [each for each in orphans if each.kind is not OwnedKind.BATCH]
    for each in files:
        _report(system, "orphan_file", each)
        await _try(system, each, api.clean([each.id]))
    return Swept(len(batches), len(files))


async def _try(system: System, each: Owned, doing: Awaitable[None]) -> None:
    """One that is refused, a batch that is ending at this moment say, keeps no other from being done away with. It is
    counted all the same, and met again by the next sweep."""
    try:
        await doing
    except LowtideError as error:
        system.metrics.log("orphan_stays", kind=each.kind.value, provider_id=each.id, reason=safely_told(error))


def _wrote(owned: Iterable[Owned]) -> frozenset[str]:
    """The batches whose files are still there."""
    return frozenset(each.batch.id for each in owned if each.kind is OwnedKind.OUTPUT and each.batch is not None)


def _may_matter(each: Owned, left: frozenset[str]) -> bool:
    """A batch that is being cancelled was reported then; one that ended and left nothing is the provider's history."""
    if each.kind is not OwnedKind.BATCH or each.batch is None:
        return True
    if each.batch.status in (ProviderStatus.CANCELLING, ProviderStatus.CANCELLED):
        return False
    return not each.batch.ended or each.id in left


def _is_orphan(each: Owned, row: BatchRow | None, now: datetime) -> bool:
    submission = each.key.submission
    writer = each.batch.id if each.batch is not None else ""
    match each.kind:
        case OwnedKind.BATCH:
            runs_on = each.batch is not None and not each.batch.ended
            return orphan_batch(row, submission, each.id) or (runs_on and unheard_cancel(row, submission, each.id))
        case OwnedKind.INPUT:
            return orphan_input(row, submission, each.id, now)
        case OwnedKind.OUTPUT:
            return orphan_output(row, submission, writer, now)
        case _:
            assert_never(each.kind)


def _report(system: System, event: str, each: Owned) -> None:
    system.metrics.log(
        event,
        kind=each.kind.value,
        provider_id=each.id,
        batch_id=each.key.batch_id,
        submission=each.key.submission,
        status=each.batch.status.value if each.batch is not None else None,
        created_at=each.created_at,
    )
