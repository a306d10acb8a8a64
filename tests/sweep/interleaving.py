"""Actors take turns by virtual time: one runs, the others stand still in the middle of what they do.

Steps are plain blocking code, so each actor has a thread; only one of them ever runs, and it goes on until it pauses
and another is due before it. Who is due is a function of the pauses alone, so that the same pauses give the same
history, whatever the machine does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import count
from threading import Lock, Thread


class Interleaver:
    """``elapsed_s`` is everybody's time. ``switches`` counts how often one actor stood still for another."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.switches = 0
        self._order = count()
        self._due: list[tuple[float, int, Lock]] = []
        self._errors: list[BaseException] = []
        self._over = _held()

    def run(self, actors: Sequence[Callable[[], None]]) -> None:
        """All of them to their end; raises the first error that one of them left behind."""
        if len(actors) == 1:
            actors[0]()
            return
        threads = []
        for actor in actors:
            turn = _held()
            threads.append(Thread(target=self._act, args=(actor, turn), daemon=True))
            heapq.heappush(self._due, (self.elapsed_s, next(self._order), turn))
        for thread in threads:
            thread.start()
        self._next()
        self._over.acquire()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def pause(self, seconds: float) -> None:
        """The running actor goes on in so many seconds; whoever is due before that goes first."""
        at = self.elapsed_s + seconds
        if not self._due or at < self._due[0][0]:
            self.elapsed_s = at
            return
        turn = _held()
        heapq.heappush(self._due, (at, next(self._order), turn))
        self.switches += 1
        self._next()
        turn.acquire()

    def _act(self, actor: Callable[[], None], turn: Lock) -> None:
        turn.acquire()
        try:
            actor()
        except BaseException as error:  # noqa: BLE001 - told to whoever runs them
            self._errors.append(error)
        self._next()

    def _next(self) -> None:
        if not self._due:
            self._over.release()
            return
        at, _, turn = heapq.heappop(self._due)
        self.elapsed_s = max(self.elapsed_s, at)
        turn.release()


class SkewedClock:
    """A ports.Clock, ``skew_s`` ahead of everybody's time. Whole milliseconds, which is what rows keep."""

    def __init__(self, interleaver: Interleaver, start: datetime, skew_s: float = 0.0) -> None:
        self._interleaver = interleaver
        self._start = start + timedelta(seconds=skew_s)

    def now(self) -> datetime:
        return self._start + timedelta(milliseconds=round(self._interleaver.elapsed_s * 1000))

    async def sleep(self, seconds: float) -> None:
        self._interleaver.pause(seconds)


def _held() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock
