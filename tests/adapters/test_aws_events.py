"""lowtide.adapters.aws.events: what PutEvents is given, and what becomes of what it does not take."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from lowtide.adapters.aws import backoff
from lowtide.adapters.aws.events import BusEvents, trace_header
from lowtide.core.errors import LowtideError
from lowtide.core.outward import Event, EventKind
from lowtide_local.engine.metrics import RecordedMetrics

BUS = "arn:aws:events:eu-central-1:123456789012:event-bus/tide"
AT = datetime(2026, 3, 2, 10, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Bus:
    """A client whose answers are written beforehand: each an error code or None by entry."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backoff.time, "sleep", lambda _seconds: None)
        session = boto3.session.Session("key", "secret", region_name="eu-central-1")
        self._client = session.client("events")
        self._stubber = Stubber(self._client)
        self.metrics = RecordedMetrics()
        self.calls: list[list[dict[str, Any]]] = []
        self._client.meta.events.register("provide-client-params", self._seen)

    def _seen(self, params: dict[str, Any], **_: Any) -> None:
        self.calls.append(params["Entries"])

    def answers(self, *codes: str | None) -> None:
        entries = [{"EventId": "e"} if code is None else {"ErrorCode": code} for code in codes]
        failed = sum(code is not None for code in codes)
        self._stubber.add_response("put_events", {"FailedEntryCount": failed, "Entries": entries})

    def refuses(self, code: str) -> None:
        self._stubber.add_client_error("put_events", code)

    def send(self, *events: Event) -> None:
        with self._stubber:
            BusEvents(self._client, BUS, self.metrics).send(events)
        self._stubber.assert_no_pending_responses()

    def sent(self) -> list[list[str]]:
        return [[json.loads(entry["Detail"])["id"] for entry in call] for call in self.calls]


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Bus:
    return Bus(monkeypatch)


def event(name: str = "a", **changes: Any) -> Event:
    detail = {"id": name, **changes}
    return Event(EventKind.TASK, detail, AT, changes.get("traceparent"))


def test_an_event_says_whence_it_comes_what_it_is_and_which_trace_it_belongs_to(bus):
    bus.answers(None)
    bus.send(event("a", traceparent=TRACE))
    [[entry]] = bus.calls
    assert (entry["EventBusName"], entry["Source"], entry["DetailType"]) == (BUS, "lowtide", "Task settled")
    assert (json.loads(entry["Detail"])["traceparent"], entry["Time"]) == (TRACE, AT)
    assert entry["TraceHeader"] == "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"
    assert trace_header(TRACE[:-2] + "00").endswith("Sampled=0")


def test_ten_events_go_in_a_call(bus):
    bus.answers(*[None] * 10)
    bus.answers(*[None] * 2)
    bus.send(*(event(str(number)) for number in range(12)))
    assert [len(call) for call in bus.calls] == [10, 2]
    assert bus.metrics.total("events_sent") == 12


def test_events_that_are_large_together_go_in_calls_of_their_own(bus):
    bus.answers(None)
    bus.answers(None)
    bus.send(event("a", tags="x" * 130_000), event("b", tags="x" * 130_000))
    assert bus.sent() == [["a"], ["b"]]


def test_only_what_was_not_taken_is_sent_again(bus):
    bus.answers(None, "ThrottlingException", "InternalFailure")
    bus.answers(None, "InternalFailure")
    bus.answers(None)
    bus.send(event("a"), event("b"), event("c"))
    assert bus.sent() == [["a", "b", "c"], ["b", "c"], ["c"]]
    assert bus.metrics.total("events_sent") == 3


def test_what_is_never_taken_is_an_error_after_some_tries(bus):
    for _ in range(6):
        bus.answers("ThrottlingException")
    with pytest.raises(LowtideError, match=r"did not take 1 of 1 events \(ThrottlingException\); send again"):
        bus.send(event())


def test_a_bus_that_may_not_be_written_to_is_an_error_and_not_silence(bus):
    bus.refuses("AccessDeniedException")
    with pytest.raises(LowtideError, match="AccessDenied"):
        bus.send(event())


def test_an_event_that_no_bus_would_take_is_dropped_and_counted_and_its_neighbours_are_not(bus):
    bus.answers("MalformedDetail", None)
    bus.send(event("a"), event("b"))
    assert (bus.metrics.total("events_dropped"), bus.metrics.total("events_sent")) == (1, 1)
