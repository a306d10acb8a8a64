"""The deployment on a fake AWS: the data plane of template.yaml on moto, and its real handlers invoked as AWS would.

Event sources deliver messages in real event shapes and honour ``batchItemFailures``; schedules fire when they are due;
functions run beside each other, within their timeouts. Time stands still but for what is waited for, so that a day
passes in seconds.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx2
import orjson
from moto import mock_aws

from lowtide import wiring
from lowtide.core.errors import LowtideError
from lowtide.ports import Metrics, System
from lowtide.settings import Settings
from lowtide_local.engine.engine import in_place

from .containers import Container, Invocation
from .delivery import scheduled_event
from .hands import Hands, standing_still
from .queues import MotoQueue
from .remembered import looked_up_once, reads_remembered
from .roles import Roles, roles_in
from .sources import EventSource, Schedule
from .strict_sqs import strict_sqs
from .template import Template, load, transform
from .view import StackView

REGION = "eu-central-1"
STACK = "lowtide"
DEFAULTS = {"Deployment": "lowtide-on-moto", "BaseUrl": "http://localhost/v1"}
"""Parameters unless others are given."""

WORK_QUEUES = ("IntakeQueue", "CriticalQueue", "HighQueue", "NormalQueue", "LowQueue")
BY_HAND = frozenset({"Reporter"})
"""It moves no work, and its many questions about metrics are slow on moto."""

_ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
}

Ended = Callable[[Invocation], None]


@dataclass(frozen=True, slots=True)
class Run:
    """An invocation that has ended, as Lambda's own metrics tell of it."""

    function: str
    began: datetime
    ended: datetime
    failed: bool


class NeverQuiet(LowtideError):
    """Something is still on a queue, in a part or in a batch after all the time that it was given."""


