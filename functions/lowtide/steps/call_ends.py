"""Call ends: tell the shared rows of a model and an account how a call ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

from lowtide.core.breaker import WITNESSES, forgives, suspicious
from lowtide.core.doubts import alone, forgotten, next_call_at, resolved, waited_enough, witness_of
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import TIMEOUT, Again, Answered, Bury, Halt, Outcome, Response, wait_asked_s
from lowtide.core.pace_events import CallEnd, Sign
from lowtide.core.pace_rows import PaceRow
from lowtide.core.signs import sign_of
from lowtide.core.tasks import Strikes
from lowtide.ports import Presence, System

from .imposed_waits import ImposedWaits
from .line import Go
from .paces import Paces, fallback_of


@dataclass(frozen=True, slots=True)
class Standing:
    """What a call's end means beyond its own task. ``forgiven``: the failure looks like an outage's, and uses up no
    try. ``down``: the provider spoke of itself, and billed nothing. ``not_before``: no call may begin before then.
    ``outcome``: what the account's row makes of a refusal; None if the call was not refused. ``began_at``:
    when the refused call did."""

    forgiven: bool = False
    down: bool = False
    not_before: datetime | None = None
    outcome: Outcome | None = None
    began_at: datetime | None = None


class CallEnds:
    def __init__(self, system: System, paces: Paces, waits: ImposedWaits) -> None:
        self._system = system
        self._paces = paces
        self._waits = waits

    async def tell(self, go: Go, response: Response, outcome: Outcome, lane: Lane, strikes: Strikes) -> Standing:
        """Tell how the call ended: at once if other processes should know, else with the next request for moments.
        ``strikes``: the task's, from before the call."""
        sign = sign_of(response, outcome)
        end = CallEnd(
            sign,
            go.moment.granted_at,
            go.moment.permit,
            witness=_digest(go.task.key),
            retry_after_s=outcome.delay_s if isinstance(outcome, Again) else None,
            headroom=response.headroom,
            flex=lane is Lane.FLEX,
            seconds=self._seconds(go, response, outcome, lane),
            unseen=go.moment.unseen,
        )
        shared, account = self._paces.model(go.task), self._paces.account(go.task)
        before = account.row
        refused = sign in (Sign.REFUSED, Sign.DOUBTED)
        proves = isinstance(outcome, Answered) and (account.row is None or account.row.in_question)
        if refused or proves or go.moment.account_probe:
            witness = end.witness if isinstance(outcome, Answered) else witness_of(go.task.key, outcome)
            account.note(replace(end, witness=witness, headroom=None, seconds=(), began_at=go.began_at))
            await account.tell()
        if refused:
            end = replace(end, sign=Sign.UNUSED)
        failed = sign in (Sign.FAILED, Sign.DOWN)
        last = strikes.failures + 1 >= self._system.routes.retries.attempts
        suspected = failed and suspicious(shared.row, end, self._system.clock.now())
        shared.note(end)
        if (suspected or (failed and last)) and not shared.answered_lately:
            # Few tasks are about to close the model for all, or a task is about to die. Is the provider there at all?
            shared.note(await self._paces.seen(shared, go.task.provider))
            await shared.tell()
        elif shared.urgent(end):
            await shared.tell()
        row = shared.row
        if isinstance(outcome, Again):
            asked_s = wait_asked_s(response)
            held_until = row.not_before if row is not None and sign is Sign.LIMITED else None
            self._waits.met(shared.key, outcome.code, held_until, outcome.delay_s, asked_s)
        if refused and not isinstance(outcome, Answered):
            return await self._refused(go, outcome, strikes, before)
        if row is None or sign is Sign.ANSWERED:
            return Standing()
        down = sign is Sign.DOWN
        forgiven = suspected or forgives(row, go.moment.granted_at) or (down and (last or row.failures >= WITNESSES))
        if not row.active:
            return Standing(forgiven, down, row.not_before)
        # With a fallback it need not wait for this model, and should not be the one to probe it again and again.
        return Standing(forgiven, down, None if fallback_of(self._system, go.task) is not None else row.retry_at)

    async def _refused(
        self, go: Go, outcome: Again | Bury | Halt, strikes: Strikes, before: PaceRow | None
    ) -> Standing:
        account, now = self._paces.account(go.task), self._system.clock.now()
        row, witness = account.row, witness_of(go.task.key, outcome)
        if row is None:
            return Standing(outcome=outcome, began_at=go.began_at)
        doubt = isinstance(outcome, Again) and outcome.doubt
        over = doubt and waited_enough(row, strikes, witness, go.task.deadline_at, now)
        over = over and await self._paces.presence(go.task.provider) is Presence.THERE
        forgot = forgotten(before, strikes, witness)
        decided = resolved(outcome, strikes, row, witness, now, forgot=forgot, over=over)
        if isinstance(decided, Bury):
            # A task that was refused alone may still turn out to have been the first of several.
            cleared = CallEnd(Sign.CLEARED, go.moment.granted_at, go.moment.permit, witness="" if over else witness)
            account.note(cleared)
            await account.tell()
        not_before = retry_at(account.row)
        if doubt and not_before is None and row.proven_at is not None and alone(row, witness):
            not_before = next_call_at(strikes, now)
        return Standing(not_before=not_before, outcome=decided, began_at=go.began_at)

    def _seconds(self, go: Go, response: Response, outcome: Outcome, lane: Lane) -> tuple[float, ...]:
        """What the call took, where that says something of the next: of a task that flex may serve, since others, such
        as a chat's, are short and would make ``default`` look faster than it is."""
        lanes = self._system.routes.lanes_of(go.task.type, go.task.tier)
        if lane not in (Lane.FLEX, Lane.DEFAULT) or Lane.FLEX not in lanes:
            return ()
        if not isinstance(outcome, Answered) and response.fault != TIMEOUT:
            return ()
        return (max(0.0, (self._system.clock.now() - go.moment.at).total_seconds()),)


def retry_at(row: PaceRow | None) -> datetime | None:
    return row.retry_at if row is not None and row.active else None


def _digest(key: str) -> str:
    """Short, because rows keep a few of them, and opaque."""
    return sha256(key.encode()).hexdigest()[:12]
