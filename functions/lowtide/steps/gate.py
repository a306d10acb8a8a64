"""Gate: may this call be made now? Asked before a task is claimed, so that one that has to wait costs no claim.

Pace and breaker are shared by all running functions through one row a model and one an account. No call is made without
a moment that such a row granted, so more functions cannot be more calls than the rate allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import inf
from uuid import uuid4

import orjson

from lowtide.core.breaker import buys_blind, rests_until
from lowtide.core.choice import LaneChoice, apart_s, choose, flex_wait_s, timeout_s
from lowtide.core.lanes import Lane
from lowtide.core.later import waits_until
from lowtide.core.lines import estimated_tokens
from lowtide.core.outcomes import Outcome, Response
from lowtide.core.pace import born
from lowtide.core.pace_events import Held, Sign
from lowtide.core.pace_rows import model_key
from lowtide.core.past import Past, past_of
from lowtide.core.prompts import request_body
from lowtide.core.rates import on_trial, per_minute
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import Strikes
from lowtide.core.tiers import Tier
from lowtide.ports import System

from .backlog import Backlog
from .call_ends import CallEnds, Standing, retry_at
from .imposed_waits import ImposedWaits
from .line import LONGEST_SLICE_S, Answer, Asker, Go, Line, Moment, Wait, waiting
from .paces import Paces, fallback_of

__all__ = ["Gate", "Go", "Standing", "Wait", "at_once_s"]

PATIENCE_S = 15.0
"""How long a task stands in line here. Longer, and its message is better off in its queue, where another function may
take it up; shorter, and messages would go to and fro."""

HORIZON_S = {Tier.CRITICAL: 4.0, Tier.HIGH: 2.0, Tier.NORMAL: 1.0, Tier.LOW: 1.0}
"""How far ahead moments are granted. A more urgent tier sees further, so it has its turn within a second however many
of the others are waiting: what lies beyond their horizon is for it alone."""

NO_STRIKES = Strikes()

PROBE_MARGIN_S = 15.0
"""Added to a probe's timeout before another probe may begin. The provider is asked before the call whether it is there,
and the end of the call has to be told."""


def at_once_s(tier: Tier) -> float:
    """The longest, in seconds, that a call waits for its moment which said that it cannot wait."""
    return LONGEST_SLICE_S + HORIZON_S[tier]


class Gate:
    """One for all calls of an invocation, or of a process: what they have to tell and to ask goes together."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._paces = Paces(system)
        self._lines: dict[tuple[str, Tier, bool], Line] = {}
        self._waiting: dict[Tier, int] = {}
        self._last_begun: tuple[datetime, int] | None = None
        self.backlog = Backlog(system)
        self._waits = ImposedWaits(system)
        self._ends = CallEnds(system, self._paces, self._waits)

    async def look_ahead(self, task: AcceptedTask, beside: int) -> None:
        """Where flex refuses: how many would have to go on default if it goes on refusing. ``beside``: tasks that came
        in the task's message, which the others are taken to hold as well."""
        if not self._may_have_flex(task):
            return
        row = await self._paces.model(task).look()
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
        now, shared = self._system.clock.now(), self._paces.model(task)
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
        """Waits its turn for a while, and no later than ``latest``. ``choice``: the lane that it is likely to take.

        A task that failed before does not probe a failing model as often as others do."""
        other = fallback_of(self._system, task)
        first: Go | Wait | None = await self._rests(task, strikes) if strikes.failures or strikes.forgiven else None
        first = first or await self._ask(task, choice, strikes, latest, waits_for_breaker=other is None)
        if isinstance(first, Wait) and first.held is Held.FLEX:
            # The row is known now, and may say that there is no time to wait for flex.
            choice = self.lane(task, strikes)
            if choice.lane is not Lane.FLEX:
                first = await self._ask(task, choice, strikes, latest, waits_for_breaker=other is None)
        if other is None or isinstance(first, Go) or first.held is not Held.BREAKER:
            return first
        lane = self.lane(other, strikes)
        second = await self._ask(other, lane, strikes, latest, waits_for_breaker=False)
        if isinstance(second, Go):
            return replace(second, reason=f"{task.model} is down, so {other.model}")
        return first

    async def ended(
        self, go: Go, response: Response, outcome: Outcome, lane: Lane, strikes: Strikes = NO_STRIKES
    ) -> Standing:
        """Tell how the call ended. ``strikes``: the task's, from before the call."""
        return await self._ends.tell(go, response, outcome, lane, strikes)

    async def unused(self, go: Go) -> None:
        """No call after all: somebody else may have its moment."""
        moment = go.moment
        self._paces.model(go.task).began(moment.granted_at, -1)
        if not moment.probe and not moment.account_probe:
            go.line.give_back(moment)
        if moment.probe:
            await self._paces.model(go.task).probe_unused(moment.permit)
        if moment.account_probe:
            await self._paces.account(go.task).probe_unused(moment.permit)

    async def close(self) -> None:
        """At the end of an invocation: answers that somebody waits to hear of."""
        for shared in list(self._paces):  # another invocation may meet a new model meanwhile
            if shared.expectant:
                await shared.tell()

    def _may_have_flex(self, task: AcceptedTask) -> bool:
        return Lane.FLEX in self._system.routes.lanes_of(task.type, task.tier)

    def _past(self, task: AcceptedTask, now: datetime) -> Past:
        shared, routes = self._paces.model(task), self._system.routes
        past = past_of(shared.row, now)
        if shared.row is None or not on_trial(shared.row):
            return past
        # As if this process were the only one: others may be busy with the same.
        each_s = apart_s(task, routes, past, per_minute(shared.row, shared.ceiling, now))
        return replace(past, line_s=self._waiting.get(task.tier, 0) * each_s)

    async def _ask(
        self,
        task: AcceptedTask,
        choice: LaneChoice,
        strikes: Strikes,
        latest: datetime | None,
        *,
        waits_for_breaker: bool,
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
        if isinstance(granted, Moment) and granted.probe:
            granted = await self._probed(task, granted, strikes)
        if isinstance(granted, Wait):
            self._system.metrics.count("calls_held", reason=granted.held.value)
            if granted.held is Held.RATE and (row := self._paces.model(task).row) is not None:
                self._waits.met(row.key, "rate_limit", row.not_before)
            return granted
        self._paces.model(task).began(granted.granted_at)
        return Go(task, granted, line, began_at=self._began_at(granted))

    def _began_at(self, granted: Moment) -> datetime:
        """A millisecond apart for calls with the same moment, in their order: of calls that begin together the first
        may be answered, and the later ones refused. Rows keep no less than a millisecond."""
        last = self._last_begun
        order = 0 if last is None or last[0] != granted.granted_at else last[1] + 1
        self._last_begun = (granted.granted_at, order)
        return granted.granted_at + timedelta(milliseconds=order)

    async def _probed(self, task: AcceptedTask, moment: Moment, strikes: Strikes) -> Moment | Wait:
        """Ask the provider whether it is there before a probe is bought. If it is not there, the probe is not made."""
        shared = self._paces.model(task)
        blind = shared.row is not None and buys_blind(shared.row, last=self._last(strikes))
        # The row takes the probe to be over, unless it is made although the provider did not answer.
        found = await self._paces.seen(shared, task.provider, "" if blind else moment.permit)
        shared.note(found)
        await shared.tell()
        if found.sign is Sign.PRESENT or blind:
            return replace(moment, unseen=found.sign is Sign.ABSENT)
        if moment.account_probe:
            await self._paces.account(task).probe_unused(moment.permit)
        return self._wait(task, retry_at(shared.row))

    async def _rests(self, task: AcceptedTask, strikes: Strikes) -> Wait | None:
        row, now = await self._paces.model(task).read(), self._system.clock.now()
        until = rests_until(row, now, last=self._last(strikes))
        return None if until is None else self._wait(task, until)

    def _last(self, strikes: Strikes) -> bool:
        """Has the task only one call left?"""
        return strikes.exhausted and strikes.failures + 1 >= self._system.routes.retries.attempts

    def _wait(self, task: AcceptedTask, until: datetime | None) -> Wait:
        now = self._system.clock.now()
        seconds = 1.0 if until is None else (until - now).total_seconds()
        return waiting(seconds, Held.BREAKER, f"{task.key} {now.isoformat()}")

    def _tokens(self, task: AcceptedTask) -> int:
        """Estimated, and only where tokens are counted."""
        shared = self._paces.model(task)
        if shared.ceiling.tokens is None and (shared.row is None or shared.row.tokens_limit is None):
            return 0
        body = request_body(task)
        return estimated_tokens(body, len(orjson.dumps(body)))

    def _line(self, task: AcceptedTask, lane: Lane) -> Line:
        place = (model_key(task.provider, task.model), task.tier, lane is Lane.FLEX)
        if place not in self._lines:
            model, account = self._paces.model(task), self._paces.account(task)
            horizon_s, flex, urgent = HORIZON_S[task.tier], lane is Lane.FLEX, task.tier is Tier.CRITICAL

            async def take(first: Asker, tokens: Sequence[int]) -> Answer:
                return await model.take(account, first, tokens, horizon_s=horizon_s, flex=flex, urgent=urgent)

            self._lines[place] = Line(self._system.clock, take)
        return self._lines[place]
