from __future__ import annotations

import pytest

from lowtide.adapters.aws.replies import SqsReplies
from lowtide_local.engine.metrics import RecordedMetrics


@pytest.fixture
def metrics() -> RecordedMetrics:
    return RecordedMetrics()


def bodies(aws, url) -> list[str]:
    answer = aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return sorted(message["Body"] for message in answer.get("Messages", []))


def test_replies_go_to_the_queues_on_the_allow_list(aws, metrics):
    mine, yours = aws.queue_url("mine"), aws.queue_url("yours")
    SqsReplies(aws.sqs, {mine, yours}, metrics).send([(mine, "1"), (yours, "2"), (mine, "3")])
    assert (bodies(aws, mine), bodies(aws, yours)) == (["1", "3"], ["2"])
    assert metrics.total("replies_sent") == 3


def test_a_queue_that_is_not_on_the_list_gets_nothing(aws, metrics):
    mine, theirs = aws.queue_url("mine"), aws.queue_url("theirs")
    SqsReplies(aws.sqs, {mine}, metrics).send([(theirs, "1"), (mine, "2")])
    assert (bodies(aws, mine), bodies(aws, theirs)) == (["2"], [])
    assert metrics.total("replies_dropped") == 1
    assert metrics.lines[0].fields["reason"] == "not on the allow-list"


def test_a_queue_that_is_gone_is_counted_and_does_not_stop_the_others(aws, metrics):
    mine = aws.queue_url("mine")
    gone = mine.replace("mine", "gone")
    SqsReplies(aws.sqs, {mine, gone}, metrics).send([(gone, "1"), (gone, "2"), (mine, "3")])
    assert bodies(aws, mine) == ["3"]
    assert metrics.total("replies_dropped") == 2


def test_a_reply_that_cannot_be_sent_does_not_hold_back_its_neighbours(aws, metrics):
    mine = aws.queue_url("mine")
    SqsReplies(aws.sqs, {mine}, metrics).send([(mine, "1"), (mine, "x" * 2_000_000), (mine, "3")])
    assert bodies(aws, mine) == ["1", "3"]
    assert (metrics.total("replies_sent"), metrics.total("replies_dropped")) == (2, 1)
