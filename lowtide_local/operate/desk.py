"""An operator's desk: the ports of a deployment, reached with the operator's own credentials.

The same adapters as the deployed functions have, without a provider: no order needs its key. What a batch is to be
told, the poller tells it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
)
from botocore.parsers import ResponseParserError

from lowtide.adapters.aws.callbacks import NoCallbacks, StateMachines
from lowtide.adapters.aws.dead_tasks import DynamoDeadTasks
from lowtide.adapters.aws.events import BusEvents, NoEvents
from lowtide.adapters.aws.ledger import DynamoLedger
from lowtide.adapters.aws.levels import QueueLevels
from lowtide.adapters.aws.objects import S3Objects
from lowtide.adapters.aws.parameter import RoutesParameter
from lowtide.adapters.aws.queue import SqsQueue
from lowtide.adapters.aws.replies import SqsReplies
from lowtide.adapters.aws.rows import BATCHES, HOLDS, PACES, PARTS, TASKS, DynamoRows
from lowtide.adapters.aws.settled_index import SettledIndex
from lowtide.adapters.aws.table import Table
from lowtide.adapters.clock import WallClock
from lowtide.adapters.shipped import routes_text, shipped_prices, shipped_routes
from lowtide.core.loopback import is_loopback
from lowtide.core.routes import Routes
from lowtide.ports import Clock, DeadTasks, Metrics, System
from lowtide.settings import Settings
from lowtide_local.cli.stop import Stop, usage
from lowtide_local.engine.engine import in_place
from lowtide_local.engine.metrics import RecordedMetrics

from .deployment import find

THREADS = 8
"""AWS calls at once."""


@dataclass(frozen=True, slots=True)
class Desk:
    """``metrics`` hold what the steps had to say in this command; a deployment's own metrics are its functions'.
    ``table`` and ``bucket`` are names, for a person who looks there."""

    system: System
    dead_tasks: DeadTasks
    settled: SettledIndex
    metrics: RecordedMetrics
    table: str
    bucket: str


@contextmanager
def opened(stack: str | None, endpoint_url: str | None) -> Iterator[Desk]:
    """The desk of the deployment that is called so. What AWS refuses inside becomes one clear line: raises Stop."""
    try:
        yield _at(stack, endpoint_url)
    except NoRegionError:
        raise usage("no region: set AWS_REGION") from None
    except NoCredentialsError:
        raise usage("no AWS credentials: sign in, or set AWS_PROFILE") from None
    except ClientError as error:
        refusal = error.response["Error"]
        raise Stop(f"AWS refused {error.operation_name}: {refusal['Code']}: {refusal.get('Message')}") from None
    except InvalidRegionError:
        raise usage("AWS_REGION is no name of a region; give one such as eu-central-1") from None
    except HTTPClientError as error:
        if "header" in str(error):  # whose value, a credential, is in the error's text
            raise usage("the AWS credentials hold characters that no header can carry; copy them again") from None
        raise Stop(f"AWS: {error}") from None
    except BotoCoreError as error:
        raise Stop(f"AWS: {error}") from None
    except ResponseParserError:
        raise Stop(f"{endpoint_url or 'the server'} answers, but not as AWS does; is --endpoint-url right?") from None


def _at(stack: str | None, endpoint_url: str | None) -> Desk:
    # boto3 itself reads AWS_DEFAULT_REGION alone; AWS's other SDKs and its functions have AWS_REGION.
    session: Any = boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=2,
        read_timeout=10,
        max_pool_connections=THREADS + 4,
        # A proxy of the environment is for the way out.
        proxies={} if is_loopback(_host(endpoint_url)) else None,
    )

    # A refused connection is tried again by `find`, and told after five seconds.
    impatient = config.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))

    def client(service: str, config: Config = config) -> Any:
        try:
            _ = urlsplit(endpoint_url or "").port  # raises where there can be no such port
            return session.client(service, endpoint_url=endpoint_url, config=config)
        except InvalidRegionError:
            raise
        except ValueError as error:
            raise usage(f"--endpoint-url: {error}") from None

    settings = find(stack, lambda: client("cloudformation", impatient))
    metrics = RecordedMetrics()
    clock = WallClock()
    table = Table(client("dynamodb"), settings.table, threads=THREADS)
    sqs = client("sqs")

    def queue(url: str) -> SqsQueue:
        return SqsQueue(sqs, url, threads=THREADS)

    objects = S3Objects(client("s3"), settings.bucket)
    routes = _routes(settings, client, objects, clock, metrics)
    tiers = {tier: queue(url) for tier, url in settings.tier_urls().items()}
    system = System(
        deployment=settings.deployment,
        routes=routes,
        prices=shipped_prices(),
        clock=clock,
        intake=queue(settings.intake_url),
        tiers=tiers,
        levels=QueueLevels(tiers, table, clock),
        dead_letters=queue(settings.dead_letter_url),
        stranded=queue(settings.stranded_url),
        objects=objects,
        tasks=DynamoRows(table, TASKS),
        parts=DynamoRows(table, PARTS),
        batches=DynamoRows(table, BATCHES),
        holds=DynamoRows(table, HOLDS),
        paces=DynamoRows(table, PACES),
        ledger=DynamoLedger(table),
        answers={},
        batch_apis={},
        replies=SqsReplies(sqs, routes.limits.reply_to or frozenset(), metrics),
        events=NoEvents()
        if settings.event_bus is None
        else BusEvents(client("events"), settings.event_bus, metrics, threads=THREADS),
        callbacks=NoCallbacks(metrics)
        if settings.state_machine_arns is None
        else StateMachines(client("stepfunctions"), metrics, THREADS),
        metrics=metrics,
        offload=in_place,
    )
    return Desk(system, DynamoDeadTasks(table), SettledIndex(table), metrics, settings.table, settings.bucket)


def _host(url: str | None) -> str:
    try:
        return urlsplit(url or "").hostname or ""
    except ValueError:
        return ""


def _routes(settings: Settings, client: Any, objects: S3Objects, clock: Clock, metrics: Metrics) -> Routes:
    name = settings.routes_parameter
    if name is None:
        return shipped_routes().reached_at(settings.base_url)
    routes = RoutesParameter(client("ssm"), name, objects, routes_text(), clock, metrics).current()
    return routes.reached_at(settings.base_url)
