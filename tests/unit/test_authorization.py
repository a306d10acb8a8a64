"""lowtide_local.stack.authorization and .roles: what IAM asks of a call, and what a policy allows."""

from __future__ import annotations

import pytest

from lowtide_local.stack.authorization import Need, UnknownCall, needs
from lowtide_local.stack.intrinsics import Evaluator
from lowtide_local.stack.roles import grants

REGION = "eu-central-1"
TABLE = f"arn:aws:dynamodb:{REGION}:123456789012:table/t"
QUEUE = f"arn:aws:sqs:{REGION}:123456789012:q"
URL = f"https://sqs.{REGION}.amazonaws.com/123456789012/q"


def row(key):
    return {"pk": {"S": key}, "sk": {"S": "0"}}


def keyed(action, *keys):
    return Need(action, TABLE, frozenset(keys))


@pytest.mark.parametrize(
    ("service", "operation", "request_", "asked"),
    [
        ("sqs", "SendMessageBatch", {"QueueUrl": URL}, [Need("sqs:SendMessage", QUEUE)]),
        ("sqs", "DeleteMessageBatch", {"QueueUrl": URL}, [Need("sqs:DeleteMessage", QUEUE)]),
        ("sqs", "ChangeMessageVisibilityBatch", {"QueueUrl": URL}, [Need("sqs:ChangeMessageVisibility", QUEUE)]),
        ("dynamodb", "PutItem", {"TableName": "t", "Item": row("a")}, [keyed("dynamodb:PutItem", "a")]),
        ("dynamodb", "Query", {"TableName": "t", "IndexName": "dead"}, [Need("dynamodb:Query", f"{TABLE}/index/dead")]),
        ("dynamodb", "Query", {"TableName": "t"}, [Need("dynamodb:Query", TABLE)]),
        (
            "dynamodb",
            "BatchGetItem",
            {"RequestItems": {"t": {"Keys": [row("a"), row("b")]}}},
            [keyed("dynamodb:BatchGetItem", "a", "b")],
        ),
        (
            "dynamodb",
            "BatchWriteItem",
            {"RequestItems": {"t": [{"PutRequest": {"Item": row("a")}}, {"DeleteRequest": {"Key": row("b")}}]}},
            [keyed("dynamodb:BatchWriteItem", "a", "b")],
        ),
        (
            "dynamodb",
            "TransactWriteItems",
            {
                "TransactItems": [
                    {"Put": {"TableName": "t", "Item": row("a")}},
                    {"ConditionCheck": {"TableName": "t", "Key": row("b")}},
                    {"Delete": {"TableName": "t", "Key": row("c")}},
                ]
            },
            [
                keyed("dynamodb:PutItem", "a"),
                keyed("dynamodb:ConditionCheckItem", "b"),
                keyed("dynamodb:DeleteItem", "c"),
            ],
        ),
        ("s3", "HeadObject", {"Bucket": "b", "Key": "k"}, [Need("s3:GetObject", "arn:aws:s3:::b/k")]),
        ("s3", "UploadPart", {"Bucket": "b", "Key": "k"}, [Need("s3:PutObject", "arn:aws:s3:::b/k")]),
        ("s3", "CompleteMultipartUpload", {"Bucket": "b", "Key": "k"}, [Need("s3:PutObject", "arn:aws:s3:::b/k")]),
        ("s3", "ListObjectsV2", {"Bucket": "b", "Prefix": "k"}, [Need("s3:ListBucket", "arn:aws:s3:::b")]),
        (
            "s3",
            "DeleteObjects",
            {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}, {"Key": "l"}]}},
            [Need("s3:DeleteObject", "arn:aws:s3:::b/k"), Need("s3:DeleteObject", "arn:aws:s3:::b/l")],
        ),
        (
            "ssm",
            "GetParameter",
            {"Name": "/lowtide/routes:3"},
            [Need("ssm:GetParameter", f"arn:aws:ssm:{REGION}:123456789012:parameter/lowtide/routes")],
        ),
        ("stepfunctions", "SendTaskSuccess", {"taskToken": "x"}, [Need("states:SendTaskSuccess", None)]),
    ],
)
def test_a_call_asks_for_its_actions_on_its_resources(service, operation, request_, asked):
    assert needs(service, operation, request_, REGION) == asked


@pytest.mark.parametrize(
    ("service", "operation"), [("sqs", "PurgeQueue"), ("s3", "CopyObject"), ("kms", "Decrypt"), ("dynamodb", "Export")]
)
def test_a_call_that_is_not_listed_is_told_and_not_let_pass(service, operation):
    with pytest.raises(UnknownCall, match=operation):
        needs(service, operation, {"QueueUrl": URL, "Bucket": "b", "Key": "k"}, REGION)


def granted(action, resource, **more):
    statement = {"Sid": "S", "Effect": "Allow", "Action": action, "Resource": resource} | more
    [grant] = grants("R", {"Statement": [statement]}, Evaluator({}, {}))
    return grant


def only(*patterns):
    return {"Condition": {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(patterns)}}}


@pytest.mark.parametrize(
    ("resource", "asked", "allowed"),
    [
        ("arn:aws:s3:::b/parts/*", "arn:aws:s3:::b/parts/1.jsonl", True),
        ("arn:aws:s3:::b/parts/*", "arn:aws:s3:::b/results/parts/1", False),
        ("arn:aws:s3:::b/parts/*", "arn:aws:s3:::bad/parts/1", False),
        ("arn:aws:s3:::b.c/*", "arn:aws:s3:::bxc/k", False),
        ("arn:aws:s3:::b", "arn:aws:s3:::b/k", False),
        (TABLE, f"{TABLE}/index/dead", False),
        (f"{TABLE}/index/active", f"{TABLE}/index/dead", False),
        ("*", "arn:aws:s3:::b/k", True),
        ("arn:aws:s3:::b/?", "arn:aws:s3:::b/kk", False),
    ],
)
def test_a_right_reaches_what_its_pattern_matches(resource, asked, allowed):
    assert granted("s3:GetObject", resource).allows(Need("s3:GetObject", asked)) is allowed
    assert not granted("s3:GetObject", resource).allows(Need("s3:PutObject", asked))


@pytest.mark.parametrize(
    ("keys", "allowed"), [({"level#HIGH"}, True), ({"level#HIGH", "task#a"}, False), ({"xlevel#"}, False)]
)
def test_a_right_to_some_rows_reaches_a_request_of_those_alone(keys, allowed):
    grant = granted("dynamodb:PutItem", TABLE, **only("level#*", "ledger#*"))
    assert grant.allows(Need("dynamodb:PutItem", TABLE, frozenset(keys))) is allowed


@pytest.mark.parametrize(
    "more",
    [
        {"Effect": "Deny"},
        {"Condition": {"StringEquals": {"aws:SourceVpc": "v"}}},
        only("a#*") | {"Condition": {**only("a#*")["Condition"], "Bool": {"aws:SecureTransport": "true"}}},
    ],
)
def test_a_statement_that_cannot_be_judged_is_told(more):
    with pytest.raises(ValueError, match="S"):
        granted("dynamodb:PutItem", TABLE, **more)
