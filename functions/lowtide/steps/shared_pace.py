"""A pace row as one process sees it: the row as last read, and what it has yet to be told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from typing import assert_never

from lowtide.core.breaker import answered_lately, forgives
from lowtide.core.cuts import is_news
from lowtide.core.errors import safely_told
from lowtide.core.pace_events import Begun, CallEnd, Ceiling, PaceDecision, PaceEvent, PaceVerdict, Sign, Take, Tell
from lowtide.core.pace_rows import Breaker, PaceRow
from lowtide.ports import Change, System

from .line import Answer, Asker

LIMITED_TOGETHER = 3
"""429s in a row that are told at once: others may be about to run into the same."""


class SharedPace:
    """Of a model, or of an account. Answered calls are told together, with whatever is written next."""

    def __init__(self, system: System, key: str, ceiling: Ceiling) -> None:
        self.key = key
        self.ceiling = ceiling
        self.row: PaceRow | None = None
        self._system = system
        self._untold: list[CallEnd] = []
        self._begun: Counter[datetime] = Counter()
        self._telling = asyncio.Lock()

    async def look(self) -> PaceRow | None:
        """The row as last seen, and read where it was not seen yet: the first calls of a process know no less."""
        return self.row or await self.read()

    async def read(self) -> PaceRow | None:
        """The row as it is."""
        [row] = await self._system.offload(lambda: self._system.paces.get([self.key]))
        self.row = row or self.row
        return self.row

    @property
    def answered_lately(self) -> bool:
        """Was a call of the model answered a moment ago, as far as this process knows?"""
        noted = any(end.sign is Sign.ANSWERED for end in self._untold)
        return noted or (self.row is not None and answered_lately(self.row, self._system.clock.now()))

    def began(self, granted_at: datetime, count: int = 1) -> None:
        """Note that a call begins whose moment was granted then; with -1, that it does not begin after all."""
        self._begun[granted_at] += count

    def note(self, end: CallEnd) -> None:
        last = self._untold[-1] if self._untold else None
        alike = last is not None and last.sign is end.sign is Sign.ANSWERED and last.flex == end.flex
        if last is not None and alike and not self._probed(last):
            count, seconds = last.count + end.count, (*last.seconds, *end.seconds)
            end = replace(end, count=count, headroom=end.headroom or last.headroom, seconds=seconds)
            self._untold.pop()
        self._untold.append(end)

    def urgent(self, end: CallEnd) -> bool:
        """Should others know before this process asks the next time?"""
        match end.sign:
            case Sign.UNUSED:
                return self._probed(end)
            case Sign.ANSWERED:
                # That flex is back lets everybody off the wait for one call at a time.
                flex_back = end.flex and self.row is not None and self.row.flex_refused > 0
                return self._probed(end) or self._learns(end) or flex_back
            case Sign.LIMITED:
                return self._probed(end) or is_news(self.row, end) or self._limited_in_a_row() >= LIMITED_TOGETHER
            case Sign.DOWN | Sign.FAILED | Sign.REFUSED:
                return self._probed(end) or self.row is None or not forgives(self.row, end.granted_at)
            case Sign.NO_CAPACITY | Sign.STALLED | Sign.DOUBTED | Sign.CLEARED | Sign.PRESENT | Sign.ABSENT:
                return True
            case _:
                assert_never(end.sign)

    @property
    def expectant(self) -> bool:
        """Is there news: a 429, or an answer after failures, 429s or refusals of flex, or where little is known of its
        lane? A row that heard of 429s alone would take the few that are stray for most of the calls."""
        row = self.row
        if not self._untold or row is None:
            return False
        if row.failures > 0 or row.refused_run > 0 or row.refused > 0 or row.trial is not None:
            return True
        if any(end.sign is Sign.LIMITED for end in self._untold):
            return True
        return any(self._teaches(row, end) or (end.flex and row.flex_refused > 0) for end in self._untold)

    async def tell(self) -> None:
        """What is noted meanwhile goes with it, or with the next one. Where the row cannot be written it is forgotten:
        an answer that has come must not be lost for it."""
        async with self._telling:
            if not self._untold:
                return
            told, begun = self._take_untold()
            event = Tell(self.key, told, self.ceiling, begun)
            change: Change[PaceRow, PaceEvent] = Change(self.key, event, self.row)
            try:
                [decision] = await self._system.offload(lambda: self._apply(change))
            except Exception as error:  # noqa: BLE001 - whatever it is, the calls have ended
                self._system.metrics.log("pace_untold", row=self.key, error=safely_told(error))
            else:
                self._saw(decision)

    async def take(
        self,
        account: SharedPace,
        first: Asker,
        tokens: Sequence[int],
        *,
        horizon_s: float,
        flex: bool,
        urgent: bool = False,
    ) -> Answer:
        """Moments of this model, where the account is not refused. Raises Contended."""
        told, begun = self._take_untold()
        event = Take(
            self.key,
            first.permit,
            tuple(tokens),
            horizon_s,
            first.probe_s,
            ceiling=self.ceiling,
            told=told,
            begun=begun,
            flex=flex,
            urgent=urgent,
        )
        # What the account has to hear was told when it happened.
        on_account = replace(
            event, key=account.key, tokens=(0,), told=(), begun=(), ceiling=account.ceiling, flex=False
        )
        probes = False
        try:
            allowed = await self._system.offload(lambda: self._allowed(account, on_account))
            if allowed is not None:
                account._saw(allowed)
                if allowed.verdict is PaceVerdict.LATER:
                    self._put_back(event)
                    return _answer(allowed)
                probes = allowed.probe
            if probes:
                event = replace(event, tokens=event.tokens[:1])
            change: Change[PaceRow, PaceEvent] = Change(self.key, event, self.row)
            [decision] = await self._system.offload(lambda: self._apply(change))
        except Exception:
            self._put_back(event)
            if probes:
                await account.probe_unused(first.permit)
            raise
        self._saw(decision)
        if probes and not decision.moments:
            await account.probe_unused(first.permit)
        return replace(_answer(decision), account_probe=probes)

    async def probe_unused(self, permit: str) -> None:
        self.note(CallEnd(Sign.UNUSED, self._system.clock.now(), permit))
        await self.tell()

    def _allowed(self, account: SharedPace, event: Take) -> PaceDecision | None:
        """What the account says, which is written only where it is not closed; None where it is."""
        [row] = self._system.paces.get([event.key])
        if row is None or not row.active:
            account.row = row
            return None
        [decision] = self._apply(Change(event.key, event, row))
        return decision

    def _apply(self, change: Change[PaceRow, PaceEvent]) -> Sequence[PaceDecision]:
        return self._system.paces.apply([change], self._system.clock.now())

    def _take_untold(self) -> tuple[tuple[CallEnd, ...], tuple[Begun, ...]]:
        told, self._untold = tuple(self._untold), []
        begun, self._begun = self._begun, Counter()
        return told, tuple(Begun(granted_at, count) for granted_at, count in begun.items() if count > 0)

    def _put_back(self, event: Take) -> None:
        self._untold[:0] = event.told
        for each in event.begun:
            self._begun[each.granted_at] += each.count

    def _limited_in_a_row(self) -> int:
        """Untold 429s since the last call that came to something else."""
        return sum(1 for _ in takewhile(lambda end: end.sign is Sign.LIMITED, reversed(self._untold)))

    def _saw(self, decision: PaceDecision) -> None:
        before, self.row = self.row, decision.row
        if self.row is None:
            raise AssertionError("the first event makes the row")
        if before is None or before.state is self.row.state:
            return
        metrics, whose = self._system.metrics, "account" if self.row.of_account else "breaker"
        match self.row.state:
            case Breaker.OPEN:
                metrics.log(f"{whose}_open", breaker=self.key, opens=self.row.opens)
            case Breaker.CLOSED:
                metrics.log(f"{whose}_closed", breaker=self.key)
            case Breaker.HALF_OPEN:
                metrics.log(f"{whose}_probe", breaker=self.key)

    def _probed(self, end: CallEnd) -> bool:
        return self.row is not None and self.row.probe is not None and end.call == self.row.probe

    def _teaches(self, row: PaceRow, end: CallEnd) -> bool:
        return bool(end.seconds) and (row.on_flex if end.flex else row.on_default).wants(self._system.clock.now())

    def _learns(self, end: CallEnd) -> bool:
        told, row = end.headroom, self.row
        if told is None or row is None:
            return False
        return (told.requests_limit or row.requests_limit, told.tokens_limit or row.tokens_limit) != (
            row.requests_limit,
            row.tokens_limit,
        )


def _answer(decision: PaceDecision) -> Answer:
    if decision.granted_at is None:
        raise AssertionError("a Take is granted at a moment")
    return Answer(decision.moments, decision.granted_at, decision.later, decision.held, probe=decision.probe)
