"""moto as strict as SQS: what the tests of the stack stand on. Each rule is shown by what plain boto3 is answered."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.contract.aws import Stand, stand

MIB = 1_048_576
NUMBERS = count()


def entry(body: str = "{}", number: int = 0, **given: Any) -> dict[str, Any]:
    return {"Id": str(number), "MessageBody": body, **given}


def attribute(value: str, name: str = "type") -> dict[str, Any]:
    return {"MessageAttributes": {name: {"DataType": "String", "StringValue": value}}}


BAD = [
    pytest.param(entry("\x00"), "InvalidMessageContents", id="NUL"),
    pytest.param(entry("\x1b"), "InvalidMessageContents", id="escape"),
    pytest.param(entry("\ufffe"), "InvalidMessageContents", id="U+FFFE"),
    pytest.param(entry(**attribute("\x07")), "InvalidParameterValue", id="bell in an attribute"),
    pytest.param(entry(**attribute("\uffff")), "InvalidParameterValue", id="U+FFFF in an attribute"),
    pytest.param(entry(**attribute("")), "InvalidParameterValue", id="empty attribute"),
    pytest.param(entry(**attribute("1", "two words")), "InvalidParameterValue", id="space in a name"),
    pytest.param(entry(**attribute("1", "AWS.type")), "InvalidParameterValue", id="reserved name"),
    pytest.param(entry(**attribute("1", "type.")), "InvalidParameterValue", id="name that ends in a dot"),
    pytest.param(entry(MessageGroupId="two words"), "InvalidParameterValue", id="space in a group"),
    pytest.param(entry(MessageGroupId="größe"), "InvalidParameterValue", id="umlaut in a group"),
    pytest.param(entry(MessageGroupId="x" * 129), "InvalidParameterValue", id="long group"),
    pytest.param(
        entry("a" * (MIB - 7), **attribute("1", "n")), "InvalidParameterValue", id="a byte too many, with its attribute"
    ),
]


@pytest.fixture(scope="module")
def aws() -> Iterator[Stand]:
    """One for all of them; each has a queue of its own."""
    with stand() as made:
        yield made


@pytest.fixture
def url(aws) -> str:
    return aws.queue_url(f"queue-{next(NUMBERS)}")


@pytest.mark.parametrize(("bad", "code"), BAD)
def test_one_message_that_sqs_refuses_is_refused_with_its_code(aws, url, bad, code):
    given = {name: value for name, value in bad.items() if name != "Id"}
    with pytest.raises(ClientError) as refused:
        aws.sqs.send_message(QueueUrl=url, **given)
    assert refused.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(("bad", "code"), BAD[:-1])
def test_in_a_batch_only_the_entry_at_fault_fails(aws, url, bad, code):
    answer = aws.sqs.send_message_batch(QueueUrl=url, Entries=[entry(number=1), bad, entry(number=2)])
    assert [sent["Id"] for sent in answer["Successful"]] == ["1", "2"]
    [failed] = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("0", code, True)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([entry(number=n) for n in range(11)], id="eleven entries"),
        pytest.param([entry(number=1), entry(number=1)], id="one id twice"),
        pytest.param([entry() | {"Id": "a b"}], id="space in an id"),
        pytest.param([entry("é" * (MIB // 4 + 1), n) for n in range(2)], id="two of half a mebibyte in bytes"),
        pytest.param([], id="none"),
    ],
)
def test_a_call_that_sqs_refuses_sends_nothing(aws, url, entries):
    with pytest.raises(ClientError):
        aws.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert "Messages" not in aws.sqs.receive_message(QueueUrl=url)


def test_a_delay_beyond_a_quarter_of_an_hour_fails(aws, url):
    answer = aws.sqs.send_message_batch(QueueUrl=url, Entries=[entry(DelaySeconds=901)])
    assert [failed["Code"] for failed in answer["Failed"]] == ["InvalidParameterValue"]
