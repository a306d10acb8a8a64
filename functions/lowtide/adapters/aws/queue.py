"""A standard SQS queue."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lowtide.core.errors import Busy, LowtideError, TooLarge
from lowtide.ports import Depth, Message, Outgoing

from .backoff import tries
from .threads import concurrently

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MESSAGE_BYTES = 1_048_576
"""SQS's limit for a message with its attributes, and for the ten messages of one call together."""
AT_ONCE = 10
"""SQS's limit for the entries of one call."""
LONGEST_DEFERRAL_S = 43_200 - 900
"""SQS counts its twelve hours from the receive, and refuses what goes beyond; a function may have held the message for
the fifteen minutes that Lambda gives it."""

_SERVER_FAULT = 500
_TRIES = 4
"""Rounds for entries that SQS refused for reasons of its own."""
_GROUP = re.compile(r"""[A-Za-z0-9!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}""")
"""What SQS takes as a MessageGroupId."""
_UNSENDABLE = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}
"""The two characters that JSON carries bare and SQS refuses (its list follows XML's). Every body here is JSON, where
the escape means the same; unescaped, one such character in a prompt would stop its task for good."""
_SYSTEM_ATTRIBUTES: Any = ["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId"]


class SqsQueue:
    """A ports.Queue. ``threads`` calls at once where there is more than one to make."""

    def __init__(self, client: SQSClient, url: str, *, threads: int = 8) -> None:
        self._client = client
        self._url = url
        self._threads = threads

    def send(self, messages: Sequence[Outgoing]) -> None:
        entries = [_entry(message) for message in messages]
        sizes = [_size(entry) for entry in entries]
        if max(sizes, default=0) > MESSAGE_BYTES:
            raise TooLarge(f"a message of {max(sizes)} bytes; SQS takes {MESSAGE_BYTES}: let S3 carry it")
        try:
            refused = concurrently(self._send_call, list(_calls(entries, sizes)), self._threads)
        except (BotoCoreError, ClientError) as error:
            kind = Busy if _momentary(error) else LowtideError
            raise kind(f"sending to {self._url} failed: {error}; send again") from error
        codes = sorted({code for call in refused for code in call})
        if codes:
            raise LowtideError(f"{self._url} refused messages ({', '.join(codes)}); those not refused were sent")

    def receive(self, limit: int, *, visibility_s: int) -> list[Message]:
        """Short polls, several at once, until a round of them brings nothing. A poll that fails ends it; what the
        others brought is returned, because it would be hidden until its visibility ends."""
        received: list[Message] = []
        failed: list[BotoCoreError | ClientError] = []

        def poll(most: int) -> list[Message]:
            try:
                return self._receive_call(most, visibility_s)
            except (BotoCoreError, ClientError) as error:
                failed.append(error)
                return []

        while not failed and (left := limit - len(received)) > 0:
            calls = [min(AT_ONCE, left - at) for at in range(0, left, AT_ONCE)][: self._threads]
            found = concurrently(poll, calls, self._threads)
            if not any(found):
                break
            received.extend(message for messages in found for message in messages)
        if failed and not received:
            raise failed[0]
        return received

    def delete(self, messages: Sequence[Message]) -> None:
        self._each(
            [{"ReceiptHandle": message.receipt} for message in messages],
            lambda entries: self._client.delete_message_batch(QueueUrl=self._url, Entries=entries),
        )

    def defer(self, messages: Sequence[tuple[Message, int]]) -> None:
        self._each(
            [
                {
                    "ReceiptHandle": message.receipt,
                    "VisibilityTimeout": min(max(seconds, 0), LONGEST_DEFERRAL_S),
                }
                for message, seconds in messages
            ],
            lambda entries: self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries),
        )

    def depth(self) -> Depth:
        numbers = self._client.get_queue_attributes(
            QueueUrl=self._url,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            ],
        )["Attributes"]
        return Depth(
            visible=int(numbers["ApproximateNumberOfMessages"]),
            in_flight=int(numbers["ApproximateNumberOfMessagesNotVisible"]),
            delayed=int(numbers["ApproximateNumberOfMessagesDelayed"]),
        )

    def _send_call(self, entries: list[dict[str, Any]]) -> list[str]:
        return self._settled(entries, lambda left: self._client.send_message_batch(QueueUrl=self._url, Entries=left))

    def _receive_call(self, most: int, visibility_s: int) -> list[Message]:
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=most,
            VisibilityTimeout=visibility_s,
            WaitTimeSeconds=0,
            MessageSystemAttributeNames=_SYSTEM_ATTRIBUTES,
            MessageAttributeNames=["All"],
        )
        return [_message(raw) for raw in answer.get("Messages", [])]

    def _each(self, entries: list[dict[str, Any]], call: Callable[[Any], Any]) -> None:
        """What SQS refuses as the sender's fault is a stale receipt: no error."""
        chunks = [entries[at : at + AT_ONCE] for at in range(0, len(entries), AT_ONCE)]
        concurrently(lambda chunk: self._settled(chunk, call), chunks, self._threads)

    def _settled(self, entries: list[dict[str, Any]], call: Callable[[Any], Any]) -> list[str]:
        """Calls until SQS has taken or refused every entry; returns the codes of those refused as our fault."""
        left = {str(place): entry | {"Id": str(place)} for place, entry in enumerate(entries)}
        refused: list[str] = []
        for _ in tries(_TRIES):
            failed = call(list(left.values())).get("Failed", [])
            refused.extend(failure["Code"] for failure in failed if not _passing(failure))
            left = {failure["Id"]: left[failure["Id"]] for failure in failed if _passing(failure)}
            if not left:
                return refused
        raise Busy(f"{self._url} did not take {len(left)} of {len(entries)} entries in {_TRIES} tries")


