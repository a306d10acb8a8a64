"""The one place that builds clients and puts the parts together for Lambda.

A handler reads the settings, asks for the ``system`` and hands it to a step by ``run``. What is costly (clients, the
event loop) is built once per process; what a function does not use (the provider's client, its key) is never built.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

import boto3
from botocore.config import Config

from lowtide.adapters.aws.callbacks import NoCallbacks, StateMachines
from lowtide.adapters.aws.events import BusEvents, NoEvents
from lowtide.adapters.aws.history import CloudWatchHistory
from lowtide.adapters.aws.kept_text import in_place, on_its_own_thread
from lowtide.adapters.aws.ledger import DynamoLedger
from lowtide.adapters.aws.levels import QueueLevels
from lowtide.adapters.aws.metrics import EmfMetrics
from lowtide.adapters.aws.objects import S3Objects
from lowtide.adapters.aws.parameter import RoutesParameter
from lowtide.adapters.aws.queue import SqsQueue, message_of
from lowtide.adapters.aws.replies import SqsReplies
from lowtide.adapters.aws.rows import BATCHES, HOLDS, PACES, PARTS, TASKS, DynamoRows
from lowtide.adapters.aws.secrets import READ, KeyWatch, ProviderKeys
from lowtide.adapters.aws.table import Table
from lowtide.adapters.aws.webhook_ids import DynamoWebhookIds
from lowtide.adapters.clock import WallClock
from lowtide.adapters.library_logs import switch_off
from lowtide.adapters.shipped import own_prices, routes_text, shipped_prices, shipped_routes
from lowtide.core.envelopes import no_records
from lowtide.core.errors import ConfigError
from lowtide.core.prices import PriceTable
from lowtide.core.routes import OwnPrices, ProviderSpec, Routes
from lowtide.ports import AnswerApi, BatchApi, Callbacks, Clock, Events, Message, Metrics, Offload, System
from lowtide.settings import Settings, variable
from lowtide.steps.admit import Door
from lowtide.steps.counted_tasks import CountedTasks
from lowtide.steps.report import History

if TYPE_CHECKING:
    import httpx2

    from lowtide.adapters.openai.client import Client

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 16
"""AWS calls at once from one function; the connection pool has a few more, for calls beside them."""
OPENAI = "openai"
"""The provider whose address a deployment may set in the environment."""

_AWS = Config(
    retries={"mode": "standard", "total_max_attempts": 4},
    connect_timeout=2,
    read_timeout=10,  # seconds: ample for every call here, and well inside every function's timeout
    max_pool_connections=THREADS + 4,
    tcp_keepalive=True,
)


async def on_a_thread(work: Callable[[], T]) -> T:
    """A ports.Offload: storage calls block, and answers under way must not wait for them."""
    return await asyncio.to_thread(work)


@dataclass(frozen=True, slots=True)
class Outside:
    """What a process takes from outside. ``metrics`` None: EMF on standard output."""

    clock: Clock = field(default_factory=WallClock)
    http_client: httpx2.AsyncClient | None = None
    metrics: Metrics | None = None
    offload: Offload = on_a_thread
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    threads: int = THREADS


def system(settings: Settings, *, http_client: httpx2.AsyncClient | None = None, clock: Clock | None = None) -> System:
    """The system that these settings describe. The same settings again: the same clients, and the routes in force now.

    Raises ConfigError where the routes cannot be used.
    """
    outside = replace(
        _process.outside,
        clock=clock or _process.outside.clock,
        http_client=http_client or _process.outside.http_client,
    )
    return _process.wired_for(settings, outside).system()


def run(
    step: Callable[Concatenate[System, P], Coroutine[Any, Any, T]], system: System, *args: P.args, **kwargs: P.kwargs
) -> T:
    """One step, on the process's one event loop; its metrics are published however it ends."""
    try:
        return _process.loop().run_until_complete(step(system, *args, **kwargs))
    finally:
        _flush(system.metrics)


@contextmanager
def door(settings: Settings) -> Iterator[Door]:
    """What webhooks come in by; its metrics are published however it ends. Raises ConfigError where there is none."""
    opened = _process.wired_for(settings, _process.outside).door()
    try:
        yield opened
    finally:
        _flush(opened.metrics)


def messages(event: Mapping[str, Any]) -> list[Message]:
    """The messages of an SQS event, as an event source delivers it. Raises ConfigError for any other event."""
    records = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(records, list) or not all(isinstance(each, Mapping) and "body" in each for each in records):
        raise ConfigError(no_records(event))
    return [message_of(record) for record in records]


def history(settings: Settings) -> History:
    """What the deployment's metrics have been. A client per call: a run in five minutes is not worth keeping one."""
    return CloudWatchHistory(boto3.client("cloudwatch", config=_AWS), settings.deployment)


