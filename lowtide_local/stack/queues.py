"""A queue on moto, with what AWS would not tell: when its next message becomes visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from moto.sqs.models import Queue, sqs_backends

from .delivery import ACCOUNT

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

AT_ONCE = 10
"""SQS's limit for the messages of one call."""

RECEIVES_TOLD = 3
"""A message that was received so often is in SQS's age no more."""

_AFTER = timedelta(milliseconds=1)
"""To moto a message is visible only past its moment."""


class MotoQueue:
    def __init__(self, client: SQSClient, url: str, region: str) -> None:
        self.url = url
        self.arn = self._backend(region, url).queue_arn
        self._queue = self._backend(region, url)
        self._client = client
        self.received = 0
        """Messages that ``receive`` has returned so far, a message as often as it came."""

    @staticmethod
    def _backend(region: str, url: str) -> Queue:
        return sqs_backends[ACCOUNT][region].queues[url.rpartition("/")[2]]

    def send(self, body: str, group: str) -> str:
        return self._client.send_message(QueueUrl=self.url, MessageBody=body, MessageGroupId=group)["MessageId"]

    def receive(self, limit: int) -> list[Mapping[str, Any]]:
        """As an event source does: with every attribute, under the queue's own visibility."""
        received: list[Mapping[str, Any]] = []
        while len(received) < limit:
            answer = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(AT_ONCE, limit - len(received)),
                WaitTimeSeconds=0,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            if not answer.get("Messages"):
                break
            received += answer["Messages"]
        self.received += len(received)
        return received

    def delete(self, receipts: Sequence[str]) -> None:
        left = iter(receipts)
        while some := list(islice(left, AT_ONCE)):
            entries: Any = [{"Id": str(place), "ReceiptHandle": receipt} for place, receipt in enumerate(some)]
            self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)

    @property
    def depth(self) -> int:
        """Of all messages, in hand or not."""
        return len(self._queue._messages)  # noqa: SLF001 - its public list leaves out what is in hand

    @property
    def visible(self) -> int:
        return len(self._queue.messages)

    def oldest_s(self, now: datetime) -> float | None:
        """As CloudWatch tells the age of the oldest message: those that were received three times are left out."""
        told = [each for each in self._queue._messages if each.approximate_receive_count < RECEIVES_TOLD]  # noqa: SLF001
        sent = [datetime.fromtimestamp(int(message.sent_timestamp or 0) / 1000, UTC) for message in told]
        return (now - min(sent)).total_seconds() if sent else None

    def next_visible_at(self) -> datetime | None:
        """When the next message that is not visible becomes so."""
        moments = [max(message.visible_at, message.delayed_until) for message in self._hidden()]
        return datetime.fromtimestamp(min(moments) / 1000, UTC) + _AFTER if moments else None

    def contents(self) -> list[tuple[str, dict[str, str]]]:
        """(body, attributes) of every message, in the order of sending, without receiving any."""
        return [
            (message.body, {name: value["StringValue"] for name, value in message.message_attributes.items()})
            for message in self._queue._messages  # noqa: SLF001
        ]

    def _hidden(self) -> list[Any]:
        return [m for m in self._queue._messages if m.delayed or not m.visible]  # noqa: SLF001
