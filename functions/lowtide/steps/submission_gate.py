"""May a batch be submitted now? Not while its account is refused, nor while its model does not answer, nor while
CRITICAL is kept waiting for what the batch would take.

A batch is no call: it takes no moment, and its creation says nothing about the model. It is one about the account,
so it may be the probe that finds the account good again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from lowtide.core.batches import NOT_ASKED_FOR, BatchRow
from lowtide.core.breaker import ask_again_at
from lowtide.core.errors import LowtideError
from lowtide.core.lanes import Lane
from lowtide.core.offpeak import open_now
from lowtide.core.pace_events import CallEnd, Sign, Take, Tell
from lowtide.core.pace_rows import PaceRow, account_key, account_of, batches_key, model_key
from lowtide.core.preemption import must_yield
from lowtide.core.rescues import LONGEST_TURN, may_wait
from lowtide.core.tiers import Tier
from lowtide.ports import Change, SubmissionKey, System

from .outlook import Outlook, margins_of


class Held(StrEnum):
    """Why a submission has to wait. Whoever comes next asks again."""

    MODEL = "model"
    """It does not answer."""
    ACCOUNT = "account"
    """It is refused."""
    BATCHES = "batches"
    """The provider refuses the batches of this model and endpoint."""
    CRITICAL = "critical"
    """It is kept waiting, and the batch would take from the same limits."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A submission may begin. ``probes``: keys of the rows that it probes."""

    permit: str
    granted_at: datetime
    probes: tuple[str, ...] = ()


def admit(system: System, row: BatchRow, permit: str, *, called_off: bool) -> Pass | Held:
    """A probe that died with its process is another's after the lease. What is ``called_off`` is let through: nothing
    of it is created."""
    lot, now = row.lot, system.clock.now()
    if called_off:
        return Pass(permit, now)
    keys = account_key(lot.provider), batches_key_of(row), model_key(lot.provider, lot.model)
    account, batches, model = system.paces.get(keys)
    if model is not None and model.active and now < ask_again_at(model, now):
        return Held.MODEL
    if _yields(system, row, now):
        return Held.CRITICAL
    given = Pass(permit, now)
    for key, seen, held in ((keys[0], account, Held.ACCOUNT), (keys[1], batches, Held.BATCHES)):
        if seen is None or not seen.active:
            continue
        asked = Take(key, permit, (0,), 0.0, system.routes.batching.lease_s)
        [decision] = system.paces.apply([Change(key, asked, seen)], now)
        if not decision.moments:
            tell(system, given, Sign.UNUSED)
            return held
        given = replace(given, probes=(*given.probes, key))
    return given


def _yields(system: System, row: BatchRow, now: datetime) -> bool:
    """Never beyond what its deadlines allow, nor past the end of an off-peak window. A store that does not answer
    changes nothing: work goes on."""
    lot, preemption = row.lot, system.routes.preemption
    if row.state not in NOT_ASKED_FOR or not system.routes.provider(lot.provider).batch_shares_limits:
        return False
    try:
        critical = system.levels.look([Tier.CRITICAL])[Tier.CRITICAL]
    except LowtideError:
        return False
    if not must_yield(Tier.LOW, critical, preemption):
        return False
    hours = open_now(system.routes.off_peak(lot.provider), Lane.BATCH, now)
    if hours is not None and hours.closes <= now + LONGEST_TURN:
        return False
    return may_wait(row, now, Outlook(system).eta(lot, row.requests), margins_of(system))


def account_refused(system: System, provider: str) -> bool:
    """Nothing is bought there for now, on any lane: work is as well off in its part or its batch, which keep it for
    longer than a queue does."""
    [account] = system.paces.get([account_key(provider)])
    return account is not None and account.active


def batches_key_of(row: BatchRow) -> str:
    return batches_key(row.lot.provider, row.lot.model, row.lot.endpoint.value)


def tell(system: System, given: Pass, sign: Sign) -> None:
    """Tell the probed rows how the submission ended: ``ANSWERED``, or ``UNUSED`` if the provider was not asked. A
    created batch may still fail for the same fault, so the row of its lot is told by ``taken``."""
    for key in given.probes:
        if sign is Sign.UNUSED or account_of(key):
            end = CallEnd(sign, given.granted_at, given.permit)
            system.paces.apply([Change(key, Tell(key, (end,)))], system.clock.now())


def refuse(system: System, key: str, permit: str) -> PaceRow | None:
    """Tell the row of an account, or of a lot's batches, that the provider refuses it. Return the row."""
    now = system.clock.now()
    [decision] = system.paces.apply([Change(key, Tell(key, (CallEnd(Sign.REFUSED, now, permit),)))], now)
    return decision.row


def permit_of(system: System, row: BatchRow) -> str:
    """Return the name under which this submission probes."""
    return SubmissionKey(system.deployment, row.batch_id, row.submission).text


def taken(system: System, row: BatchRow) -> None:
    """Tell the row of the lot that the provider has validated a batch, and runs it."""
    key, now = batches_key_of(row), system.clock.now()
    [seen] = system.paces.get([key])
    if seen is not None and seen.active:
        end = CallEnd(Sign.ANSWERED, now, permit_of(system, row))
        system.paces.apply([Change(key, Tell(key, (end,)), seen)], now)
