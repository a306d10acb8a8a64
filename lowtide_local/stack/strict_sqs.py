"""moto's SQS, made as strict as SQS is about what a message may hold.

moto takes any character, any number of attributes and any group, so that a message that SQS refuses each time it is
sent would pass every test. Source: the SQS API reference (SendMessage, SendMessageBatch) and the developer guide's
chapters on message quotas, message attributes and MessageGroupId. Written without the deployed code's own rules: where
the two differ, a test should fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from moto.sqs.exceptions import BatchRequestTooLong, SQSException
from moto.sqs.models import Message, SQSBackend

MOST_BYTES = 1_048_576
"""Bytes of a message with its attributes, and of all messages of one call."""
MOST_ATTRIBUTES = 10
MOST_NAME = 256
LONGEST_GROUP = 128

_NOT_XML = re.compile("[^\x09\x0a\x0d\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = re.compile(r"(?!\.|aws\.|amazon\.)[\w.-]+(?<!\.)", re.ASCII | re.IGNORECASE)
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


class Refused(SQSException):
    """What SQS would answer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)


@contextmanager
def strict_sqs() -> Iterator[None]:
    """For as long as it is held, every send on moto is judged first. Of a batch only the entries at fault fail."""
    send, send_batch = SQSBackend.send_message, SQSBackend.send_message_batch

    def send_message(self: SQSBackend, queue_name: str, message_body: str, **given: Any) -> Message:
        fault = _fault(
            {
                "MessageBody": message_body,
                "MessageAttributes": given.get("message_attributes"),
                "MessageGroupId": given.get("group_id"),
            }
        )
        if fault is not None:
            raise fault
        return send(self, queue_name, message_body, **given)

    def send_message_batch(
        self: SQSBackend, queue_name: str, entries: dict[str, dict[str, Any]]
    ) -> tuple[list[Message], list[dict[str, Any]]]:
        total = sum(_size(entry) for entry in entries.values())
        if total > MOST_BYTES:
            raise BatchRequestTooLong(total)
        faults = {place: fault for place, entry in entries.items() if (fault := _fault(entry)) is not None}
        good = {place: entry for place, entry in entries.items() if place not in faults}
        sent, failed = send_batch(self, queue_name, good) if good else ([], [])
        return sent, failed + [
            {"Id": entries[place]["Id"], "SenderFault": True, "Code": fault.code, "Message": fault.message}
            for place, fault in faults.items()
        ]

    with patch.multiple(SQSBackend, send_message=send_message, send_message_batch=send_message_batch):
        yield


def _fault(entry: Mapping[str, Any]) -> Refused | None:
    body, group = entry["MessageBody"], entry.get("MessageGroupId")
    attributes = entry.get("MessageAttributes") or {}
    if not body:
        return Refused("MissingParameter", "The request must contain the parameter MessageBody.")
    if (bad := _refused(body)) is not None:
        return Refused("InvalidMessageContents", f"Invalid binary character '{bad}' was found in the message body")
    if _size(entry) > MOST_BYTES:
        return Refused("InvalidParameterValue", f"Message must be shorter than {MOST_BYTES} bytes.")
    if group is not None and not _is_group(group):
        return Refused("InvalidParameterValue", f"Value {group!r} for parameter MessageGroupId is invalid.")
    if len(attributes) > MOST_ATTRIBUTES:
        return Refused("InvalidParameterValue", f"Number of message attributes [{len(attributes)}] exceeds the maximum")
    return next((fault for name, value in attributes.items() if (fault := _attribute_fault(name, value))), None)


def _attribute_fault(name: str, value: Mapping[str, Any]) -> Refused | None:
    text = value.get("StringValue")
    if len(name) > MOST_NAME or ".." in name or not _NAME.fullmatch(name):
        return Refused("InvalidParameterValue", f"The message attribute name {name!r} is invalid.")
    if text == "":
        return Refused("InvalidParameterValue", f"The message attribute {name!r} must contain a non-empty value.")
    if text is not None and (bad := _refused(text)) is not None:
        return Refused("InvalidParameterValue", f"Invalid binary character '{bad}' was found in the attribute {name!r}")
    return None


def _refused(text: str) -> str | None:
    """The first character that is not allowed, as SQS writes it: ``#x1b``."""
    bad = _NOT_XML.search(text)
    return None if bad is None else f"#x{ord(bad[0]):x}"


def _is_group(group: str) -> bool:
    plain = all(char.isascii() and (char.isalnum() or char in _PUNCTUATION) for char in group)
    return 0 < len(group) <= LONGEST_GROUP and plain


def _size(entry: Mapping[str, Any]) -> int:
    """In bytes, with names, types and values of the attributes."""
    attributes = (entry.get("MessageAttributes") or {}).items()
    values = [(name, value["DataType"], value.get("StringValue") or "") for name, value in attributes]
    return sum(len(text.encode()) for text in (entry["MessageBody"], *(text for each in values for text in each)))
