"""A pace row as one process sees it: the row as last read, and what it has yet to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from lowtide.core.breaker import forgives
from lowtide.core.errors import safely_told
from lowtide.core.pace_events import CallEnd, Ceiling, PaceDecision, PaceEvent, PaceVerdict, Sign, Take, Tell
from lowtide.core.pace_rows import Breaker, PaceRow
from lowtide.ports import Change, System

from .line import Answer, Asker


class SharedPace:
    """Of a model, or of an account. Answered calls are told together, with whatever is written next."""

    def __init__(self, system: System, key: str, ceiling: Ceiling) -> None:
        self.key = key
        self.ceiling = ceiling
        self.row: PaceRow | None = None
        self._system = system
        self._untold: list[CallEnd] = []
        self._telling = asyncio.Lock()

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
                return self._probed(end) or self._learns(end)
            case Sign.LIMITED:
                return self._probed(end) or not (
                    self.row and self.row.limited_at and end.granted_at <= self.row.limited_at
                )
            case Sign.DOWN | Sign.FAILED | Sign.REFUSED:
                return self._probed(end) or self.row is None or not forgives(self.row, end.granted_at)
            case Sign.NO_CAPACITY | Sign.STALLED:
                return True
            case _:
                assert_never(end.sign)

    @property
    def expectant(self) -> bool:
        """Is an answer news: after failures, after 429s, or where little is known of its lane?"""
        row = self.row
        if not self._untold or row is None:
            return False
        return row.failures > 0 or row.limited > 0 or any(self._teaches(row, end) for end in self._untold)

    async def tell(self) -> None:
        """What is noted meanwhile goes with it, or with the next one. Where the row cannot be written it is forgotten:
        an answer that has come must not be lost for it."""
        async with self._telling:
            told = self._take_untold()
            if not told:
                return
            change: Change[PaceRow, PaceEvent] = Change(self.key, Tell(self.key, told, self.ceiling), self.row)
            system = self._system
            try:
                [decision] = await system.offload(lambda: system.paces.apply([change], system.clock.now()))
            except Exception as error:  # noqa: BLE001 - whatever it is, the calls have ended
                system.metrics.log("pace_untold", row=self.key, error=safely_told(error))
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
        event = Take(
            self.key,
            first.permit,
            tuple(tokens),
            horizon_s,
            first.probe_s,
            ceiling=self.ceiling,
            told=self._take_untold(),
            flex=flex,
            urgent=urgent,
        )
        # What the account has to hear was told when it happened.
        on_account = replace(event, key=account.key, tokens=(0,), told=(), ceiling=account.ceiling, flex=False)
        try:
            decided = await self._system.offload(lambda: self._decide(account.key, on_account, event))
        except Exception:
            self._untold[:0] = event.told
            raise
        account_decision, decision = decided
        probes = False
        if account_decision is not None:
            account._saw(account_decision)
            probes = account_decision.probe
            if decision is None:
                self._untold[:0] = event.told
                return _answer(account_decision)
        if decision is None:
            raise AssertionError("a model is asked unless its account holds it back")
        self._saw(decision)
        if probes and not decision.moments:
            account.note(CallEnd(Sign.UNUSED, self._system.clock.now(), first.permit))
            await account.tell()
        return replace(_answer(decision), account_probe=probes)

    def _decide(self, account: str, on_account: Take, event: Take) -> tuple[PaceDecision | None, PaceDecision | None]:
        """On the account first, which is written only where it is not closed."""
        paces, now = self._system.paces, self._system.clock.now()
        [row] = paces.get([account])
        held = None
        if row is not None and row.active:
            [held] = paces.apply([Change(account, on_account, row)], now)
            if held.verdict is PaceVerdict.LATER:
                return held, None
            if held.probe:
                event = replace(event, tokens=event.tokens[:1])
        [decision] = paces.apply([Change(self.key, event, self.row)], now)
        return held, decision

    def _take_untold(self) -> tuple[CallEnd, ...]:
        told, self._untold = tuple(self._untold), []
        return told

    def _saw(self, decision: PaceDecision) -> None:
        before, self.row = self.row, decision.row
        if self.row is None:
            raise AssertionError("the first event makes the row")
        if before is None or before.state is self.row.state:
            return
        metrics = self._system.metrics
        match self.row.state:
            case Breaker.OPEN:
                metrics.log("breaker_open", breaker=self.key, opens=self.row.opens)
            case Breaker.CLOSED:
                metrics.log("breaker_closed", breaker=self.key)
            case Breaker.HALF_OPEN:
                metrics.log("breaker_probe", breaker=self.key)

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
    return Answer(decision.moments, decision.later, decision.held, probe=decision.probe)
