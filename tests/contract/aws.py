"""The AWS adapters on moto, for the contract tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from unittest.mock import patch

import boto3
import time_machine
from moto import mock_aws
from moto.dynamodb.models import DynamoDBBackend

from lowtide.adapters.aws.dead_tasks import DynamoDeadTasks
from lowtide.adapters.aws.ledger import DynamoLedger
from lowtide.adapters.aws.objects import S3Objects
from lowtide.adapters.aws.queue import SqsQueue
from lowtide.adapters.aws.rows import BATCHES, HOLDS, PACES, PARTS, TASKS, DynamoRows
from lowtide.adapters.aws.table import Table
from lowtide.ports import Message
from lowtide_local.stack.strict_sqs import strict_sqs

REGION = "eu-central-1"
TABLE = "lowtide"
BUCKET = "lowtide-bucket"

START = datetime(2026, 3, 2, 10, tzinfo=UTC)

THREADS = 1
"""moto's queues bear one call at a time."""


class Stand(NamedTuple):
    """Clients on an empty account with one table and one bucket."""

    sqs: Any
    s3: Any
    dynamodb: Any
    ssm: Any
    secrets: Any

    def table(self, threads: int = THREADS) -> Table:
        return Table(self.dynamodb, TABLE, threads=threads)

    def queue_url(self, name: str = "queue") -> str:
        return self.sqs.create_queue(QueueName=name)["QueueUrl"]


@contextmanager
def one_write_at_a_time() -> Iterator[None]:
    """DynamoDB looks at an item's condition and writes it in one; moto does so only if nobody comes in between."""
    lock, usual = Lock(), DynamoDBBackend.put_item

    def put_item(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return usual(*args, **kwargs)

    with patch.object(DynamoDBBackend, "put_item", put_item):
        yield


@contextmanager
def stand() -> Iterator[Stand]:
    with mock_aws(), strict_sqs(), one_write_at_a_time():
        names = ("sqs", "s3", "dynamodb", "ssm", "secretsmanager")
        made = Stand(*(boto3.client(name, region_name=REGION) for name in names))
        made.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        create_table(made.dynamodb)
        yield made


def create_table(dynamodb: Any) -> None:
    """As docs/table.md and template.yaml have it."""
    dynamodb.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"}
            for name in (
                *("pk", "sk", "active_kind", "active_since", "dead_shard", "dead_since"),
                *("settled_shard", "settled_at"),
            )
        ],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "active",
                "KeySchema": [
                    {"AttributeName": "active_kind", "KeyType": "HASH"},
                    {"AttributeName": "active_since", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            },
            {
                "IndexName": "dead",
                "KeySchema": [
                    {"AttributeName": "dead_shard", "KeyType": "HASH"},
                    {"AttributeName": "dead_since", "KeyType": "RANGE"},
                ],
                "Projection": {
                    "ProjectionType": "INCLUDE",
                    "NonKeyAttributes": ["dead_tenant", "dead_type", "dead_code"],
                },
            },
            {
                "IndexName": "settled",
                "KeySchema": [
                    {"AttributeName": "settled_shard", "KeyType": "HASH"},
                    {"AttributeName": "settled_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            },
        ],
    )


class Store:
    """Every storage port on one stand. SQS's clock is the machine's, which stands still until it is advanced."""

    def __init__(self, stand: Stand, clock: time_machine.Coordinates) -> None:
        self._stand = stand
        self._clock = clock
        self.objects = S3Objects(stand.s3, BUCKET)
        self.tasks = DynamoRows(stand.table(), TASKS)
        self.parts = DynamoRows(stand.table(), PARTS)
        self.batches = DynamoRows(stand.table(), BATCHES)
        self.paces = DynamoRows(stand.table(), PACES)
        self.holds = DynamoRows(stand.table(), HOLDS)
        self.dead_tasks = DynamoDeadTasks(stand.table())
        self.ledger = DynamoLedger(stand.table())

    def queue(self, name: str) -> SqsQueue:
        return _LaterQueue(self._stand, name, self._clock)

    def advance(self, seconds: float) -> None:
        self._clock.shift(seconds)


class _LaterQueue(SqsQueue):
    """Received a millisecond after what went before: in moto a message is visible only after its moment."""

    def __init__(self, stand: Stand, name: str, clock: time_machine.Coordinates) -> None:
        super().__init__(stand.sqs, stand.queue_url(name), threads=THREADS)
        self._clock = clock

    def receive(self, limit: int, *, visibility_s: int) -> list[Message]:
        self._clock.shift(0.001)
        return super().receive(limit, visibility_s=visibility_s)


@contextmanager
def aws(directory: Path) -> Iterator[Store]:
    with time_machine.travel(START, tick=False) as clock, stand() as made:
        yield Store(made, clock)


FACTORIES: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {"aws": aws}
