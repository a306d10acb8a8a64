"""What an event source hands over, and what it makes of the answer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from stack_cases import START, low, pack, task

import ingest
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario
from lowtide_local.stack.delivery import kept
from lowtide_local.stack.runner import NeverQuiet

IDS = ["m1", "m2", "m3"]


def named(*ids):
    return {"batchItemFailures": [{"itemIdentifier": name} for name in ids]}


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (None, []),
        ({}, []),
        ({"batchItemFailures": None}, []),
        (named(), []),
        (named("m2"), ["m2"]),
        (named("m1", "m1"), ["m1"]),
        (named(*IDS), IDS),
        # The key is case-sensitive: a misspelt one says nothing, and everything is deleted.
        ({"batchitemfailures": [{"itemIdentifier": "m2"}]}, []),
        # Malformed: nothing is deleted.
        (named("m2", "m4"), IDS),
        (named(""), IDS),
        (named(None), IDS),
        ({"batchItemFailures": [{"itemidentifier": "m2"}]}, IDS),
        ({"batchItemFailures": "m2"}, IDS),
        ({"batchItemFailures": ["m2"]}, IDS),
        ("done", []),
    ],
)
def test_an_answer_says_which_messages_are_kept(answer, left):
    assert sorted(kept(answer, IDS)) == left


def test_an_event_has_the_shape_that_lambda_gives_it(stage):
    played = stage(by_hand={"Ingest"})
    message_id = played.stack.send(task("a"), "acme")
    [record] = played.received("IntakeQueue")["Records"]
    assert record.keys() == {
        "messageId",
        "receiptHandle",
        "body",
        "attributes",
        "messageAttributes",
        "md5OfBody",
        "eventSource",
        "eventSourceARN",
        "awsRegion",
    }
    assert (record["messageId"], record["eventSource"]) == (message_id, "aws:sqs")
    assert record["eventSourceARN"].startswith("arn:aws:sqs:eu-central-1:123456789012:lowtide-IntakeQueue")
    assert record["attributes"]["SentTimestamp"] == str(int(START.timestamp() * 1000))
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["attributes"]["MessageGroupId"] == "acme"


@pytest.mark.parametrize(
    ("answer", "comes_again"),
    [(lambda ids: named(ids[0]), 1), (lambda _: named("no such message"), 3), (lambda _: {}, 0)],
    ids=["one named", "malformed", "empty"],
)
def test_only_the_messages_that_were_named_come_again(stage, monkeypatch, answer, comes_again):
    events = []

    def handler(event, _context):
        events.append(event)
        return answer([record["messageId"] for record in event["Records"]]) if len(events) == 1 else {}

    monkeypatch.setattr(ingest, "handler", handler)
    played = stage()
    played.send(*(task(name) for name in "abc"))
    played.stack.wait(60)
    assert [len(event["Records"]) for event in events] == ([3, comes_again] if comes_again else [3])
    if comes_again:
        # Under the queue's own visibility, and counted.
        assert events[1]["Records"][0]["attributes"]["ApproximateReceiveCount"] == "2"
    assert played.stack.queues["IntakeQueue"].depth == 0


def test_a_handler_that_raises_loses_none_of_its_messages(stage, monkeypatch):
    real, calls = ingest.handler, []

    def handler(event, context):
        calls.append(len(event["Records"]))
        if len(calls) == 1:
            raise RuntimeError("a bad deployment")
        return real(event, context)

    monkeypatch.setattr(ingest, "handler", handler)
    played = stage()
    records = played.play(*(task(name) for name in "abc"))
    assert len(records) == 3
    assert calls == [3, 3]
    assert [(name, str(error)) for name, error in played.stack.failures] == [("Ingest", "a bad deployment")]


def test_a_source_gives_no_more_messages_at_once_than_the_template_says(stage, monkeypatch):
    sizes = []
    real = ingest.handler
    monkeypatch.setattr(
        ingest, "handler", lambda event, context: sizes.append(len(event["Records"])) or real(event, context)
    )
    stage().play(*(task(str(number)) for number in range(23)))
    assert sizes == [10, 10, 3]


def test_a_source_starts_no_more_functions_at_once_than_the_template_says(stage):
    slow = Scenario(latency=Latencies(default=Latency(min_s=10, max_s=10)))
    played = stage(slow, parameters={"HighConcurrency": "2"})
    # A tenant each, or ingest packs them together.
    played.send(*(task(str(number), tenant=f"t{number}") for number in range(13)))
    played.stack.wait(5)
    assert played.stack.invoked["ConsumerHigh"] == 2
    played.stack.wait(10)
    assert played.stack.invoked["ConsumerHigh"] == 3


def test_a_batching_window_lets_messages_gather(stage):
    played = stage(by_hand={"Reporter"})
    played.send(task("a", "meeting_summary"))
    played.stack.wait(1)
    played.send(task("b", "meeting_summary"))
    played.stack.wait(2)
    assert played.stack.invoked["ConsumerNormal"] == 1
    assert played.play().keys() == {"a", "b"}


def test_tiers_do_not_wait_for_each_other(stage):
    slow_flex = Scenario(latency=Latencies(flex=Latency(min_s=200, max_s=200), default=Latency(min_s=1, max_s=1)))
    played = stage(slow_flex)
    played.send(task("slow", "meeting_summary"))
    played.stack.wait(30)
    records = played.play(task("now", "live_chat_response"))
    assert records["now"].finished_at < START + timedelta(seconds=32)
    assert records["slow"].finished_at > START + timedelta(seconds=200)


def test_schedules_fire_when_they_are_due(stage):
    played = stage(parameters={"AssemblerSchedule": "rate(4 minutes)"})
    played.stack.wait(3600)
    assert (played.stack.invoked["Assembler"], played.stack.invoked["Poller"]) == (15, 60)


def test_a_stack_that_is_never_done_says_what_is_left(stage):
    played = stage(by_hand={"Assembler", "Poller"})
    played.send(low("l"))
    with pytest.raises(NeverQuiet, match="'LowQueue': 1"):
        played.stack.settle(hours=2)


def test_a_pack_reaches_its_consumer_in_packs_of_ten(stage):
    played = stage()
    records = played.play(pack(*(task(f"{number}") for number in range(25))))
    assert len(records) == 25
    assert played.stack.invoked["ConsumerHigh"] == 1
