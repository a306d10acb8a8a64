from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from aws_cases import NOW, Calls
from botocore.exceptions import EndpointConnectionError

from lowtide.adapters.aws import backoff
from lowtide.adapters.aws.queue import MESSAGE_BYTES, SqsQueue, message_of
from lowtide.core.errors import LowtideError, TooLarge
from lowtide.ports import Depth, Outgoing


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def queue(clock, aws) -> SqsQueue:
    return SqsQueue(aws.sqs, aws.queue_url(), threads=1)


class Scripted:
    """An SQS client whose batch calls answer by script and remember what they were asked."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[list[dict[str, Any]]] = []

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request["Entries"])
        return self.answers.pop(0)

    delete_message_batch = change_message_visibility_batch = send_message_batch


def failed(entry: str, code: str, *, sender: bool) -> dict[str, Any]:
    return {"Id": entry, "Code": code, "SenderFault": sender}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(backoff.time, "sleep", lambda seconds: None)


def test_what_is_sent_is_received_with_its_group_attributes_and_moment(queue):
    queue.send([Outgoing('{"a": "é"}', group="acme", attributes={"code": "invalid_task", "type": ""})])
    [message] = queue.receive(10, visibility_s=30)
    assert message.body == '{"a": "é"}'
    assert message.group == "acme"
    assert message.attributes == {"code": "invalid_task"}
    assert message.sent_at == NOW
    assert message.receives == 1


def test_any_number_is_sent_and_received_ten_a_call(queue, aws):
    calls = Calls(aws.sqs)
    queue.send([Outgoing(f"m{n}") for n in range(35)])
    assert calls.names == ["SendMessageBatch"] * 4
    received = queue.receive(33, visibility_s=30)
    assert len({message.id for message in received}) == 33
    assert len(queue.receive(100, visibility_s=30)) == 2
    assert queue.depth() == Depth(visible=0, in_flight=35, delayed=0)


def test_a_call_never_carries_more_than_a_mebibyte(queue, aws):
    calls = Calls(aws.sqs)
    queue.send([Outgoing("x" * 400_000) for _ in range(5)])
    assert calls.names == ["SendMessageBatch"] * 3
    assert len(queue.receive(10, visibility_s=30)) == 5


def test_bytes_are_counted_and_not_characters_and_attributes_with_them(queue, aws):
    largest = "é" * (MESSAGE_BYTES // 2)
    calls = Calls(aws.sqs)
    for too_large in (Outgoing(largest + "x"), Outgoing(largest, attributes={"code": "a"})):
        with pytest.raises(TooLarge, match="S3"):
            queue.send([Outgoing("small"), too_large])
    assert calls.names == []
    queue.send([Outgoing(largest)])
    assert queue.receive(1, visibility_s=30)[0].body == largest


def test_characters_that_sqs_refuses_travel_escaped_in_json(queue):
    queue.send([Outgoing(json.dumps("\uffff and \ufffe", ensure_ascii=False))])
    [message] = queue.receive(1, visibility_s=30)
    assert "\uffff" not in message.body
    assert json.loads(message.body) == "\uffff and \ufffe"


def test_a_tenant_that_sqs_would_not_take_as_a_group_still_gets_one_of_its_own(queue):
    queue.send(
        [Outgoing("1", group="größte Firma"), Outgoing("2", group="x" * 200), Outgoing("3", group="größte Firma")]
    )
    groups = {message.body: message.group for message in queue.receive(10, visibility_s=30)}
    assert groups["1"] == groups["3"] != groups["2"]
    assert all(len(group) == 64 for group in groups.values())


def test_a_message_comes_back_when_its_visibility_ends(queue, clock):
    queue.send([Outgoing("m")])
    [first] = queue.receive(1, visibility_s=30)
    clock.shift(29)
    assert queue.receive(1, visibility_s=30) == []
    clock.shift(2)
    [again] = queue.receive(1, visibility_s=30)
    assert (again.id, again.receives) == (first.id, 2)
    assert again.sent_at == NOW


def test_a_deferred_message_comes_back_when_it_was_told_to(queue, clock):
    queue.send([Outgoing("soon"), Outgoing("late")])
    by_body = {message.body: message for message in queue.receive(2, visibility_s=30)}
    queue.defer([(by_body["soon"], 0), (by_body["late"], 100)])
    clock.shift(0.001)  # in moto nothing is visible in the very moment of its defer
    assert [message.body for message in queue.receive(2, visibility_s=1000)] == ["soon"]
    clock.shift(101)
    assert [message.body for message in queue.receive(2, visibility_s=30)] == ["late"]


def test_nothing_is_deferred_beyond_what_sqs_takes():
    client = Scripted({})
    queue = SqsQueue(client, "url")
    queue.defer([(message_of(record()), 99_999), (message_of(record()), -5)])
    assert [entry["VisibilityTimeout"] for entry in client.asked[0]] == [42_300, 0]


def test_a_delayed_message_is_not_received_before_its_time(queue, clock):
    queue.send([Outgoing("later", delay_s=60)])
    assert queue.receive(1, visibility_s=30) == []
    assert queue.depth() == Depth(visible=0, in_flight=0, delayed=1)
    clock.shift(61)
    assert len(queue.receive(1, visibility_s=30)) == 1


def test_deleting_is_idempotent_and_a_stale_receipt_is_no_error(queue):
    queue.send([Outgoing(f"m{n}") for n in range(12)])
    messages = queue.receive(12, visibility_s=30)
    queue.delete(messages)
    queue.delete(messages)
    queue.defer([(message, 10) for message in messages])
    assert queue.depth() == Depth(visible=0, in_flight=0, delayed=0)


def test_an_entry_that_sqs_could_not_take_is_sent_again_alone():
    client = Scripted({"Failed": [failed("1", "InternalError", sender=False)]}, {})
    SqsQueue(client, "url").send([Outgoing("a"), Outgoing("b"), Outgoing("c")])
    assert [[entry["MessageBody"] for entry in call] for call in client.asked] == [["a", "b", "c"], ["b"]]


def test_throttling_is_tried_again_though_sqs_blames_the_sender():
    client = Scripted({"Failed": [failed("0", "KmsThrottled", sender=True)]}, {})
    SqsQueue(client, "url").send([Outgoing("a")])
    assert len(client.asked) == 2


def test_a_message_that_sqs_refuses_is_an_error_and_is_not_tried_again():
    client = Scripted({"Failed": [failed("0", "InvalidMessageContents", sender=True)]})
    with pytest.raises(LowtideError, match="InvalidMessageContents"):
        SqsQueue(client, "url").send([Outgoing("a"), Outgoing("b")])


def test_an_entry_that_sqs_never_takes_is_an_error_after_four_tries():
    client = Scripted(*[{"Failed": [failed("0", "InternalError", sender=False)]}] * 4)
    with pytest.raises(LowtideError, match="1 of 1"):
        SqsQueue(client, "url").delete([message_of(record())])
    assert client.answers == []


def test_a_queue_that_is_not_there_is_one_of_our_errors(aws):
    with pytest.raises(LowtideError, match="send again"):
        SqsQueue(aws.sqs, aws.queue_url() + "-gone").send([Outgoing("a")])


def record(**changes: Any) -> dict[str, Any]:
    """As Lambda's event source mapping delivers it."""
    return {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
        "body": '{"task_id": "t_1"}',
        "attributes": {
            "ApproximateReceiveCount": "3",
            "SentTimestamp": "1772366400123",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1772366400125",
            "MessageGroupId": "acme",
        },
        "messageAttributes": {
            "code": {"stringValue": "x", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "blob": {"binaryValue": "AAAA", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:intake",
        "awsRegion": "eu-central-1",
    } | changes


def test_a_record_of_a_lambda_event_is_a_message():
    message = message_of(record())
    assert message.id == "059f36b4-87a3-44ab-83d2-661975830a7d"
    assert message.receipt == "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a"
    assert message.body == '{"task_id": "t_1"}'
    assert message.sent_at == datetime(2026, 3, 1, 12, 0, tzinfo=UTC) + timedelta(milliseconds=123)
    assert (message.receives, message.group, message.attributes) == (3, "acme", {"code": "x"})


def test_a_record_without_a_group_belongs_to_the_default_one():
    bare = record(attributes={"ApproximateReceiveCount": "1", "SentTimestamp": "1772366400000"}, messageAttributes={})
    assert message_of(bare).group == "default"


@pytest.mark.parametrize("failing", [2, 3])
def test_what_some_polls_have_received_is_returned_though_another_fails(queue, aws, failing):
    queue.send([Outgoing("{}") for _ in range(30)])
    polls: list[str] = []

    def refuse(model, **_):
        polls.append(model.name)
        if len(polls) == failing:
            raise EndpointConnectionError(endpoint_url="https://sqs")

    aws.sqs.meta.events.register("before-call.sqs.ReceiveMessage", refuse)
    assert len(queue.receive(20, visibility_s=30)) == 10 * (failing - 1)


def test_a_queue_that_cannot_be_polled_at_all_is_an_error_and_not_an_empty_queue(queue, aws):
    def refuse(**_):
        raise EndpointConnectionError(endpoint_url="https://sqs")

    aws.sqs.meta.events.register("before-call.sqs.ReceiveMessage", refuse)
    with pytest.raises(EndpointConnectionError):
        queue.receive(20, visibility_s=30)
