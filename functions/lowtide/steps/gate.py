"""Gate: may this call be made now? Asked before a task is claimed, so that one that has to wait costs no claim.

Pace and breaker are shared by all running functions through one row a model and one an account. No call is made without
a moment that such a row granted, so more functions cannot be more calls than the rate allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from math import inf
from uuid import uuid4

import orjson

from lowtide.core.breaker import forgives
from lowtide.core.choice import LaneChoice, apart_s, choose, flex_wait_s, timeout_s
from lowtide.core.lanes import Lane
from lowtide.core.later import waits_until
from lowtide.core.lines import estimated_tokens
from lowtide.core.outcomes import TIMEOUT, Again, Answered, Outcome, Response
from lowtide.core.pace import born
from lowtide.core.pace_events import CallEnd, Ceiling, Held, Sign
from lowtide.core.pace_rows import account_key, model_key
from lowtide.core.past import Past, past_of
from lowtide.core.prompts import request_body
from lowtide.core.rates import on_trial, per_minute
from lowtide.core.signs import sign_of
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import Strikes
from lowtide.core.tiers import Tier
from lowtide.ports import System

from .backlog import Backlog
from .line import LONGEST_SLICE_S, Answer, Asker, Line, Moment, Wait
from .shared_pace import SharedPace

__all__ = ["Gate", "Go", "Standing", "Wait", "at_once_s"]

PATIENCE_S = 15.0
"""How long a task stands in line here. Longer, and its message is better off in its queue, where another function may
take it up; shorter, and messages would go to and fro."""

HORIZON_S = {Tier.CRITICAL: 4.0, Tier.HIGH: 2.0, Tier.NORMAL: 1.0, Tier.LOW: 1.0}
"""How far ahead moments are granted. A more urgent tier sees further, so it has its turn within a second however many
of the others are waiting: what lies beyond their horizon is for it alone."""

NO_STRIKES = Strikes()

PROBE_MARGIN_S = 10.0
"""Past a probe's own timeout, before another may be made: its end has to be told."""


def at_once_s(tier: Tier) -> float:
    """The longest, in seconds, that a call waits for its moment which said that it cannot wait."""
    return LONGEST_SLICE_S + HORIZON_S[tier]


