"""Decide refusals that do not say whose fault they are, by what became of other calls of the account.

Such a refusal kills its task in two cases. Either a call was answered that began after the task's own first refusal:
key and address are good then. Or the account has answered before, few tasks are refused, and the provider does not
refuse the key when it is asked. In all other cases the account or the address is at fault, and the tasks wait.
"""

from __future__ import annotations

from datetime import datetime

from .breaker import WITNESSES, refuses
from .outcomes import Again, Bury, Halt, Outcome
from .pace_rows import PaceRow
from .task_rows import Strikes


def may_be_items(account: PaceRow | None, strikes: Strikes) -> bool:
    """Should the provider be asked whether it takes the key? Yes at a task's second refusal, if the account has
    answered before and few tasks are refused."""
    known = account is not None and account.proven_at is not None and len(account.witnesses) < WITNESSES
    return known and strikes.doubted_at is not None


def resolved(outcome: Outcome, strikes: Strikes, account: PaceRow | None, *, welcome: bool) -> Outcome:
    """Return what the account's row makes of ``outcome``. ``strikes``: the task's, from before this call. ``welcome``:
    the provider was asked, and does not refuse the key."""
    if not isinstance(outcome, Again) or not outcome.doubt or account is None:
        return outcome
    proven_at, since = account.proven_at, strikes.doubted_at
    proven = proven_at is not None and since is not None and proven_at > since
    if proven or (welcome and may_be_items(account, strikes)):
        return Bury(outcome.code, outcome.message)
    return Halt(outcome.code, outcome.message) if refuses(account) else outcome


def doubted(strikes: Strikes, outcome: Again, now: datetime) -> Strikes:
    """Return the strikes with the time of the task's first unnamed refusal."""
    if not outcome.doubt or strikes.doubted_at is not None:
        return strikes
    return strikes.model_copy(update={"doubted_at": now})
