"""Decide refusals that do not say whose fault they are, by what became of other calls of the account.

Such a refusal kills its task at once if a call was answered that began after the one of the task's first
refusal: key and address are good then. If no such call was answered, and other tasks are refused with the same words,
the account or the address is at fault, and all of them wait. A task that is refused alone, on an account that answered
before, proves nothing either way: it holds no other task back, the operator is told, and it ends once ``PATIENCE`` and
its deadline are over. That the provider answers ``GET /models`` proves nothing, because many servers list their models
to anybody.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256

from .breaker import FEW, WITNESSES, refuses
from .outcomes import Again, Bury, Halt, Outcome
from .pace_rows import PaceRow
from .task_rows import Strikes

PATIENCE = timedelta(hours=1)
"""How long at least a task that is refused alone waits for another call to show whose fault it is."""
TOLD_AFTER = timedelta(seconds=30)
"""After this the operator is told of a task that is refused alone."""
TOGETHER = timedelta(seconds=10)
"""Calls that began within so long of each other may have met the account on both sides of its last cent."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 2.0, 300.0
"""Between two calls of a task that is refused alone: as long as it has been refused, within these. They are free."""
_DIGITS = 8


def witness_of(task_key: str, outcome: Again | Bury | Halt) -> str:
    """Return the witness that a refusal adds to the account's row: a digest of its words and one of its task. Words
    with a digit in them differ from request to request, and are left out."""
    words = " ".join(word for word in outcome.message.casefold().split() if not any(map(str.isdigit, word)))
    return f"{_digest(f'{outcome.code} {words}')}.{_digest(task_key)}"


def alone(account: PaceRow, witness: str) -> bool:
    """Is no other task refused with the same words, as far as is known?"""
    return _others(account, witness) == 0


def forgotten(before: PaceRow | None, strikes: Strikes, witness: str) -> bool:
    """Was a call answered since the account's row heard of the task's first refusal? An answer makes the row forget its
    witnesses. ``before``: the row from before this refusal."""
    if before is None or strikes.doubted_at is None or len(before.witnesses) > FEW:
        return False
    task = witness.partition(".")[2]
    return not any(known.endswith(task) for known in before.witnesses)


def proven(account: PaceRow, strikes: Strikes, witness: str, *, forgot: bool) -> bool:
    """Was a call answered that began after the one of the task's first refusal? If it began shortly after it, it has to
    have ended after it too. Some of such calls are answered also when an account runs dry, so they prove nothing
    against several tasks."""
    since, at = strikes.doubted_at, account.proven_at
    if since is None or at is None or at <= since:
        return False
    return at > since + TOGETHER or (forgot and _others(account, witness) < WITNESSES - 1)


def waited_enough(account: PaceRow, strikes: Strikes, witness: str, deadline_at: datetime, now: datetime) -> bool:
    """Does a task that is refused alone end now, unless the provider refuses the key when it is asked?"""
    if account.proven_at is None or strikes.doubted_at is None or not alone(account, witness):
        return False
    return now >= max(deadline_at, strikes.doubted_at + PATIENCE)


def resolved(
    outcome: Outcome,
    strikes: Strikes,
    account: PaceRow | None,
    witness: str,
    now: datetime,
    *,
    forgot: bool = False,
    over: bool = False,
) -> Outcome:
    """Return what the account's row makes of ``outcome``. ``strikes``: the task's, from before this call. ``forgot``:
    see ``forgotten``. ``over``: the task has waited enough, and the provider does not refuse the key."""
    if not isinstance(outcome, Again) or not outcome.doubt or account is None:
        return outcome
    if over or proven(account, strikes, witness, forgot=forgot):
        return Bury(outcome.code, outcome.message)
    if refuses(account):
        return Halt(outcome.code, outcome.message)
    since = strikes.doubted_at
    known = account.proven_at is not None and since is not None and alone(account, witness)
    return Halt(outcome.code, outcome.message) if known and since is not None and now - since >= TOLD_AFTER else outcome


def next_call_at(strikes: Strikes, now: datetime) -> datetime:
    """When a task may be called again that is refused alone."""
    since_s = 0.0 if strikes.doubted_at is None else (now - strikes.doubted_at).total_seconds()
    return now + timedelta(seconds=min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, since_s)))


def doubted(strikes: Strikes, outcome: Again, began_at: datetime) -> Strikes:
    """Return the strikes with the moment at which the call began that met the task's first unnamed refusal."""
    if not outcome.doubt or strikes.doubted_at is not None:
        return strikes
    return strikes.model_copy(update={"doubted_at": began_at})


def _others(account: PaceRow, witness: str) -> int:
    """Return how many other tasks are refused with the same words; of more than the row remembers, all of them."""
    if len(account.witnesses) > FEW:
        return len(account.witnesses) - 1
    words = witness.partition(".")[0]
    return sum(other != witness and other.startswith(words) for other in account.witnesses)


def _digest(text: str) -> str:
    """Short, because rows keep a few of them, and opaque."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
