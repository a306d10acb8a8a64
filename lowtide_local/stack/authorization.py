"""What IAM asks of a call: the actions and resources that the caller's policy has to allow.

Source: AWS's service authorization reference ("Actions, resources, and condition keys" of SQS, DynamoDB, S3, Secrets
Manager, Systems Manager, EventBridge, Step Functions, CloudWatch and CloudFormation), and the S3 user guide on
multipart uploads. An operation that is not listed here raises: a new call needs a line here and a right in the
template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .delivery import ACCOUNT

LISTING = "s3:ListBucket"
"""Without it, S3 answers 403 instead of 404 where an object is missing."""

_OBJECT_ACTIONS = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
}
_QUEUE_OPERATIONS = frozenset(
    {"SendMessage", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes"}
)
_TABLE_OPERATIONS = frozenset({"BatchGetItem", "BatchWriteItem", "GetItem", "PutItem", "UpdateItem", "DeleteItem"})


class UnknownCall(LookupError):
    """An operation without a line in this module."""


@dataclass(frozen=True, slots=True)
class Need:
    """One action on one resource. ``resource`` None: the request does not name it (a task token, a metric).

    ``partition_keys`` are those of the rows that it is about, where it says so: the condition key dynamodb:LeadingKeys.
    """

    action: str
    resource: str | None
    partition_keys: frozenset[str] = field(default=frozenset())


def needs(service: str, operation: str, request: Mapping[str, Any], region: str) -> list[Need]:
    """``service`` by its name in boto3, ``operation`` as the API calls it. Raises UnknownCall."""
    found = list(_needs(service, operation, request, region))
    if not found:
        raise UnknownCall(f"{service}:{operation} has no line in {__name__}: say what IAM asks for it")
    return found


def object_arn(bucket: str, key: str) -> str:
    return f"{bucket_arn(bucket)}/{key}"


def bucket_arn(bucket: str) -> str:
    return f"arn:aws:s3:::{bucket}"


def queue_arn(url: str, region: str) -> str:
    return f"arn:aws:sqs:{region}:{ACCOUNT}:{url.rpartition('/')[2]}"


def table_arn(name: str, region: str) -> str:
    return f"arn:aws:dynamodb:{region}:{ACCOUNT}:table/{name}"


def _needs(service: str, operation: str, request: Mapping[str, Any], region: str) -> Iterator[Need]:
    match service, operation.removesuffix("Batch"):
        case "sqs", plain if plain in _QUEUE_OPERATIONS:
            yield Need(f"sqs:{plain}", queue_arn(request["QueueUrl"], region))
        case "dynamodb", ("BatchGetItem" | "BatchWriteItem") as plain:
            for table, asked in request["RequestItems"].items():
                yield Need(f"dynamodb:{plain}", table_arn(table, region), _partition_keys(asked))
        case "dynamodb", plain if plain in _TABLE_OPERATIONS:
            row = request.get("Item") or request["Key"]
            yield Need(f"dynamodb:{plain}", table_arn(request["TableName"], region), frozenset({row["pk"]["S"]}))
        case "dynamodb", "TransactWriteItems":
            for entry in request["TransactItems"]:
                [(kind, asked)] = entry.items()
                row = asked.get("Item") or asked["Key"]
                action = "ConditionCheckItem" if kind == "ConditionCheck" else f"{kind}Item"
                yield Need(f"dynamodb:{action}", table_arn(asked["TableName"], region), frozenset({row["pk"]["S"]}))
        case "dynamodb", ("Query" | "Scan") as plain:
            index = f"/index/{request['IndexName']}" if "IndexName" in request else ""
            yield Need(f"dynamodb:{plain}", table_arn(request["TableName"], region) + index)
        case "s3", plain if plain in _OBJECT_ACTIONS:
            yield Need(_OBJECT_ACTIONS[plain], object_arn(request["Bucket"], request["Key"]))
        case "s3", "DeleteObjects":
            for doomed in request["Delete"]["Objects"]:
                yield Need("s3:DeleteObject", object_arn(request["Bucket"], doomed["Key"]))
        case "s3", "ListObjectsV2":
            yield Need(LISTING, bucket_arn(request["Bucket"]))
        case "secretsmanager", "GetSecretValue":
            yield Need("secretsmanager:GetSecretValue", request["SecretId"])
        case "ssm", ("GetParameter" | "PutParameter") as plain:
            name = request["Name"].partition(":")[0].removeprefix("/")  # NAME:VERSION is the same resource
            yield Need(f"ssm:{plain}", f"arn:aws:ssm:{region}:{ACCOUNT}:parameter/{name}")
        case "events", "PutEvents":
            for entry in request["Entries"]:
                yield Need("events:PutEvents", entry["EventBusName"])
        case "stepfunctions", ("SendTaskSuccess" | "SendTaskFailure") as plain:
            yield Need(f"states:{plain}", None)
        case "cloudwatch", "GetMetricData":
            yield Need("cloudwatch:GetMetricData", None)
        case "cloudformation", "DescribeStacks":
            yield Need("cloudformation:DescribeStacks", None)


def _partition_keys(asked: Any) -> frozenset[str]:
    """Return the partition keys in one table's part of a BatchGetItem or a BatchWriteItem."""
    if isinstance(asked, Mapping):
        return frozenset(key["pk"]["S"] for key in asked["Keys"])
    writes = [
        write["PutRequest"]["Item"] if "PutRequest" in write else write["DeleteRequest"]["Key"] for write in asked
    ]
    return frozenset(row["pk"]["S"] for row in writes)