def heartbeat(system: System, function: str) -> None:
    """The last act of a good run of ``assembler``, ``poller``, …: an alarm fires where it stays away."""
    system.metrics.count("heartbeat", function=function)
    _flush(system.metrics)


@contextmanager
def rehearsal(outside: Outside) -> Iterator[None]:
    """For tests: within it, handlers get their clock, HTTP client, loop, … from ``outside``, and nothing that was built
    before. The loop is closed at the end, a given HTTP client is not. moto bears ``threads=1`` only."""
    before = _process.outside
    _process.start_over(outside)
    try:
        yield
    finally:
        _process.start_over(before)


def _flush(metrics: Metrics) -> None:
    if isinstance(metrics, EmfMetrics):
        metrics.flush()


class _Process:
    """What is kept between invocations."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self._wired: dict[tuple[Settings, int, int], _Wired] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def wired_for(self, settings: Settings, outside: Outside) -> _Wired:
        # One in Lambda; where tests run every function in one process, one each.
        key = (settings, id(outside.clock), id(outside.http_client))
        if key not in self._wired:
            self._wired[key] = _Wired(settings, outside)
        return self._wired[key]

    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = self.outside.new_loop()
        return self._loop

    def start_over(self, outside: Outside) -> None:
        for wired in self._wired.values():
            self.loop().run_until_complete(wired.close())
        if self._loop is not None:
            self._loop.close()
        self.outside, self._loop, self._wired = outside, None, {}


_process = _Process(Outside())


class _Wired:
    """The parts of one deployment, as far as they have been asked for."""

    def __init__(self, settings: Settings, outside: Outside) -> None:
        self.settings = settings
        self.outside = outside
        switch_off()
        self._aws = boto3.session.Session()
        self._providers: dict[tuple[str, ProviderSpec], _Provider] = {}
        self._tables: dict[str, PriceTable | None] = {}

    def system(self) -> System:
        settings, routes, table, sqs = self.settings, self._routes(), self._table, self._sqs
        return System(
            deployment=settings.deployment,
            routes=routes,
            prices=self._prices,
            clock=self.outside.clock,
            intake=self._queue(settings.intake_url),
            tiers={tier: self._queue(url) for tier, url in settings.tier_urls().items()},
            levels=self._levels,
            dead_letters=self._queue(settings.dead_letter_url),
            stranded=self._queue(settings.stranded_url),
            objects=self._objects,
            tasks=CountedTasks(DynamoRows(table, TASKS), self._metrics),
            parts=DynamoRows(table, PARTS, self._metrics),
            batches=DynamoRows(table, BATCHES, self._metrics),
            paces=DynamoRows(table, PACES),
            holds=DynamoRows(table, HOLDS),
            ledger=DynamoLedger(table),
            answers=_OnDemand({name: self._answers(name, spec) for name, spec in routes.providers.items()}),
            batch_apis=_OnDemand(
                {name: self._batch_api(name, spec) for name, spec in routes.providers.items() if spec.batch}
            ),
            replies=SqsReplies(sqs, routes.limits.reply_to or frozenset(), self._metrics),
            events=self._events,
            callbacks=self._callbacks,
            metrics=self._metrics,
            offload=self.outside.offload,
            own_prices=self._own_prices(routes),
        )

    def door(self) -> Door:
        if (url := self.settings.hints_url) is None:
            raise ConfigError(f"{variable('hints_url')} not set in the environment; webhooks need a queue for hints")
        return Door(
            secret=lambda: self._webhook_secrets.key(OPENAI),
            hints=self._queue(url),
            passed_on=DynamoWebhookIds(self._table),
            clock=self.outside.clock,
            metrics=self._metrics,
        )

    async def close(self) -> None:
        if self.outside.http_client is None:
            for provider in self._providers.values():
                await provider.client.aclose()

    def _routes(self) -> Routes:
        """What is in force, with the address that the deployment reaches OpenAI at: prices go by it too."""
        routes = self._parameter.current() if self._parameter is not None else self._shipped_routes
        return routes.reached_at(self.settings.base_url)

    @cached_property
    def _parameter(self) -> RoutesParameter | None:
        if (name := self.settings.routes_parameter) is None:
            return None
        client = self._aws.client("ssm", config=_AWS)
        return RoutesParameter(client, name, self._objects, routes_text(), self.outside.clock, self._metrics)

    @cached_property
    def _shipped_routes(self) -> Routes:
        return shipped_routes()

    @cached_property
    def _prices(self) -> PriceTable:
        return shipped_prices()

    def _own_prices(self, routes: Routes) -> Mapping[str, PriceTable]:
        """Price tables in files beside the code. A table that cannot be used leaves its provider without prices."""
        paths = {spec.prices.path for spec in routes.providers.values() if isinstance(spec.prices, OwnPrices)}
        for path in paths - self._tables.keys():
            try:
                self._tables[path] = own_prices(path)
            except ConfigError as error:
                self._metrics.log("prices_unread", reason=str(error))
                self._tables[path] = None
        return {path: table for path in paths if (table := self._tables[path]) is not None}

    @cached_property
    def _metrics(self) -> Metrics:
        return self.outside.metrics or EmfMetrics(self.settings.deployment)

    @cached_property
    def _sqs(self) -> Any:
        return self._aws.client("sqs", config=_AWS)

    def _queue(self, url: str) -> SqsQueue:
        return SqsQueue(self._sqs, url, threads=self.outside.threads)

    @cached_property
    def _levels(self) -> QueueLevels:
        tiers = {tier: self._queue(url) for tier, url in self.settings.tier_urls().items()}
        return QueueLevels(tiers, self._table, self.outside.clock)

    @cached_property
    def _objects(self) -> S3Objects:
        return S3Objects(self._aws.client("s3", config=_AWS), self.settings.bucket)

    @cached_property
    def _events(self) -> Events:
        if (bus := self.settings.event_bus) is None:
            return NoEvents()
        client = self._aws.client("events", config=_AWS)
        return BusEvents(client, bus, self._metrics, threads=self.outside.threads)

    @cached_property
    def _callbacks(self) -> Callbacks:
        if self.settings.state_machine_arns is None:
            return NoCallbacks(self._metrics)
        return StateMachines(self._aws.client("stepfunctions", config=_AWS), self._metrics, self.outside.threads)

    @cached_property
    def _table(self) -> Table:
        client = self._aws.client("dynamodb", config=_AWS)
        return Table(client, self.settings.table, threads=self.outside.threads)

    @cached_property
    def _keys(self) -> ProviderKeys:
        if (arn := self.settings.secret_arn) is None:
            raise ConfigError(
                f"{variable('secret_arn')} not set in the environment; a call to a provider needs its key"
            )
        return self._secret(arn)

    @cached_property
    def _webhook_secrets(self) -> ProviderKeys:
        if (arn := self.settings.webhook_secret_arn) is None:
            raise ConfigError(f"{variable('webhook_secret_arn')} not set in the environment; webhooks are signed")
        return self._secret(arn, newest=True)

    def _secret(self, arn: str, *, newest: bool = False) -> ProviderKeys:
        client = self._aws.client("secretsmanager", config=_AWS.merge(READ))
        begin = in_place if self.outside.threads == 1 else on_its_own_thread
        return ProviderKeys(client, arn, self.outside.clock, newest=newest, begin=begin)

    def _answers(self, name: str, spec: ProviderSpec) -> Callable[[], AnswerApi]:
        return lambda: self._provider(name, spec).answers

    def _batch_api(self, name: str, spec: ProviderSpec) -> Callable[[], BatchApi]:
        return lambda: self._provider(name, spec).batches

    def _provider(self, name: str, spec: ProviderSpec) -> _Provider:
        """Kept while its part of the routes stays as it is: one HTTP client a provider."""
        if (name, spec) not in self._providers:
            self._providers[name, spec] = self._build_provider(spec)
        return self._providers[name, spec]

    def _build_provider(self, spec: ProviderSpec) -> _Provider:
        # The HTTP client takes a quarter of a second of a cold start; functions that call no provider do without.
        from lowtide.adapters.openai.answers import OpenAIAnswers  # noqa: PLC0415
        from lowtide.adapters.openai.batches import OpenAIBatches  # noqa: PLC0415
        from lowtide.adapters.openai.client import build_client, is_openai  # noqa: PLC0415

        keys = self._keys

        async def key() -> str:
            return await keys.key_in_time(spec.key)

        client = build_client(base_url=spec.base_url, api_key=key, http_client=self.outside.http_client)
        answers = KeyWatch(OpenAIAnswers(client, sends_default_tier=is_openai(client)), keys)
        return _Provider(client, answers, OpenAIBatches(client, self.outside.clock))


@dataclass(frozen=True, slots=True)
class _Provider:
    client: Client
    answers: AnswerApi
    batches: BatchApi


class _OnDemand(Mapping[str, T], Generic[T]):
    """A mapping whose values are built when they are first looked up."""

    def __init__(self, builders: Mapping[str, Callable[[], T]]) -> None:
        self._builders = builders

    def __getitem__(self, name: str) -> T:
        return self._builders[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._builders  # Mapping's own would build it

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)