@dataclass(frozen=True, slots=True)
class Go:
    """The call may be made, now. ``task`` is the one to call for: with another model where a fallback answers."""

    task: AcceptedTask
    moment: Moment
    line: Line
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a call's end means beyond its own task. ``forgiven``: the failure is an outage's, and uses up no try.
    ``not_before``: nobody may call before then."""

    forgiven: bool = False
    not_before: datetime | None = None


class Gate:
    """One for all calls of an invocation, or of a process: what they have to tell and to ask goes together."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._shared: dict[str, SharedPace] = {}
        self._lines: dict[tuple[str, Tier, bool], Line] = {}
        self._waiting: dict[Tier, int] = {}
        self.backlog = Backlog(system)

    async def look_ahead(self, task: AcceptedTask, beside: int) -> None:
        """Where flex refuses: how many would have to go on default if it goes on refusing. ``beside``: tasks that came
        in the task's message, which the others are taken to hold as well."""
        if not self._may_have_flex(task):
            return
        row = await self._model(task).look()
        if row is not None and on_trial(row):
            self._waiting[task.tier] = beside * await self.backlog.look(task.tier)

    def lane(self, task: AcceptedTask, strikes: Strikes, go: Go | None = None) -> LaneChoice:
        """The lane, by what the shared row last said of the model. With ``go`` the call is made now."""
        now = self._system.clock.now()
        past = self._past(task, now)
        if go is not None and past.flex_rests_s:
            # It has a moment: flex's own, or another, and then that lane rests for longer than this call waits.
            past = replace(past, flex_rests_s=0.0 if go.line is self._line(go.task, Lane.FLEX) else inf)
        return choose(task, strikes, now, self._system.routes, past)

    def waits_until(self, task: AcceptedTask, strikes: Strikes, in_line: int = 0, beside: int = 1) -> datetime | None:
        """When an off-peak window makes the call cheaper than it is now, and the deadline allows."""
        now, shared = self._system.clock.now(), self._model(task)
        past, rate = past_of(shared.row, now), per_minute(shared.row or born(shared.key, now), shared.ceiling, now)
        routes = self._system.routes
        return waits_until(task, strikes, now, routes, past, in_line=in_line, beside=beside, rate=rate)

    def away_s(self, task: AcceptedTask, strikes: Strikes, wait: Wait, receives: int) -> float:
        """How long a task stays away that has to wait. For flex alone, longer each time: that can be an hour."""
        if wait.held is not Held.FLEX:
            return wait.seconds
        now = self._system.clock.now()
        past = self._past(task, now)
        return max(wait.seconds, flex_wait_s(task, strikes, receives, now, self._system.routes, past))

    def longest_s(self, go: Go, strikes: Strikes) -> float:
        """What the call may take, though its lane may be default by the time that it is made."""
        on_default_s = timeout_s(Lane.DEFAULT, go.task, self._system.routes)
        return max(on_default_s, self.lane(go.task, strikes, go).timeout_s)

    async def admit(
        self, task: AcceptedTask, choice: LaneChoice, *, strikes: Strikes = NO_STRIKES, latest: datetime | None = None
    ) -> Go | Wait:
        """Waits its turn for a while, and no later than ``latest``. ``choice``: the lane that it is likely to take."""
        other = self._fallback(task)
        first = await self._ask(task, choice, latest, waits_for_breaker=other is None)
        if isinstance(first, Wait) and first.held is Held.FLEX:
            # The row is known now, and may say that there is no time to wait for flex.
            choice = self.lane(task, strikes)
            if choice.lane is not Lane.FLEX:
                first = await self._ask(task, choice, latest, waits_for_breaker=other is None)
        if other is None or isinstance(first, Go) or first.held is not Held.BREAKER:
            return first
        lane = self.lane(other, strikes)
        second = await self._ask(other, lane, latest, waits_for_breaker=False)
        if isinstance(second, Go):
            return replace(second, reason=f"{task.model} is down, so {other.model}")
        return first

    async def ended(self, go: Go, response: Response, outcome: Outcome, lane: Lane) -> Standing:
        """Tells how the call ended: at once where others should know, else with the next asking."""
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
        )
        shared = self._model(go.task)
        if sign is Sign.REFUSED or go.moment.account_probe:
            await self._tell_account(go, end)
            if sign is Sign.REFUSED:
                end = replace(end, sign=Sign.UNUSED)
        shared.note(end)
        if shared.urgent(end):
            await shared.tell()
        row = shared.row
        if row is None or sign is Sign.ANSWERED:
            return Standing()
        forgiven = forgives(row, go.moment.granted_at)
        if not row.active:
            return Standing(forgiven, row.not_before)
        # With a fallback it need not wait for this model, and should not be the one to probe it again and again.
        return Standing(forgiven, None if self._fallback(go.task) is not None else row.retry_at)

    async def unused(self, go: Go) -> None:
        """No call after all: somebody else may have its moment."""
        moment = go.moment
        if not moment.probe and not moment.account_probe:
            go.line.give_back(moment)
        if moment.probe:
            await self._model(go.task).probe_unused(moment.permit)
        if moment.account_probe:
            await self._account(go.task).probe_unused(moment.permit)

    async def close(self) -> None:
        """At the end of an invocation: answers that somebody waits to hear of."""
        for shared in self._shared.values():
            if shared.expectant:
                await shared.tell()

    def _seconds(self, go: Go, response: Response, outcome: Outcome, lane: Lane) -> tuple[float, ...]:
        """What the call took, where that says something of the next: of a task that flex may serve, since others, such
        as a chat's, are short and would make ``default`` look faster than it is."""
        if lane not in (Lane.FLEX, Lane.DEFAULT) or not self._may_have_flex(go.task):
            return ()
        if not isinstance(outcome, Answered) and response.fault != TIMEOUT:
            return ()
        return (max(0.0, (self._system.clock.now() - go.moment.at).total_seconds()),)

    def _may_have_flex(self, task: AcceptedTask) -> bool:
        return Lane.FLEX in self._system.routes.lanes_of(task.type, task.tier)

    def _past(self, task: AcceptedTask, now: datetime) -> Past:
        shared, routes = self._model(task), self._system.routes
        past = past_of(shared.row, now)
        if shared.row is None or not on_trial(shared.row):
            return past
        # As if this process were the only one: others may be busy with the same.
        each_s = apart_s(task, routes, past, per_minute(shared.row, shared.ceiling, now))
        return replace(past, line_s=self._waiting.get(task.tier, 0) * each_s)

    async def _tell_account(self, go: Go, end: CallEnd) -> None:
        account = self._account(go.task)
        account.note(end)
        await account.tell()

    async def _ask(
        self, task: AcceptedTask, choice: LaneChoice, latest: datetime | None, *, waits_for_breaker: bool
    ) -> Go | Wait:
        now, permit = self._system.clock.now(), uuid4().hex[:12]
        until = now + timedelta(seconds=PATIENCE_S)
        until = until if latest is None else min(until, latest)
        asker = Asker(
            permit,
            seed=f"{task.key} {now.isoformat()}",
            tokens=self._tokens(task),
            probe_s=choice.timeout_s + PROBE_MARGIN_S,
            until=until,
            down_until=until if waits_for_breaker else now,
        )
        line = self._line(task, choice.lane)
        granted = await line.moment(asker)
        if isinstance(granted, Wait):
            self._system.metrics.count("calls_held", reason=granted.held.value)
            return granted
        return Go(task, granted, line)

    def _fallback(self, task: AcceptedTask) -> AcceptedTask | None:
        routes = self._system.routes
        name = routes.model(task.model).fallback
        if name is None or task.endpoint not in routes.model(name).endpoints:
            return None
        return task.model_copy(update={"model": name, "provider": routes.model(name).provider})

    def _tokens(self, task: AcceptedTask) -> int:
        """Estimated, and only where tokens are counted."""
        shared = self._model(task)
        if shared.ceiling.tokens is None and (shared.row is None or shared.row.tokens_limit is None):
            return 0
        body = request_body(task)
        return estimated_tokens(body, len(orjson.dumps(body)))

    def _line(self, task: AcceptedTask, lane: Lane) -> Line:
        place = (model_key(task.provider, task.model), task.tier, lane is Lane.FLEX)
        if place not in self._lines:
            model, account = self._model(task), self._account(task)
            horizon_s, flex, urgent = HORIZON_S[task.tier], lane is Lane.FLEX, task.tier is Tier.CRITICAL

            async def take(first: Asker, tokens: Sequence[int]) -> Answer:
                return await model.take(account, first, tokens, horizon_s=horizon_s, flex=flex, urgent=urgent)

            self._lines[place] = Line(self._system.clock, take)
        return self._lines[place]

    def _model(self, task: AcceptedTask) -> SharedPace:
        key = model_key(task.provider, task.model)
        if key not in self._shared:
            self._shared[key] = SharedPace(self._system, key, self._system.routes.ceiling(task.model))
        return self._shared[key]

    def _account(self, task: AcceptedTask) -> SharedPace:
        key = account_key(task.provider)
        if key not in self._shared:
            self._shared[key] = SharedPace(self._system, key, Ceiling())
        return self._shared[key]


def _digest(key: str) -> str:
    """Short, because rows keep a few of them, and opaque."""
    return sha256(key.encode()).hexdigest()[:12]
