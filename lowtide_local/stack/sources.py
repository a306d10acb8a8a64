"""What invokes the functions: event sources on queues, and schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from .containers import Invocation
from .delivery import kept, scheduled_event, sqs_event
from .hands import Hands
from .queues import MotoQueue
from .template import Function, QueueSource

Start = Callable[[str, dict[str, Any], Callable[[Invocation], None]], Invocation]
"""Starts a function with an event; hears of its end."""


class EventSource:
    """One event source mapping."""

    def __init__(self, function: Function, source: QueueSource, queue: MotoQueue, region: str) -> None:
        self.function = function.name
        self._source = source
        self._queue = queue
        self._region = region
        self._at_work = 0
        self._window_ends: datetime | None = None

    def due(self, now: datetime) -> datetime | None:
        """When it has something to deliver, as far as the queue tells now."""
        if self._source.max_concurrency is not None and self._at_work >= self._source.max_concurrency:
            return None
        visible = self._queue.visible
        if visible == 0:
            self._window_ends = None
            return self._queue.next_visible_at()
        if visible >= self._source.batch_size or not self._source.window_s:
            return now
        if self._window_ends is None:
            self._window_ends = now + timedelta(seconds=self._source.window_s)
        return self._window_ends

    def deliver(self, start: Start) -> None:
        self._window_ends = None
        messages = self._queue.receive(self._source.batch_size)
        if messages:
            self._at_work += 1
            event = sqs_event(messages, self._queue.arn, self._region)
            start(self.function, event, lambda invocation: self._delivered(messages, invocation))

    def _delivered(self, messages: Sequence[Mapping[str, Any]], invocation: Invocation) -> None:
        """What failed is not deleted: it keeps the visibility that it has."""
        self._at_work -= 1
        if invocation.error is not None:
            return
        ids = [message["MessageId"] for message in messages]
        left = kept(invocation.answer, ids) if self._source.partial_failures else frozenset()
        self._queue.delete([message["ReceiptHandle"] for message in messages if message["MessageId"] not in left])


class Schedule:
    """Fires first one period after the deployment."""

    def __init__(self, function: Function, period_s: int, hands: Hands, region: str) -> None:
        self.function = function.name
        self._period = timedelta(seconds=period_s)
        self._region = region
        self._next = hands.now + self._period

    def due(self, now: datetime) -> datetime:
        del now
        return self._next

    def deliver(self, start: Start) -> None:
        """Whether the run before has ended is nobody's question. A run that fails is left to the next one."""
        moment, self._next = self._next, self._next + self._period
        start(self.function, scheduled_event(self.function, moment, self._region), lambda _: None)
