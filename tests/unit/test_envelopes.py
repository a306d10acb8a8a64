"""What AWS puts around a message: opened, or named."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.envelopes import DEEPEST
from lowtide.core.errors import Refused
from lowtide.core.message import MESSAGE_BYTES, MOST_TASKS, parse_task, split_message

BODY = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}
REQUEST = {"url": "/v1/chat/completions", "body": BODY}


def task(task_id="a"):
    return {"task_id": task_id, "type": "email_draft", "request": REQUEST}


def sns(message, **fields):
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:eu-central-1:123456789012:tasks",
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": "2026-03-02T10:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
    } | fields


def bridge(detail, source="com.acme.shop", **fields):
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "order placed",
        "source": source,
        "account": "123456789012",
        "time": "2026-03-02T10:00:00Z",
        "region": "eu-central-1",
        "resources": [],
        "detail": detail,
    } | fields


def split(content):
    return split_message(json.dumps(content))


@pytest.mark.parametrize(
    ("content", "tasks"),
    [
        (sns(task()), [task()]),
        (bridge(task()), [task()]),
        (bridge(json.dumps(task())), [task()]),
        (sns(bridge(task())), [task()]),
        (bridge(sns(task())), [task()]),
        (sns({"tasks": [task("a"), task("b")]}), [task("a"), task("b")]),
        ({"tasks": [sns(task("a")), task("b"), bridge(task("c"))]}, [task("a"), task("b"), task("c")]),
        ({"tasks": [sns({"tasks": [task("a"), task("b")]}), task("c")]}, [task("a"), task("b"), task("c")]),
        (sns(sns(sns(sns(task())))), [task()]),
        (sns(task(), UnsubscribeURL="https://sns.example/?x", Subject="a subject"), [task()]),
        (sns(task(), MessageAttributes={"team": {"Type": "String", "Value": "growth"}}), [task()]),
    ],
)
def test_a_task_is_found_in_its_envelope(content, tasks):
    assert split(content) == tasks


def test_a_task_is_the_same_task_with_an_envelope_and_without():
    routes, now = shipped_routes(), datetime(2026, 3, 2, tzinfo=UTC)
    [bare], [wrapped] = split(task()), split(sns(bridge(task())))
    hashes = {accept(raw, origin="m/0", sent_at=now, routes=routes).content_hash for raw in (bare, wrapped)}
    assert len(hashes) == 1


S3_RECORD = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": {}}}
S3_TEST = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-02T10:00:00Z", "Bucket": "b"}
DESTINATION = {
    "version": "1.0",
    "timestamp": "2026-03-02T10:00:00Z",
    "requestContext": {"requestId": "r", "functionArn": "arn:aws:lambda:x", "condition": "Success"},
    "requestPayload": {},
    "responseContext": {"statusCode": 200},
    "responsePayload": {},
}
NAMED = [
    (S3_TEST, "the test event that S3 sends"),
    ({"Records": [S3_RECORD]}, "an S3 event notification"),
    ({"Records": [{"EventSource": "aws:sns", "Sns": {}}]}, "an event of aws:sns"),
    ({"Records": [{"eventSource": "aws:dynamodb"}]}, "an event of aws:dynamodb"),
    ({"Records": [{}]}, "an event of null"),
    (DESTINATION, "a Lambda function's destination"),
    ({"specversion": "1.0", "type": "t", "source": "/s", "id": "1", "data": task()}, "a CloudEvent"),
    ({"AlarmName": "a", "NewStateValue": "ALARM"}, "a CloudWatch alarm"),
    ({"key1": "value1", "key2": "value2", "key3": "value3"}, "the test event of the Lambda console"),
    ({"key1": "value1"}, "the test event of the Lambda console"),
    ({"task": task(), "error": {"code": "x"}}, "a dead letter of lowtide"),
    ({"Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": "https://x"}, "SubscriptionConfirmation"),
    ({"version": "2.0", "requestContext": {"http": {}}, "body": "{}"}, "a request of API Gateway"),
]


@pytest.mark.parametrize(("event", "name"), NAMED)
@pytest.mark.parametrize("around", [lambda event: event, sns, bridge, lambda event: {"tasks": [event]}])
def test_an_event_that_holds_no_task_is_named_whatever_is_around_it(event, name, around):
    [raw] = split(around(event))
    with pytest.raises(Refused) as refused:
        parse_task(raw)
    assert refused.value.code == "invalid_task"
    assert name in refused.value.message
    assert "holds no task" in refused.value.message
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (sns("Your order was shipped."), "the Message of an SNS notification is no task (not JSON"),
        (sns(""), "the Message of an SNS notification is no task"),
        (sns("5"), "a number"),
        (sns({"tasks": []}), "tasks is an empty array"),
        (bridge([task()]), "an array of 1"),
        (bridge({"bucket": {}}, source="aws.s3", **{"detail-type": "Object Created"}), "aws.s3 (Object Created)"),
        (sns(bridge({}, source="aws.events", **{"detail-type": "Scheduled Event"})), "aws.events (Scheduled Event)"),
        (sns(task(), MessageAttributes={"task_token": {"Type": "String", "Value": "t"}}), "raw message delivery"),
        (bridge("not JSON"), "not JSON"),
    ],
)
def test_an_envelope_without_a_task_is_refused_as_a_whole_and_says_why(content, why):
    with pytest.raises(Refused) as refused:
        split(content)
    assert why in refused.value.message


def test_more_envelopes_than_anybody_has_are_not_opened():
    content = task()
    for _ in range(DEEPEST + 1):
        content = bridge(content)
    [raw] = split(content)
    with pytest.raises(Refused, match="this is an EventBridge event"):
        parse_task(raw)


def test_a_bad_envelope_in_a_pack_harms_itself_alone():
    bad = [sns("no JSON"), bridge({}, source="aws.s3"), sns({"tasks": [task("x"), 5, {"tasks": []}]}), sns("[]")]
    raws = split({"tasks": [task("a"), *bad, task("b")]})
    taken, refused = [], []
    for raw in raws:
        try:
            taken.append(parse_task(raw).task_id)
        except Refused as refusal:
            refused.append(refusal.message)
    assert taken == ["a", "x", "b"]
    assert len(refused) == 5
    assert sum("SNS notification" in message for message in refused) == 2


def test_a_task_that_names_itself_is_never_taken_for_an_event():
    with pytest.raises(Refused, match="Records"):
        parse_task(task() | {"Records": [S3_RECORD]})


@pytest.mark.parametrize("around", [lambda each: each, sns, bridge])
def test_a_message_holds_a_bounded_number_of_tasks_however_it_is_wrapped(around):
    split(around({"tasks": [1] * MOST_TASKS}))
    with pytest.raises(Refused, match=f"send at most {MOST_TASKS} in one message") as refused:
        split(around({"tasks": [1] * (MOST_TASKS + 1)}))
    assert refused.value.code == "too_large"
    inner = sns({"tasks": [1] * 1_000})
    with pytest.raises(Refused, match=f"send at most {MOST_TASKS} in one message"):
        split({"tasks": [inner] * 6})


def test_a_message_that_is_nothing_but_envelopes_is_refused():
    content = json.dumps(task())
    while len(json.dumps(sns(content))) < MESSAGE_BYTES // 2:
        content = json.dumps(sns(content))
    [raw] = split_message(content)
    with pytest.raises(Refused):
        parse_task(raw)


def test_twice_the_same_name_in_an_envelope_opens_nothing():
    body = json.dumps(sns(task()))[:-1] + ', "Message": "{}"}'
    [raw] = split_message(body)
    with pytest.raises(Refused, match="twice"):
        parse_task(raw)


@pytest.mark.parametrize("url", ["/chat/completions", "/responses", "/embeddings"])
def test_azures_way_to_write_an_endpoint_is_understood(url):
    bodies = {"/chat/completions": BODY, "/responses": {"model": "m", "input": "x"}}
    body = bodies.get(url, {"model": "text-embedding-3-small", "input": "x"})
    line = {"custom_id": "a", "method": "POST", "url": url, "body": body}
    routes, now = shipped_routes(), datetime(2026, 3, 2, tzinfo=UTC)
    assert accept(line, origin="1", sent_at=now, routes=routes).endpoint == f"/v1{url}"
    whole = {"task_id": "a", "type": "email_draft", "request": {"url": url, "body": body}}
    assert accept(whole, origin="1", sent_at=now, routes=routes).endpoint == f"/v1{url}"
