"""Events onto the deployment's EventBridge bus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from lowtide.core.errors import LowtideError
from lowtide.core.outward import SOURCE, Event
from lowtide.ports import Metrics

from .backoff import tries
from .threads import concurrently

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

AT_ONCE = 10
"""Entries in one PutEvents call (EventBridge API reference)."""
CALL_BYTES = 240 * 1024
"""Of all entries of a call; an entry may have 256 KB, and some regions hold the call to the same."""
_TRIES = 6
_HOPELESS = frozenset({"MalformedDetail", "InvalidArgument", "NotAuthorizedForSourceException"})
"""Of an entry that the bus will never take, whoever mends what."""


class BusEvents:
    """A ports.Events. Counts ``events_sent`` and ``events_dropped``."""

    def __init__(self, client: EventBridgeClient, bus: str, metrics: Metrics, *, threads: int = 1) -> None:
        self._client = client
        self._bus = bus
        self._metrics = metrics
        self._threads = threads

    def send(self, events: Sequence[Event]) -> None:
        calls = list(_calls([_entry(event, self._bus) for event in events]))
        dropped = [code for codes in concurrently(self._put, calls, self._threads) for code in codes]
        self._metrics.count("events_sent", len(events) - len(dropped))
        if dropped:
            reason = ", ".join(sorted(set(dropped)))
            self._metrics.count("events_dropped", len(dropped))
            self._metrics.log("events_dropped", bus=self._bus, events=len(dropped), reason=reason)

    def _put(self, entries: list[dict[str, Any]]) -> list[str]:
        """Calls until the bus has taken every entry but those that it never will, whose codes are returned."""
        left, dropped, told = entries, list[str](), ""
        for _ in tries(_TRIES):
            try:
                answers = self._client.put_events(Entries=left)["Entries"]  # type: ignore[arg-type]
            except (BotoCoreError, ClientError) as error:
                raise LowtideError(f"sending events to {self._bus} failed: {error}; send again") from error
            failed = [
                (entry, code) for entry, answer in zip(left, answers, strict=True) if (code := answer.get("ErrorCode"))
            ]
            dropped += [code for _, code in failed if code in _HOPELESS]
            left = [entry for entry, code in failed if code not in _HOPELESS]
            told = ", ".join(sorted({code for _, code in failed}))
            if not left:
                return dropped
        raise LowtideError(f"{self._bus} did not take {len(left)} of {len(entries)} events ({told}); send again")


class NoEvents:
    """A ports.Events for a deployment that names no bus."""

    def send(self, events: Sequence[Event]) -> None:
        pass


def _entry(event: Event, bus: str) -> dict[str, Any]:
    entry = {
        "EventBusName": bus,
        "Source": SOURCE,
        "DetailType": event.kind.value,
        "Detail": orjson.dumps(event.detail).decode(),
        "Time": event.at,
    }
    if event.traceparent is not None:
        entry["TraceHeader"] = trace_header(event.traceparent)
    return entry


def trace_header(traceparent: str) -> str:
    """A W3C trace context as X-Ray writes it."""
    _, trace, parent, flags = traceparent.split("-")
    return f"Root=1-{trace[:8]}-{trace[8:]};Parent={parent};Sampled={int(flags, 16) & 1}"


def _calls(entries: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    call: list[dict[str, Any]] = []
    total = 0
    for entry in entries:
        size = sum(len(text.encode()) for text in entry.values() if isinstance(text, str))
        if call and (len(call) == AT_ONCE or total + size > CALL_BYTES):
            yield call
            call, total = [], 0
        call.append(entry)
        total += size
    if call:
        yield call
