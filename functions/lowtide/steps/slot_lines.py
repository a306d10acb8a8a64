"""Slot lines: the calls of one model at the slots of a process: those in flight, and the tasks that wait, by tenant."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from math import inf

from lowtide.core.task import AcceptedTask

PATIENCE_S = 1.0
"""A line stands still once the first task in it has waited for so long, in seconds."""

KEPT_S = 5.0
"""What a line that stands still keeps beyond its share: what it serves within so many seconds."""

WINDOW_S = 10.0
"""How far back the ends of calls count for the rate."""

LEAST_AWAY_S = 1.0
LONGEST_AWAY_S = 300.0
"""Bounds on how long a task stays away from the line, in seconds."""

GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly however many there are."""


@dataclass(frozen=True, slots=True)
class Turn:
    """``granted``: the caller holds a slot. Otherwise ``away_s`` says how long the task stays away because its model is
    busy. None: something more urgent needs the room."""

    granted: bool
    away_s: float | None = None


@dataclass(eq=False, slots=True)
class Waiter:
    """A task that waits since ``since``, by the loop's clock."""

    task: AcceptedTask
    since: float
    turn: asyncio.Future[Turn]


@dataclass(slots=True)
class ModelLine:
    """``now`` is the loop's clock everywhere."""

    born: float
    held: int = 0
    _waiters: dict[Waiter, None] = field(default_factory=dict)
    """In the order in which they came."""
    _tenants: OrderedDict[str, deque[Waiter]] = field(default_factory=OrderedDict)
    """The tenant with the next turn comes first."""
    _ended: deque[float] = field(default_factory=deque)
    _away: dict[str, float] = field(default_factory=dict)
    """Until when each task stays away that was sent away, by its key. Where it comes back to another process, this one
    forgets it then."""
    _back: list[tuple[float, str]] = field(default_factory=list)
    """The same as a heap; entries of tasks that came back early stay until their time."""
    _sent: int = 0

    def came(self, key: str) -> None:
        """A task is here, perhaps again."""
        self._away.pop(key, None)

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._waiters

    @property
    def waiters(self) -> list[Waiter]:
        return list(self._waiters)

    def add(self, waiter: Waiter) -> None:
        self._tenants.setdefault(waiter.task.tenant, deque()).append(waiter)
        self._waiters[waiter] = None

    def remove(self, waiter: Waiter) -> None:
        tenant = waiter.task.tenant
        self._tenants[tenant].remove(waiter)
        del self._waiters[waiter]
        if not self._tenants[tenant]:
            del self._tenants[tenant]

    def next_up(self) -> Waiter:
        """Return the first waiter of the tenant with the next turn. That tenant's following turn comes last."""
        tenant, queue = next(iter(self._tenants.items()))
        self._tenants.move_to_end(tenant)
        return queue[0]

    def surplus(self, now: float, share: float) -> list[Waiter]:
        """Return the waiters that a line with this ``share`` does not keep while it stands still.

        Each is the one with the latest deadline, of the tenant that has most left; of several, the last."""
        stands = self.waiting and next(iter(self._waiters)).since + PATIENCE_S <= now
        kept = share + KEPT_S * self.rate(now)
        if not stands or self.waiting <= kept:
            return []
        queues = [sorted(queue, key=lambda waiter: waiter.task.deadline_at) for queue in self._tenants.values()]
        longest = [(-len(queue), place) for place, queue in enumerate(queues)]
        heapify(longest)
        found: list[Waiter] = []
        while self.waiting - len(found) > kept:
            length, place = longest[0]
            found.append(queues[place].pop())
            heapreplace(longest, (length + 1, place))
        return found

    def took(self) -> None:
        self.held += 1

    def gave(self, now: float) -> None:
        self.held -= 1
        self._ended.append(now)
        self._forget(now)

    def idle(self, now: float) -> bool:
        """Has it nothing in flight, in line or away?"""
        self._forget(now)
        return not (self.held or self.waiting or self._away)

    def rate(self, now: float) -> float:
        """Calls a second that end here, at most: those in flight count as if they ended now."""
        self._forget(now)
        span_s = min(WINDOW_S, now - self.born)
        return (len(self._ended) + self.held) / span_s if span_s > 0 else inf

    def away_s(self, key: str, now: float) -> float:
        """Seconds that this task stays away. Together those away come back as fast as the line serves them, or faster:
        each at a point, spread evenly, of the time that those in line and away need."""
        needed_s = (len(self._away) + self.waiting) / self.rate(now) if self.held else 0.0
        self._sent += 1
        away_s = max(LEAST_AWAY_S, min(LONGEST_AWAY_S, needed_s) * (self._sent * GOLDEN % 1))
        self._away[key] = now + away_s
        heappush(self._back, (now + away_s, key))
        return away_s

    def _forget(self, now: float) -> None:
        while self._ended and self._ended[0] <= now - WINDOW_S:
            self._ended.popleft()
        while self._back and self._back[0][0] <= now:
            back_at, key = heappop(self._back)
            if self._away.get(key) == back_at:
                del self._away[key]
