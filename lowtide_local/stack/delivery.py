"""What an SQS event source gives a function, and what it makes of the answer.

Source of both: the AWS Lambda developer guide, "Using Lambda with Amazon SQS" and "Handling errors".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

ACCOUNT = "123456789012"
"""moto's."""


def sqs_event(messages: Sequence[Mapping[str, Any]], arn: str, region: str) -> dict[str, Any]:
    """The event for messages as ``ReceiveMessage`` gives them."""
    return {"Records": [_record(message, arn, region) for message in messages]}


def scheduled_event(function: str, now: datetime, region: str) -> dict[str, Any]:
    """What EventBridge Scheduler sends where a schedule has no input of its own."""
    return {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": ACCOUNT,
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [f"arn:aws:scheduler:{region}:{ACCOUNT}:schedule/default/{function}"],
        "detail": "{}",
    }


def kept(answer: Any, delivered: Collection[str]) -> frozenset[str]:
    """The ids of the messages that are not deleted, by the answer of a function that reports item failures.

    An answer that says nothing is a success, whatever else it says: the key is case-sensitive. One that names what
    was not delivered, or names nothing where it should, fails the whole delivery.
    """
    if not isinstance(answer, dict) or answer.get("batchItemFailures") is None:
        return frozenset()
    failures = answer["batchItemFailures"]
    everything = frozenset(delivered)
    if not isinstance(failures, list) or not all(isinstance(failure, dict) for failure in failures):
        return everything
    named = [failure.get("itemIdentifier") for failure in failures]
    return frozenset(named) if all(name in everything for name in named) else everything


def _record(message: Mapping[str, Any], arn: str, region: str) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message["Attributes"]),
        "messageAttributes": {
            name: {
                "stringValue": value.get("StringValue"),
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": value["DataType"],
            }
            for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": region,
    }
