from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from lowtide.adapters.aws.replies import SqsReplies
from lowtide.core.errors import Busy
from lowtide.ports import Reply
from lowtide_local.engine.metrics import RecordedMetrics


@pytest.fixture
def metrics() -> RecordedMetrics:
    return RecordedMetrics()


def bodies(aws, url) -> list[str]:
    answer = aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return sorted(message["Body"] for message in answer.get("Messages", []))


def test_replies_go_to_the_queues_on_the_allow_list(aws, metrics):
    mine, yours = aws.queue_url("mine"), aws.queue_url("yours")
    SqsReplies(aws.sqs, {mine, yours}, metrics).send(
        [Reply(mine, "1", "rec_1.0"), Reply(yours, "2", "rec_1.0"), Reply(mine, "3", "rec_1.0")]
    )
    assert (bodies(aws, mine), bodies(aws, yours)) == (["1", "3"], ["2"])
    assert metrics.total("replies_sent") == 3


def test_a_queue_that_is_not_on_the_list_gets_nothing(aws, metrics):
    mine, theirs = aws.queue_url("mine"), aws.queue_url("theirs")
    SqsReplies(aws.sqs, {mine}, metrics).send([Reply(theirs, "1", "rec_1.0"), Reply(mine, "2", "rec_1.0")])
    assert (bodies(aws, mine), bodies(aws, theirs)) == (["2"], [])
    assert metrics.total("replies_dropped") == 1
    assert metrics.lines[0].fields["reason"] == "not on the allow-list"


def test_a_queue_that_is_gone_is_counted_and_does_not_stop_the_others(aws, metrics):
    mine = aws.queue_url("mine")
    gone = mine.replace("mine", "gone")
    SqsReplies(aws.sqs, {mine, gone}, metrics).send(
        [Reply(gone, "1", "rec_1.0"), Reply(gone, "2", "rec_1.0"), Reply(mine, "3", "rec_1.0")]
    )
    assert bodies(aws, mine) == ["3"]
    assert metrics.total("replies_dropped") == 2


def test_a_reply_that_cannot_be_sent_does_not_hold_back_its_neighbours(aws, metrics):
    mine = aws.queue_url("mine")
    SqsReplies(aws.sqs, {mine}, metrics).send(
        [Reply(mine, "1", "rec_1.0"), Reply(mine, "x" * 2_000_000, "rec_1.0"), Reply(mine, "3", "rec_1.0")]
    )
    assert bodies(aws, mine) == ["1", "3"]
    assert (metrics.total("replies_sent"), metrics.total("replies_dropped")) == (2, 1)


def test_a_reply_carries_its_id_its_trace_and_where_the_answer_is_when_it_is_not_in_it(aws, metrics):
    mine = aws.queue_url("mine")
    reply = Reply(mine, "{}", "rec_1.0", '{"store":"bucket"}', "00-ab-cd-01")
    SqsReplies(aws.sqs, {mine}, metrics).send([reply])
    [message] = aws.sqs.receive_message(QueueUrl=mine, MessageAttributeNames=["All"])["Messages"]
    told = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert told == {"id": "rec_1.0", "result": '{"store":"bucket"}', "traceparent": "00-ab-cd-01"}


def refusing(aws, url: str, error: Exception) -> None:
    """From now on SQS answers sends to this queue so."""

    def refuse(params, **_):
        if url.rpartition("/")[2] in str(params["body"]):
            raise error

    aws.sqs.meta.events.register("before-call.sqs.SendMessageBatch", refuse)


def told(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "SendMessageBatch")


@pytest.mark.parametrize(
    "error",
    [
        told("ThrottlingException", 400),
        told("RequestThrottled", 403),
        told("InternalFailure", 500),
        told("ServiceUnavailable", 503),
        EndpointConnectionError(endpoint_url="https://sqs"),
        ReadTimeoutError(endpoint_url="https://sqs"),
    ],
    ids=str,
)
def test_a_reply_that_its_queue_may_take_in_a_moment_is_an_error_and_no_loss_once_the_others_are_sent(
    aws, metrics, error
):
    mine, yours = aws.queue_url("mine"), aws.queue_url("yours")
    refusing(aws, mine, error)
    with pytest.raises(Busy):
        SqsReplies(aws.sqs, {mine, yours}, metrics).send([Reply(mine, "1", "rec_1.0"), Reply(yours, "2", "rec_2.0")])
    assert bodies(aws, yours) == ["2"]
    assert metrics.total("replies_dropped") == 0


@pytest.mark.parametrize("error", [told("AccessDenied", 403), told("KMS.DisabledException", 400)], ids=str)
def test_a_reply_to_a_queue_that_forbids_it_is_dropped(aws, metrics, error):
    mine = aws.queue_url("mine")
    refusing(aws, mine, error)
    SqsReplies(aws.sqs, {mine}, metrics).send([Reply(mine, "1", "rec_1.0")])
    assert metrics.total("replies_dropped") == 1
