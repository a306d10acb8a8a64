"""A text that is read from a slow or failing place, beside the calls that need it.

A caller that has the text at hand never waits. All callers without one share one read, which runs on a thread of its
own, and wait for it for a bounded time. A read that fails is remembered for some seconds, so that thousands of callers
make few reads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock, Thread

from lowtide.core.errors import Busy
from lowtide.ports import Clock

FRESH = timedelta(seconds=300)
"""Age from which a text is read again. A rotated key is in use this long after (OPERATIONS, "Security")."""
LONGEST = timedelta(hours=1)
"""Age up to which a text is used while it cannot be read again."""
WAIT = timedelta(seconds=2.5)
"""Longest wait for a read, from its beginning: less than any call or question may take."""
LOST_AFTER = timedelta(seconds=30)
"""Age from which a read is taken to have no end, as after a process was frozen. Another one begins."""
REST_S, REST_CAP_S = 2.0, 30.0
"""Seconds until a failed read is repeated, doubling from the one to the other."""
DOUBTED_EVERY = timedelta(seconds=5)
"""Least time between two reads that are made because the text was refused."""

THREAD = "kept-text"

Begin = Callable[[Callable[[], None]], None]
"""Begins work, and does not wait for its end."""


def on_its_own_thread(work: Callable[[], None]) -> None:
    """A read that hangs must not take the place of a storage call, so it takes no thread of the pool."""
    Thread(target=work, name=THREAD, daemon=True).start()


def in_place(work: Callable[[], None]) -> None:
    work()


@dataclass(frozen=True, slots=True)
class Reading:
    """A read under way, for which a caller may wait ``left_s`` more seconds."""

    ended: Future[None]
    left_s: float


@dataclass(frozen=True, slots=True)
class _Read:
    began: datetime
    ended: Future[None] = field(default_factory=Future)


class KeptText:
    """``read`` gives the text, or raises. ``begin`` decides where it runs."""

    def __init__(self, read: Callable[[], str], clock: Clock, begin: Begin) -> None:
        self._read = read
        self._clock = clock
        self._begin = begin
        self._lock = Lock()
        self._text: str | None = None
        self._read_at: datetime | None = None
        self._doubted = False
        self._awaited = False
        self._doubted_read_at: datetime | None = None
        self._reading: _Read | None = None
        self._failures = 0
        self._failure: Exception | None = None
        self._rests_until: datetime | None = None

    def ask(self, *, newest: bool = False) -> str | Reading:
        """Return the text, or the read to wait for before ``at_hand`` is asked. Begins a read if one is due.

        ``newest``: wait for it rather than take a text that is no longer fresh. Raises as ``at_hand`` does.
        """
        now = self._clock.now()
        with self._lock:
            due = self._due(now)
        if due is not None:
            self._start(due)
        with self._lock:
            must_wait = self._age(now) >= (FRESH if newest else LONGEST) or self._awaited
            if must_wait and self._reading is not None and (left := self._reading.began + WAIT - now) > timedelta(0):
                return Reading(self._reading.ended, left.total_seconds())
            return self._taken(now)

    def at_hand(self) -> str:
        """Return the text. Raises what the last read raised, or Busy, where there is none."""
        with self._lock:
            return self._taken(self._clock.now())

    def doubt(self) -> None:
        """Read again, because the text was refused. The next caller waits for that read, unless it fails."""
        with self._lock:
            self._doubted = self._awaited = True

    def _taken(self, now: datetime) -> str:
        if self._text is not None and self._age(now) < LONGEST:
            return self._text
        raise self._failure or Busy(f"no answer within {WAIT.total_seconds()} s")

    def _age(self, now: datetime) -> timedelta:
        return timedelta.max if self._read_at is None else now - self._read_at

    def _due(self, now: datetime) -> _Read | None:
        if self._reading is not None and now - self._reading.began < LOST_AFTER:
            return None
        if self._rests_until is not None and now < self._rests_until:
            return None
        last = self._doubted_read_at
        again = self._doubted and (last is None or now - last >= DOUBTED_EVERY)
        if self._age(now) < FRESH and not again:
            return None
        if self._doubted:
            self._doubted_read_at = now
        self._reading = _Read(now)
        self._reading.ended.set_running_or_notify_cancel()  # a caller that stops waiting does not end it
        return self._reading

    def _start(self, read: _Read) -> None:
        try:
            self._begin(lambda: self._run(read))
        except RuntimeError as error:  # no thread can be had
            self._end(read, error)

    def _run(self, read: _Read) -> None:
        try:
            found = self._read()
        except Exception as error:  # noqa: BLE001 - each caller hears of it, whatever it is
            self._end(read, error)
        else:
            self._end(read, found)

    def _end(self, read: _Read, outcome: str | Exception) -> None:
        with self._lock:
            current = self._reading is read
            if current:
                self._reading, self._awaited = None, False
            if isinstance(outcome, str):
                if self._read_at is None or self._read_at <= read.began:
                    self._text, self._read_at, self._doubted = outcome, read.began, False
                self._failures, self._failure, self._rests_until = 0, None, None
            elif current:
                self._failed(outcome, self._clock.now())
        read.ended.set_result(None)

    def _failed(self, error: Exception, now: datetime) -> None:
        rest_s = min(REST_CAP_S, REST_S * 2.0 ** min(self._failures, 20))
        self._failures += 1
        self._failure, self._rests_until = error, now + timedelta(seconds=rest_s)
