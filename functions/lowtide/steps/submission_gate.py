"""May a batch be submitted now? Not while its account is refused, nor while its model does not answer, nor while
CRITICAL is kept waiting for what the batch would take.

A batch is no call: it takes no moment, and its creation says nothing about the model. It is one about the account,
so it may be the probe that finds the account good again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lowtide.core.batches import NOT_ASKED_FOR, BatchRow
from lowtide.core.breaker import ask_again_at
from lowtide.core.errors import LowtideError
from lowtide.core.lanes import Lane
from lowtide.core.offpeak import open_now
from lowtide.core.pace_events import CallEnd, Sign, Take, Tell
from lowtide.core.pace_rows import PaceRow, account_key, model_key
from lowtide.core.preemption import must_yield
from lowtide.core.rescues import LONGEST_TURN, may_wait
from lowtide.core.tiers import Tier
from lowtide.ports import Change, System

from .outlook import Outlook, margins_of


class Held(StrEnum):
    """Why a submission has to wait. Whoever comes next asks again."""

    MODEL = "model"
    """It does not answer."""
    ACCOUNT = "account"
    """It is refused."""
    CRITICAL = "critical"
    """It is kept waiting, and the batch would take from the same limits."""


@dataclass(frozen=True, slots=True)
class Pass:
    """``probe``: this submission is to see whether the account is taken again."""

    permit: str
    granted_at: datetime
    probe: bool


def admit(system: System, row: BatchRow, permit: str, *, called_off: bool) -> Pass | Held:
    """A probe that died with its process is another's after the lease. What is ``called_off`` is let through: nothing
    of it is created."""
    lot, now = row.lot, system.clock.now()
    if called_off:
        return Pass(permit, now, probe=False)
    key = account_key(lot.provider)
    account, model = system.paces.get([key, model_key(lot.provider, lot.model)])
    if model is not None and model.active and now < ask_again_at(model, now):
        return Held.MODEL
    if _yields(system, row, now):
        return Held.CRITICAL
    if account is None or not account.active:
        return Pass(permit, now, probe=False)
    asked = Take(key, permit, (0,), 0.0, system.routes.batching.lease_s)
    [decision] = system.paces.apply([Change(key, asked, account)], now)
    return Pass(permit, now, probe=decision.probe) if decision.moments else Held.ACCOUNT


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


def tell(system: System, row: BatchRow, given: Pass, sign: Sign) -> PaceRow | None:
    """What the submission says of its account: ``ANSWERED``, ``REFUSED``, or ``UNUSED`` where it says nothing. Only a
    refusal and a probe are news; the account's row where there was."""
    if sign is not Sign.REFUSED and not given.probe:
        return None
    key = account_key(row.lot.provider)
    end = CallEnd(sign, given.granted_at, given.permit)
    [decision] = system.paces.apply([Change(key, Tell(key, (end,)))], system.clock.now())
    return decision.row
