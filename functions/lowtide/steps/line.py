"""Line: the calls of this process that wait for their moments, in the order in which they came.

One write to the shared row asks for all that wait, about once a second while any do, so that a call costs the row
nothing of its own. Who would wait too long is turned away with the time at which it is worth coming back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lowtide.core.errors import Contended
from lowtide.core.outcomes import jitter
from lowtide.core.pace_events import Held
from lowtide.core.task import AcceptedTask
from lowtide.core.trace import untraced
from lowtide.ports import Clock

SLICE_S = 1.0
"""Between two writes of one line; moments that are granted beyond those who wait are good for as long."""

LONGEST_SLICE_S = 1.25 * SLICE_S
"""With its jitter."""

LONGEST_WAIT_S = 300.0
"""Nobody is told to come back later than this: what keeps it waiting may have ended long before."""

CONTENDED_S = 2.0
"""After so many others wrote at once that this line did not come to it."""


@dataclass(frozen=True, slots=True)
class Asker:
    """A call that needs a moment. ``until``: as long as it may stand in line, give or take a slice; ``down_until``:
    where the breaker is what it waits for. ``probe_s``: how long its call may take. ``seed``: of its jitter, the same
    whenever this is played again."""

    permit: str
    seed: str
    tokens: int
    probe_s: float
    until: datetime
    down_until: datetime


@dataclass(frozen=True, slots=True)
class Moment:
    """When the call may begin, since when that is settled, and whether it is the one that sees if the model, or the
    account, is there again."""

    at: datetime
    granted_at: datetime
    permit: str
    probe: bool = False
    account_probe: bool = False
    unseen: bool = False
    """The call begins although the provider did not answer ``GET /models``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the shared row said: moments for the first so many, and when to ask ``later`` for the others."""

    moments: tuple[datetime, ...]
    granted_at: datetime
    later: datetime | None = None
    held: Held | None = None
    probe: bool = False
    account_probe: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now. The task goes back to its queue, unclaimed, for ``seconds``."""

    seconds: float
    held: Held


Take = Callable[[Asker, tuple[int, ...]], Awaitable[Answer]]
"""Asks the shared row, for the first in line and for so many tokens each."""


