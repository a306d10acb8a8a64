"""The deployment on a fake AWS: the data plane of template.yaml on moto, and its real handlers invoked as AWS would.

Event sources deliver batches of messages in real event shapes and honour ``batchItemFailures``; schedules fire when
they are due. Time stands still but for what is slept, so that a day passes in seconds.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx2
import orjson
import time_machine
from moto import mock_aws

from lowtide import wiring
from lowtide.adapters.clock import WallClock
from lowtide.ports import Metrics
from lowtide_local.engine.clock import VirtualLoop
from lowtide_local.engine.metrics import RecordedMetrics

from .template import Function, QueueSource, Template, load, transform

REGION = "eu-central-1"
DEPLOYMENT = "lowtide-on-moto"
STACK = "lowtide"

_SENT_SYSTEM_ATTRIBUTES = ["All"]


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler reads of its Lambda context. It has its whole timeout before it."""

    function_name: str
    timeout_s: int
    aws_request_id: str = "00000000-0000-0000-0000-000000000000"
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:lowtide"
    memory_limit_in_mb: int = 1024

    def get_remaining_time_in_millis(self) -> int:
        return self.timeout_s * 1000


@dataclass
class Stack:
    """The running deployment. ``invocations`` counts what was invoked, by function."""

    template: Template
    physical: Mapping[str, str]
    travel: time_machine.Traveller
    metrics: RecordedMetrics
    sqs: Any
    invocations: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, BaseException]] = field(default_factory=list)
    _due: dict[str, datetime] = field(default_factory=dict)

    def now(self) -> datetime:
        return WallClock().now()

    def send(self, body: str, group: str = "default") -> None:
        """A publisher's message on the intake queue."""
        self.sqs.send_message(QueueUrl=self.physical["IntakeQueue"], MessageBody=body, MessageGroupId=group)

    def settle(self, *, hours: float = 30, idle_s: float = 60) -> None:
        """Runs sources and schedules until nothing is on a queue, in a part or in a batch. Raises TimeoutError."""
        end = self.now() + timedelta(hours=hours)
        while not self._quiet():
            if self.now() > end:
                raise TimeoutError(f"the stack is not done after {hours} simulated hours")
            if not self.turn():
                self.travel.shift(idle_s)

    def turn(self) -> bool:
        """Every source once, and every schedule that is due. Whether any message was delivered."""
        delivered = False
        for function in self.template.functions.values():
            for source in function.sources:
                delivered |= self._deliver(function, source)
            if function.schedules_s and self.now() >= self._due.get(function.name, self.now()):
                self._due[function.name] = self.now() + timedelta(seconds=min(function.schedules_s))
                self.invoke(function.name, scheduled_event())
        return delivered

    def invoke(self, name: str, event: dict[str, Any]) -> Any:
        """The handler's answer. Raises what it raises."""
        function = self.template.functions[name]
        module, _, attribute = function.handler.rpartition(".")
        self.invocations[name] = self.invocations.get(name, 0) + 1
        with _environment(self.template.environment(name, self.physical)):
            return getattr(importlib.import_module(module), attribute)(event, Context(name, function.timeout_s))

    def _deliver(self, function: Function, source: QueueSource) -> bool:
        url = self.physical[source.queue]
        messages = []
        while len(messages) < source.batch_size:
            received = self.sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=min(10, source.batch_size - len(messages)),
                WaitTimeSeconds=0,
                AttributeNames=_SENT_SYSTEM_ATTRIBUTES,
                MessageAttributeNames=["All"],
            ).get("Messages", [])
            if not received:
                break
            messages += received
        if not messages:
            return False
        try:
            answer = self.invoke(function.name, {"Records": [_record(message, url) for message in messages]})
        except Exception as error:  # noqa: BLE001 - as the event source: the whole batch comes again
            self.failures.append((function.name, error))
            return True
        failed = {item["itemIdentifier"] for item in (answer or {}).get("batchItemFailures", [])}
        if not source.partial_failures and failed:
            raise AssertionError(f"{function.name} reports item failures, and its event source does not read them")
        for message in messages:
            if message["MessageId"] not in failed:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return True

    def _quiet(self) -> bool:
        names = ("IntakeQueue", "CriticalQueue", "HighQueue", "NormalQueue", "LowQueue")
        kinds = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        for name in names:
            counted = self.sqs.get_queue_attributes(QueueUrl=self.physical[name], AttributeNames=list(kinds))
            if any(int(counted["Attributes"][kind]) for kind in kinds):
                return False
        system = self.system()
        return not system.parts.active() and not system.batches.active()

    def system(self) -> Any:
        """The ports as the poller has them: for looking at what the handlers left."""
        with _environment(self.template.environment("Poller", self.physical)):
            return wiring.system(wiring.Settings.from_environment())


@contextmanager
def deployed(
    template: Path,
    *,
    start: datetime,
    http_client: httpx2.AsyncClient,
    parameters: Mapping[str, str] | None = None,
    metrics: Metrics | None = None,
) -> Iterator[Stack]:
    """template.yaml on moto, with ``http_client`` as the way to the provider."""
    recorded = RecordedMetrics() if metrics is None else metrics
    with (
        _environment(
            {
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "POWERTOOLS_TRACE_DISABLED": "true",
            }
        ),
        mock_aws(),
        time_machine.travel(start, tick=False) as travel,
        wiring.rehearsal(
            wiring.Outside(
                http_client=http_client,
                metrics=recorded,
                offload=_in_place,
                new_loop=lambda: VirtualLoop(on_advance=travel.shift),
                threads=1,
            )
        ),
    ):
        secret = boto3.client("secretsmanager").create_secret(Name="provider", SecretString="simulated")  # noqa: S106
        loaded = load(template, {"ProviderSecretArn": secret["ARN"], "Deployment": DEPLOYMENT, **(parameters or {})})
        physical = _create(loaded)
        yield Stack(loaded, physical, travel, recorded, boto3.client("sqs"))