def sendable(body: str) -> str:
    """A JSON text as it is sent: with the same meaning, and no character that SQS refuses."""
    return body.translate(_UNSENDABLE)


def message_of(record: Mapping[str, Any]) -> Message:
    """A message from a record of a Lambda SQS event (``event["Records"][n]``)."""
    attributes = record["attributes"]
    return Message(
        id=record["messageId"],
        receipt=record["receiptHandle"],
        body=record["body"],
        sent_at=_moment(attributes["SentTimestamp"]),
        receives=int(attributes["ApproximateReceiveCount"]),
        group=attributes.get("MessageGroupId", "default"),
        attributes={
            name: value["stringValue"]
            for name, value in record.get("messageAttributes", {}).items()
            if value.get("stringValue") is not None
        },
    )


def _message(raw: Mapping[str, Any]) -> Message:
    attributes = raw["Attributes"]
    return Message(
        id=raw["MessageId"],
        receipt=raw["ReceiptHandle"],
        body=raw["Body"],
        sent_at=_moment(attributes["SentTimestamp"]),
        receives=int(attributes["ApproximateReceiveCount"]),
        group=attributes.get("MessageGroupId", "default"),
        attributes={
            name: value["StringValue"]
            for name, value in raw.get("MessageAttributes", {}).items()
            if "StringValue" in value
        },
    )


def _moment(milliseconds: str) -> datetime:
    whole, rest = divmod(int(milliseconds), 1000)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=rest * 1000)


def _entry(message: Outgoing) -> dict[str, Any]:
    group = message.group if _GROUP.fullmatch(message.group) else sha256(message.group.encode()).hexdigest()
    return {
        "MessageBody": sendable(message.body),
        "DelaySeconds": message.delay_s,
        "MessageGroupId": group,
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value.translate(_UNSENDABLE)}
            for name, value in message.attributes.items()
            if value  # SQS takes no empty ones
        },
    }


def _size(entry: Mapping[str, Any]) -> int:
    attributes = entry["MessageAttributes"].items()
    texts = [text for name, value in attributes for text in (name, value["DataType"], value["StringValue"])]
    return sum(len(text.encode()) for text in (entry["MessageBody"], *texts))


def _calls(entries: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
    """Cuts entries into calls, in order, within both limits."""
    call: list[dict[str, Any]] = []
    total = 0
    for entry, size in zip(entries, sizes, strict=True):
        if call and (len(call) == AT_ONCE or total + size > MESSAGE_BYTES):
            yield call
            call, total = [], 0
        call.append(entry)
        total += size
    if call:
        yield call


def _momentary(error: BotoCoreError | ClientError) -> bool:
    """Does it say nothing of the queue or of the message: no answer, a fault of the service, or too many requests?"""
    if not isinstance(error, ClientError):
        return True
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= _SERVER_FAULT or "throttl" in error.response["Error"]["Code"].lower()


def _passing(failure: Mapping[str, Any]) -> bool:
    """May the same entry succeed in a moment: SQS's own trouble, or throttling (which it blames on the sender)."""
    return not failure.get("SenderFault") or "throttl" in failure.get("Code", "").lower()
