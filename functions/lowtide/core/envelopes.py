"""Envelopes that AWS puts around a message: opened where a task may be inside, named where none can be.

SNS (without raw delivery) and EventBridge wrap what a publisher sent. Other services send events of their own, which
hold no task; a sender is told which event it was, because a queue's policy or a rule has to be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import Refused
from .jsontext import Twice, decode
from .refusals import RefusalCode
from .wording import kind

DEEPEST = 4
"""Envelopes around one task. EventBridge to SNS to SQS makes two."""
_SLEEPER = "task_token"
"""Attribute that holds a state machine's token. Only an attribute of the SQS message itself counts. In an SNS
envelope it would be lost, and the state machine would sleep on."""
_SHOWN_CHARACTERS = 80


def is_envelope(content: Any) -> bool:
    return isinstance(content, dict) and not isinstance(content, Twice) and (_of_sns(content) or _of_bridge(content))


def opened(content: Mapping[str, Any]) -> Any:
    """Return what the envelope holds. Raises Refused where that cannot be a task."""
    if _of_sns(content):
        message, attributes = content["Message"], content.get("MessageAttributes")
        if isinstance(attributes, dict) and _SLEEPER in attributes:
            problem = (
                f"the {_SLEEPER} is inside an SNS notification: switch raw message delivery on for the subscription"
            )
            raise Refused(RefusalCode.INVALID_TASK, problem, field="MessageAttributes")
        try:
            return decode(message)
        except Refused as fault:
            problem = f"the Message of an SNS notification is no task ({fault.message})"
            raise Refused(RefusalCode.INVALID_TASK, problem, field="Message") from None
    source = content["source"]
    if isinstance(source, str) and source.startswith("aws."):
        raise Refused(RefusalCode.INVALID_TASK, foreign(content) or "")
    detail = content["detail"]
    # A rule's input transformer may hand on a text.
    return decode(detail) if isinstance(detail, str) else detail


def foreign(content: Mapping[str, Any]) -> str | None:
    """Say in one line which event ``content`` is and what to do; None where it is none that is known."""
    what = event_in(content)
    return None if what is None else f"this is {what}, which holds no task: send a task, or take the source away"


def event_in(content: Mapping[str, Any]) -> str | None:
    """Name the event that ``content`` is, in a few words; None where it is none that is known."""
    keys = content.keys()
    if _of_sns(content):
        return "an SNS notification whose Message is no task"
    if "SubscribeURL" in keys and "Token" in keys:
        return f"an SNS {_word(content.get('Type'))} (confirm the subscription at the topic)"
    if content.get("Event") == "s3:TestEvent":
        return "the test event that S3 sends when notifications are switched on"
    if isinstance(records := content.get("Records"), list) and records and isinstance(records[0], dict):
        source = records[0].get("eventSource") or records[0].get("EventSource")
        return "an S3 event notification" if source == "aws:s3" else f"an event of {_word(source)}"
    if _of_bridge(content):
        return f"an EventBridge event of {_word(content['source'])} ({_word(content['detail-type'])})"
    if "requestPayload" in keys and ("responsePayload" in keys or "responseContext" in keys):
        return "the record that a Lambda function's destination receives"
    if "specversion" in keys and "source" in keys:
        return "a CloudEvent (send its data alone)"
    if "AlarmName" in keys and "NewStateValue" in keys:
        return "a CloudWatch alarm"
    if "requestContext" in keys:
        return "a request of API Gateway or of a function's URL"
    if keys == {"task", "error"}:
        return "a dead letter of lowtide (send the task in it, or give its id to `lowtide dead redrive`)"
    if keys and all(name.startswith("key") and name[3:].isdecimal() for name in keys):
        return "the test event of the Lambda console"
    return None


def no_records(event: Any) -> str:
    """Say why a function that a queue invokes can do nothing with ``event``."""
    what = "the test event of the Lambda console" if isinstance(event, dict) and "key1" in event else kind(event)
    return (
        f"this function takes events of SQS, and was invoked with {what}, which has no Records: "
        "to try it, send a task to the intake queue"
    )


def _of_sns(content: Mapping[str, Any]) -> bool:
    return content.get("Type") == "Notification" and isinstance(content.get("Message"), str) and "TopicArn" in content


def _of_bridge(content: Mapping[str, Any]) -> bool:
    return "detail-type" in content and "detail" in content and "source" in content


def _word(value: Any) -> str:
    """Return a name that a service gave, cut short, or its kind where it is no printable text."""
    if isinstance(value, str) and value.isprintable() and value:
        return value[:_SHOWN_CHARACTERS]
    return kind(value)
