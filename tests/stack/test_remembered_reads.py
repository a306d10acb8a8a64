"""A read that is remembered says what moto would say now."""

from __future__ import annotations

from contextlib import suppress

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import backends, mock_aws
from moto.core import responses
from moto.core.utils import method_names_from_class
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.responses import DynamoHandler

from lowtide_local.stack.remembered import looked_up_once, reads_remembered
from lowtide_local.stack.roles import Grant, Roles

A, B, C = ({"pk": {"S": name}} for name in "abc")
REGION = "eu-central-1"


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        client = boto3.client("dynamodb", region_name=REGION)
        client.create_table(
            TableName="t",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        client.put_item(TableName="t", Item=A | {"n": {"N": "1"}})
        with reads_remembered():
            yield client


@pytest.fixture
def bucket(table):
    client = boto3.client("s3", region_name=REGION)
    client.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_object(Bucket="kept", Key="k", Body=b"one")
    return client


def of_table(client):
    """Every kind of read."""
    return [
        client.scan(TableName="t")["Items"],
        client.get_item(TableName="t", Key=A).get("Item"),
        client.batch_get_item(RequestItems={"t": {"Keys": [A, B]}})["Responses"],
        client.query(TableName="t", KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": "a"}})[
            "Items"
        ],
    ]


def of_bucket(client):
    listed = [(each["Key"], each["ETag"]) for each in client.list_objects_v2(Bucket="kept").get("Contents", [])]
    return [(key, etag, client.get_object(Bucket="kept", Key=key)["Body"].read()) for key, etag in listed]


TABLE_WRITES = {
    "put": lambda client: client.put_item(TableName="t", Item=A | {"n": {"N": "2"}}),
    "update": lambda client: client.update_item(
        TableName="t", Key=A, UpdateExpression="SET n = :n", ExpressionAttributeValues={":n": {"N": "2"}}
    ),
    "delete": lambda client: client.delete_item(TableName="t", Key=A),
    "batch": lambda client: client.batch_write_item(
        RequestItems={"t": [{"PutRequest": {"Item": B}}, {"DeleteRequest": {"Key": A}}]}
    ),
    "transaction": lambda client: client.transact_write_items(
        TransactItems=[{"Put": {"TableName": "t", "Item": B}}, {"Delete": {"TableName": "t", "Key": A}}]
    ),
}


@pytest.mark.parametrize("write", TABLE_WRITES)
def test_after_a_write_the_table_is_asked_again(table, write):
    before = of_table(table)
    assert of_table(table) == before
    TABLE_WRITES[write](table)
    after = of_table(table)
    assert after != before
    table.delete_item(TableName="t", Key=C)  # nothing, but all is forgotten
    assert of_table(table) == after


def test_a_write_that_fails_changes_nothing(table):
    before = of_table(table)
    with suppress(ClientError):
        table.put_item(TableName="t", Item=A, ConditionExpression="attribute_not_exists(pk)")
    assert of_table(table) == before


def upload_in_parts(client):
    upload = client.create_multipart_upload(Bucket="kept", Key="k")["UploadId"]
    named = {"Bucket": "kept", "Key": "k", "UploadId": upload}
    etag = client.upload_part(**named, PartNumber=1, Body=b"two")["ETag"]
    client.complete_multipart_upload(**named, MultipartUpload={"Parts": [{"ETag": etag, "PartNumber": 1}]})


BUCKET_WRITES = {
    "put": lambda client: client.put_object(Bucket="kept", Key="k", Body=b"two"),
    "put another": lambda client: client.put_object(Bucket="kept", Key="l", Body=b"two"),
    "delete": lambda client: client.delete_objects(Bucket="kept", Delete={"Objects": [{"Key": "k"}]}),
    "in parts": upload_in_parts,
}


@pytest.mark.parametrize("write", BUCKET_WRITES)
def test_after_a_write_the_bucket_is_asked_again(bucket, write):
    before = of_bucket(bucket)
    assert of_bucket(bucket) == before
    BUCKET_WRITES[write](bucket)
    assert of_bucket(bucket) != before


def test_a_part_of_an_object_is_another_question_than_all_of_it(bucket):
    whole = [bucket.get_object(Bucket="kept", Key="k")["Body"].read() for _ in range(2)]
    part = [bucket.get_object(Bucket="kept", Key="k", Range="bytes=1-")["Body"].read() for _ in range(2)]
    assert (whole, part) == ([b"one"] * 2, [b"ne"] * 2)


def test_what_is_not_there_is_asked_for_each_time(bucket):
    for _ in range(2):
        with pytest.raises(bucket.exceptions.NoSuchKey):
            bucket.get_object(Bucket="kept", Key="later")
    bucket.put_object(Bucket="kept", Key="later", Body=b"here")
    assert bucket.get_object(Bucket="kept", Key="later")["Body"].read() == b"here"


def test_a_caller_that_changes_its_answer_changes_nobody_elses(table):
    table.scan(TableName="t")["Items"].clear()
    assert len(table.scan(TableName="t")["Items"]) == 1


def test_the_same_question_is_put_to_moto_once(table, monkeypatch):
    asked, scan = [], DynamoDBBackend.scan
    monkeypatch.setattr(DynamoDBBackend, "scan", lambda *given, **named: asked.append(1) or scan(*given, **named))
    for _ in range(3):
        table.scan(TableName="t")
    assert len(asked) == 1


def test_what_is_remembered_is_refused_to_a_role_that_may_not_ask_for_it(table):
    roles = Roles({"reader": [Grant("reader", "", "dynamodb:GetItem", "*")], "other": []})
    with roles.in_force():
        with roles.acting("reader"):
            table.get_item(TableName="t", Key=A)
        with roles.acting("other"), pytest.raises(ClientError, match="AccessDenied"):
            table.get_item(TableName="t", Key=A)


def test_what_moto_looks_up_once_is_what_it_would_look_up_each_time():
    usual = backends.get_backend
    with looked_up_once():
        for service in ("sqs", "dynamodb", "s3", "ssm", "secretsmanager", "events", "cloudformation"):
            assert backends.get_backend(service) is backends.get_backend(service) is usual(service)
        for _ in range(2):
            assert responses.method_names_from_class(DynamoHandler) == method_names_from_class(DynamoHandler)