class Line:
    """Of one model, tier and lane."""

    def __init__(self, clock: Clock, take: Take) -> None:
        self._clock = clock
        self._take = take
        self._waiting: deque[tuple[Asker, asyncio.Future[Moment | Wait]]] = deque()
        self._spare: deque[tuple[datetime, datetime]] = deque()
        self._used = 0
        """Moments handed out since the last asking: a guess at how many will be wanted until the next."""
        self._asked_at: datetime | None = None
        self._pump: asyncio.Task[None] | None = None
        self._rests: tuple[datetime, Held] | None = None
        """Until when nothing is asked for those who wait, and what they wait for."""

    async def moment(self, asker: Asker) -> Moment | Wait:
        """Returns when the moment has come. Whatever goes wrong with the asking is raised."""
        granted = self._left_over(asker) or await self._stand(asker)
        if isinstance(granted, Moment):
            self._used += 1
            ahead_s = (granted.at - self._clock.now()).total_seconds()
            if ahead_s > 0:
                await self._clock.sleep(ahead_s)
        return granted

    def give_back(self, moment: Moment) -> None:
        """It was not used after all: for the next in line."""
        while self._waiting:
            asker, future = self._waiting.popleft()
            if not future.done():
                future.set_result(Moment(moment.at, moment.granted_at, asker.permit))
                return
        self._spare.append((moment.at, moment.granted_at))

    def _left_over(self, asker: Asker) -> Moment | None:
        stale = self._clock.now() - timedelta(seconds=SLICE_S)
        while self._spare and self._spare[0][0] < stale:
            self._spare.popleft()
        # Spare moments were asked for without tokens: a call that costs some asks for itself.
        if not self._spare or asker.tokens or self._waiting:
            return None
        return Moment(*self._spare.popleft(), asker.permit)

    async def _stand(self, asker: Asker) -> Moment | Wait:
        if self._rests is not None:
            wakes_at, held = self._rests
            if wakes_at - timedelta(seconds=SLICE_S) > _stays_until(asker, held):
                return waiting((wakes_at - self._clock.now()).total_seconds(), held, asker.seed)
        future: asyncio.Future[Moment | Wait] = asyncio.get_running_loop().create_future()
        self._waiting.append((asker, future))
        if self._pump is None:
            self._pump = asyncio.create_task(self._ask(), context=untraced())
        return await future

    async def _ask(self) -> None:
        try:
            while self._waiting:
                asked = [asker for asker, _ in self._waiting]
                answer = await self._take(asked[0], (*(asker.tokens for asker in asked), *self._more(asked)))
                self._hand_out(answer, asked[0].permit)
                if not self._waiting:
                    break
                now = self._clock.now()
                later = answer.later or now
                held = answer.held or Held.RATE
                self._turn_away(later, held, len(answer.moments))
                if self._waiting:
                    await self._rest(later, held, asked[0].seed)
        except Contended:
            self._turn_away_all(CONTENDED_S)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            for _, future in self._waiting:
                if not future.done():
                    future.set_exception(error)
            self._waiting.clear()
        finally:
            self._pump = None

    async def _rest(self, later: datetime, held: Held, seed: str) -> None:
        """Past ``later`` by a little, because lines of other processes were told the same moment."""
        now = self._clock.now()
        earliest = max(later, now + timedelta(seconds=SLICE_S))
        first_leaves = min(_stays_until(asker, held) for asker, _ in self._waiting)
        wakes_at = min(earliest + (earliest - now) * jitter(seed) / 4, max(earliest, first_leaves))
        self._rests = (wakes_at, held)
        try:
            await self._clock.sleep((wakes_at - now).total_seconds())
        finally:
            self._rests = None

    def _more(self, asked: list[Asker]) -> tuple[int, ...]:
        """Moments for those who will come within the slice, where as many came in the last one."""
        now = self._clock.now()
        fresh = self._asked_at is not None and (now - self._asked_at).total_seconds() <= 2 * SLICE_S
        expected = self._used - len(asked) if fresh and not any(asker.tokens for asker in asked) else 0
        self._used, self._asked_at = 0, now
        return (0,) * max(0, expected)

    def _hand_out(self, answer: Answer, probe: str) -> None:
        """``probe``: the name under which the row knows the probe, should this be one."""
        probes, granted_at = answer.probe or answer.account_probe, answer.granted_at
        for at in answer.moments:
            while self._waiting and self._waiting[0][1].done():  # its task was cancelled
                self._waiting.popleft()
            if not self._waiting:
                self._spare.append((at, granted_at))
                continue
            asker, future = self._waiting.popleft()
            permit = probe if probes else asker.permit
            future.set_result(Moment(at, granted_at, permit, probe=answer.probe, account_probe=answer.account_probe))

    def _turn_away(self, later: datetime, held: Held, served: int) -> None:
        """Those whose turn would come after they have to leave. ``served``: how many had theirs this time."""
        now, staying = self._clock.now(), deque[tuple[Asker, asyncio.Future[Moment | Wait]]]()
        for place, (asker, future) in enumerate(self._waiting):
            turn = later + timedelta(seconds=place / max(1, served) * SLICE_S if held is Held.RATE else 0.0)
            if turn <= _stays_until(asker, held):
                staying.append((asker, future))
            elif not future.done():
                future.set_result(waiting((turn - now).total_seconds(), held, asker.seed))
        self._waiting = staying

    def _turn_away_all(self, seconds: float) -> None:
        for asker, future in self._waiting:
            if not future.done():
                future.set_result(waiting(seconds, Held.RATE, asker.seed))
        self._waiting.clear()


def _stays_until(asker: Asker, held: Held) -> datetime:
    return asker.down_until if held is Held.BREAKER else asker.until


def waiting(seconds: float, held: Held, seed: str) -> Wait:
    """Up to half as long again, so that not all come back at once."""
    return Wait(min(LONGEST_WAIT_S, max(1.0, seconds)) * (1 + jitter(seed) / 2), held)


@dataclass(frozen=True, slots=True)
class Go:
    """The call may be made, now. ``task`` is the one to call for: with another model where a fallback answers.
    ``began_at``: see CallEnd."""

    task: AcceptedTask
    moment: Moment
    line: Line
    began_at: datetime
    reason: str | None = None