class Stack:
    """The running deployment. ``invoked`` counts invocations by function, ``runs`` are those that have ended,
    ``failures`` are (function, error) of those that raised or were killed."""

    def __init__(
        self,
        template: Template,
        physical: Mapping[str, str],
        hands: Hands,
        outside: wiring.Outside,
        by_hand: Collection[str],
        roles: Roles,
    ) -> None:
        self.template = template
        self.physical = physical
        self.roles = roles
        self.invoked: Counter[str] = Counter()
        self.runs: list[Run] = []
        self.failures: list[tuple[str, BaseException]] = []
        self._hands = hands
        self._outside = outside
        client = boto3.client("sqs")
        self.queues = {
            name: MotoQueue(client, physical[name], REGION) for name in template.visibilities_s if name in physical
        }
        self._sources: list[EventSource | Schedule] = []
        for function in (each for name, each in template.functions.items() if name not in by_hand):
            for source in function.sources:
                self._sources.append(EventSource(function, source, self.queues[source.queue], REGION))
            self._sources += [Schedule(function, period, hands, REGION) for period in function.schedules_s]
        self._under_way: list[tuple[Invocation, Ended]] = []
        self._containers: dict[str, list[Container]] = {name: [] for name in template.functions}

    @property
    def now(self) -> datetime:
        return self._hands.now

    def send(self, body: str | Mapping[str, Any], group: str = "default") -> str:
        """A publisher's message on the intake queue; its id."""
        text = body if isinstance(body, str) else orjson.dumps(body).decode()
        return self.queues["IntakeQueue"].send(text, group)

    def letters(self) -> list[tuple[dict[str, Any], dict[str, str]]]:
        """(dead letter, its attributes) of every message on the dead-letter queue."""
        return [(orjson.loads(body), attributes) for body, attributes in self.queues["DeadLetterQueue"].contents()]

    def system(self) -> System:
        """The ports as the poller has them: for looking at what the handlers left."""
        with self._container("Poller").running():
            return wiring.system(Settings.from_environment())

    def view(self) -> StackView:
        """What reports read."""
        return StackView(self.physical["Table"], self.system().ledger)

    def start(self, function: str, event: dict[str, Any] | None = None, ended: Ended = lambda _: None) -> Invocation:
        """An invocation that runs beside the others; without an event, as its schedule would. ``ended`` hears of its
        end."""
        self.invoked[function] += 1
        given = scheduled_event(function, self.now, REGION) if event is None else event
        invocation = Invocation(self._container(function), given)
        self._under_way.append((invocation, ended))
        return invocation

    def invoke(self, function: str, event: dict[str, Any] | None = None) -> Any:
        """The handler's answer, once it has ended. Raises what it raises."""
        invocation = self.start(function, event)
        while not invocation.ended:
            self._step(None)
        if invocation.error is not None:
            raise invocation.error
        return invocation.answer

    def kill(self, invocation: Invocation) -> None:
        """As if its machine had gone."""
        invocation.doom()
        self._wake(invocation)
        self._reap()

    def wait(self, seconds: float) -> None:
        self.wait_until(self.now + timedelta(seconds=seconds))

    def wait_until(self, moment: datetime) -> None:
        while self._step(moment):
            pass
        self._hands.turn_to(moment)

    def settle(self, *, hours: float = 30) -> None:
        """Until nothing is on a queue, in a part or in a batch. Raises NeverQuiet."""
        end = self.now + timedelta(hours=hours)
        while not self.quiet():
            if not self._step(end):
                depths = {name: self.queues[name].depth for name in WORK_QUEUES}
                raise NeverQuiet(f"not done after {hours} simulated hours: {depths}; failures: {self.failures[-3:]}")

    def quiet(self) -> bool:
        if self._under_way or any(self.queues[name].depth for name in WORK_QUEUES):
            return False
        system = self.system()
        return not system.parts.active() and not system.batches.active()

    def close(self) -> None:
        """Kills what is under way."""
        for invocation, _ in self._under_way:
            invocation.kill()
        for containers in self._containers.values():
            for container in containers:
                container.close()

    def _step(self, end: datetime | None) -> bool:
        """Turns the clock to the next moment at which something happens, and lets it. False where that is past
        ``end``."""
        moments = [due for source in self._sources if (due := source.due(self.now)) is not None]
        moments += [invocation.due for invocation, _ in self._under_way]
        moment = max(self.now, min(moments)) if moments else None
        if moment is None or (end is not None and moment > end):
            return False
        self._hands.turn_to(moment)
        for invocation, _ in sorted(self._under_way, key=lambda pair: pair[0].due):
            if invocation.due <= moment:
                self._wake(invocation)
        self._reap()
        for source in self._sources:
            due = source.due(moment)
            if due is not None and due <= moment:
                with self.roles.acting(source.function):
                    source.deliver(self.start)
        return True

    def _wake(self, invocation: Invocation) -> None:
        with self.roles.acting(invocation.container.function.name):
            invocation.wake()

    def _reap(self) -> None:
        ended = [pair for pair in self._under_way if pair[0].ended]
        self._under_way = [pair for pair in self._under_way if not pair[0].ended]
        for invocation, then in ended:
            invocation.container.invocation = None
            function = invocation.container.function.name
            self.runs.append(Run(function, invocation.began, self.now, invocation.error is not None))
            if invocation.error is not None:
                self.failures.append((function, invocation.error))
            with self.roles.acting(function):  # an event source deletes what was answered
                then(invocation)

    def _container(self, function: str) -> Container:
        """One that is free, and has not been killed; else a new one."""
        containers = self._containers[function]
        for container in containers:
            if container.free:
                return container
        environment = self.template.environment(function, self.physical)
        containers.append(Container(self.template.functions[function], environment, self._outside, self._hands))
        return containers[-1]


@contextmanager
def deployed(
    template: Path,
    *,
    start: datetime,
    http_client: httpx2.AsyncClient,
    parameters: Mapping[str, str] | None = None,
    metrics: Metrics | None = None,
    by_hand: Collection[str] = BY_HAND,
) -> Iterator[Stack]:
    """template.yaml on moto, with ``http_client`` as the way to the provider. Metrics go to ``metrics``, or to standard
    output as they do when deployed. No event source and no schedule invokes the functions ``by_hand``."""
    outside = wiring.Outside(
        http_client=http_client,
        metrics=metrics,
        offload=in_place,
        threads=1,
    )
    with ExitStack() as held:
        held.enter_context(_environment(_ENVIRONMENT))
        held.enter_context(mock_aws())
        held.enter_context(strict_sqs())
        held.enter_context(looked_up_once())
        hands = held.enter_context(standing_still(start))
        # The secret first: the template takes its ARN.
        secret = boto3.client("secretsmanager").create_secret(Name="provider", SecretString="simulated")
        loaded = load(template, {"ProviderSecretArn": secret["ARN"], **DEFAULTS, **(parameters or {})})
        physical = _create(loaded)
        roles = roles_in(loaded, physical, REGION)
        held.enter_context(reads_remembered())  # below the roles: each call is judged, remembered or not
        held.enter_context(roles.in_force())
        stack = Stack(loaded, physical, hands, outside, by_hand, roles)
        held.callback(stack.close)
        yield stack


def _create(template: Template) -> dict[str, str]:
    """What ``Ref`` gives, by logical id."""
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(StackName=STACK, TemplateBody=orjson.dumps(transform(template)).decode())
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=STACK)
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
