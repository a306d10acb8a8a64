from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import date
from importlib.resources import files

import httpx2
import pytest
from aws_cases import NOW, task

from lowtide import wiring
from lowtide.adapters.aws.events import BusEvents, NoEvents
from lowtide.adapters.aws.secrets import ProviderKeys
from lowtide.adapters.clock import WallClock
from lowtide.adapters.shipped import routes_text, shipped_prices
from lowtide.core.errors import Busy, ConfigError
from lowtide.core.lanes import Lane
from lowtide.core.outward import Event, EventKind
from lowtide.core.routes import Routes
from lowtide.core.task import Endpoint
from lowtide.core.tasks import Accept
from lowtide.core.tiers import Tier
from lowtide.ports import Call, Change, Outgoing
from lowtide.settings import Settings
from lowtide.wiring import Outside
from lowtide_local.engine.metrics import RecordedMetrics
from tests.contract.aws import BUCKET, TABLE

CALL = Call(Endpoint.CHAT, {"model": "gpt-5-mini", "messages": []}, Lane.DEFAULT, "call-1", timeout_s=5)


@pytest.fixture(autouse=True)
def _region(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@pytest.fixture
def settings(aws) -> Settings:
    names = ("intake", "critical", "high", "normal", "low", "dead_letter", "stranded")
    urls = {f"{name}_url": aws.queue_url(name) for name in names}
    arn = aws.secrets.create_secret(Name="provider", SecretString=json.dumps({"openai": "sk-first"}))["ARN"]
    return Settings(deployment="shop", table=TABLE, bucket=BUCKET, secret_arn=arn, **urls)


class StandingClock(WallClock):
    def now(self):
        return NOW


class Provider:
    """Knows one key at a time; keeps the requests that it was sent."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.key = "sk-first"
        self.client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if request.headers["authorization"] != f"Bearer {self.key}":
            return httpx2.Response(401, json={"error": {"code": "invalid_api_key", "message": "no"}})
        return httpx2.Response(200, json={"id": "chatcmpl-1"})


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture(autouse=True)
def rehearsed(provider):
    with wiring.rehearsal(Outside(http_client=provider.client, threads=1)):
        yield


async def answer(system, call):
    return await system.answers["openai"].answer(call)


def test_every_port_is_wired_to_its_own_place(settings, aws):
    system = wiring.system(settings)
    queues = {"intake": system.intake, "dead_letter": system.dead_letters}
    queues |= {tier.value.lower(): queue for tier, queue in system.tiers.items()}
    assert set(system.tiers) == set(Tier)
    for name, queue in queues.items():
        queue.send([Outgoing(name)])
        [message] = aws.sqs.receive_message(QueueUrl=aws.queue_url(name))["Messages"]
        assert message["Body"] == name
    system.objects.put("k", b"x")
    assert aws.s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"x"
    system.tasks.apply([Change(task().key, Accept(task()))], NOW)
    assert aws.dynamodb.scan(TableName=TABLE)["Items"][0]["pk"] == {"S": "task#t_1 acme"}
    assert system.deployment == "shop"
    assert isinstance(system.clock, WallClock)


def with_prices(path) -> Routes:
    """The shipped routes, with OpenAI's prices in a file of the deployment's own."""
    mine = f'[providers.openai]\nprices = {{ path = "{path}" }}\n'
    return Routes.load(routes_text().replace("[providers.openai]\n", mine, 1))


def test_a_deployments_own_price_table_is_read_from_its_file(settings, tmp_path, monkeypatch):
    table = shipped_prices().model_copy(update={"generated_at": date(2026, 10, 1)})
    (tmp_path / "mine.json").write_text(table.model_dump_json(by_alias=True))
    monkeypatch.setattr(wiring, "shipped_routes", lambda: with_prices(tmp_path / "mine.json"))
    source = wiring.system(settings).seller("openai").source
    assert (source.table, source.generated_at) == (str(tmp_path / "mine.json"), date(2026, 10, 1))


def test_a_price_table_that_cannot_be_read_leaves_its_provider_without_prices_and_says_so_once(
    settings, tmp_path, monkeypatch, provider
):
    monkeypatch.setattr(wiring, "shipped_routes", lambda: with_prices(tmp_path / "none.json"))
    metrics = RecordedMetrics()
    with wiring.rehearsal(Outside(http_client=provider.client, threads=1, metrics=metrics)):
        for _ in range(3):
            assert wiring.system(settings).seller("openai").source.generated_at is None
    assert metrics.events() == ["prices_unread"]


def test_events_and_callbacks_go_where_the_deployment_names_somebody_and_nowhere_else(settings):
    quiet = wiring.system(settings)
    assert (isinstance(quiet.events, NoEvents), quiet.callbacks.taken) == (True, False)
    bus = "arn:aws:events:eu-central-1:123456789012:event-bus/default"
    machine = "arn:aws:states:eu-central-1:123456789012:stateMachine:agent"
    told = wiring.system(settings.model_copy(update={"event_bus": bus, "state_machine_arns": machine}))
    assert (isinstance(told.events, BusEvents), told.callbacks.taken) == (True, True)
    told.events.send([Event(EventKind.TASK, {"id": "rec_1.0"}, NOW)])


def test_the_same_settings_get_the_same_clients_and_others_get_their_own(settings):
    first = wiring.system(settings)
    assert wiring.system(settings).objects is first.objects
    other = wiring.system(settings.model_copy(update={"bucket": "other"}))
    assert other.objects is not first.objects
    assert wiring.system(settings).objects is first.objects


def test_a_step_is_run_with_its_arguments_on_one_loop_for_the_process(settings):
    async def step(system, number, *, word):
        return system.deployment, number, word, asyncio.get_running_loop()

    first = wiring.run(step, wiring.system(settings), 3, word="a")
    second = wiring.run(step, wiring.system(settings), 4, word="b")
    assert first[:3] == ("shop", 3, "a")
    assert first[3] is second[3]


def test_metrics_are_published_at_the_end_of_a_step_even_of_one_that_fails(settings, capsys):
    async def step(system):
        system.metrics.count("calls", tier="HIGH")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        wiring.run(step, wiring.system(settings))
    assert json.loads(capsys.readouterr().out)["calls"] == [1.0]


def test_a_heartbeat_is_published_under_the_functions_name(settings, capsys):
    wiring.heartbeat(wiring.system(settings), "poller")
    line = json.loads(capsys.readouterr().out)
    assert (line["deployment"], line["function"], line["heartbeat"]) == ("shop", "poller", [1.0])


def test_the_provider_is_called_with_the_key_of_the_secret_at_the_address_of_the_deployment(settings, provider):
    system = wiring.system(settings.model_copy(update={"base_url": "https://llm.example/v1"}))
    response = wiring.run(answer, system, CALL)
    assert response.status == 200
    [request] = provider.requests
    assert str(request.url) == "https://llm.example/v1/chat/completions"


def test_a_rotated_key_is_picked_up_after_one_refusal_without_a_new_client(settings, provider, aws):
    system = wiring.system(settings)
    assert wiring.run(answer, system, CALL).status == 200
    provider.key = "sk-second"
    aws.secrets.put_secret_value(SecretId="provider", SecretString=json.dumps({"openai": "sk-second"}))
    assert [wiring.run(answer, system, CALL).status for _ in range(2)] == [401, 200]


def test_all_calls_at_once_make_one_read_of_a_store_that_does_not_answer_and_those_after_them_none(
    settings, provider, monkeypatch
):
    reads = []

    def read(keys):
        reads.append(keys)
        raise Busy("no answer")

    monkeypatch.setattr(ProviderKeys, "_read", read)

    async def many(system):
        return await asyncio.gather(*(answer(system, CALL) for _ in range(30)))

    system = wiring.system(settings, clock=StandingClock())
    responses = [*wiring.run(many, system), *wiring.run(many, system)]
    assert {(response.fault, response.sent) for response in responses} == {("key_store_away", False)}
    assert (len(reads), provider.requests) == (1, [])


def test_every_secret_is_read_within_the_time_of_any_call(settings, monkeypatch):
    clients = []

    class Noted(ProviderKeys):
        def __init__(self, client, *args, **options):
            clients.append(client)
            super().__init__(client, *args, **options)

    monkeypatch.setattr(wiring, "ProviderKeys", Noted)
    urls = {"hints_url": settings.intake_url, "webhook_secret_arn": settings.secret_arn}
    wiring.run(answer, wiring.system(settings), CALL)
    with wiring.door(settings.model_copy(update=urls)) as door:
        assert door.secret() == "sk-first"
    shortest_s = min(tier.call_timeout_s for tier in wiring.system(settings).routes.tiers.values())
    assert len(clients) == 2
    for client in clients:
        config = client.meta.config
        tries = config.retries["total_max_attempts"]
        waits_s = tries - 1  # of botocore's standard mode: at most a second before the second try
        assert tries * (config.connect_timeout + config.read_timeout) + waits_s <= shortest_s / 2


def test_without_a_secret_only_what_calls_a_provider_fails(settings):
    system = wiring.system(settings.model_copy(update={"secret_arn": None}))
    assert "openai" in system.answers
    with pytest.raises(ConfigError, match="LOWTIDE_SECRET_ARN"):
        system.answers["openai"]
    with pytest.raises(KeyError):
        system.answers["nobody"]


def test_routes_come_from_the_parameter_where_there_is_one(settings, aws):
    shipped = wiring.system(settings)
    changed = files("lowtide").joinpath("routes.toml").read_text("utf-8") + "\n# ours\n"
    changed = changed.replace("max_open_batches = ", "max_open_batches = 1 #", 1)
    aws.ssm.put_parameter(Name="/shop/routes", Value=changed, Type="String", Tier="Advanced")
    overridden = wiring.system(settings.model_copy(update={"routes_parameter": "/shop/routes"}))
    assert overridden.routes.batching.max_open_batches == 1
    assert overridden.routes.version != shipped.routes.version


def test_a_rehearsal_replaces_what_comes_from_outside_and_gives_it_back(settings):
    clock, metrics, loop = StandingClock(), RecordedMetrics(), asyncio.new_event_loop()

    async def step(system):
        return asyncio.get_running_loop()

    with wiring.rehearsal(Outside(clock=clock, metrics=metrics, new_loop=lambda: loop, threads=1)):
        system = wiring.system(settings)
        assert system.clock is clock
        assert system.metrics is metrics
        assert wiring.run(step, system) is loop
    assert loop.is_closed()
    after = wiring.system(settings)
    assert after.clock is not clock
    assert after.metrics is not metrics


def test_a_clock_and_an_http_client_may_be_given_to_the_system_itself(settings, provider):
    clock = WallClock()
    given = Provider()
    system = wiring.system(settings, http_client=given.client, clock=clock)
    assert system.clock is clock
    wiring.run(answer, system, CALL)
    assert (len(given.requests), len(provider.requests)) == (1, 0)


def test_a_function_that_calls_no_provider_never_loads_its_sdk():
    program = """
import sys
from lowtide import wiring
from lowtide.settings import Settings
names = ("intake", "critical", "high", "normal", "low", "dead_letter", "stranded")
urls = {f"{name}_url": "https://sqs/q" for name in names}
system = wiring.system(Settings(deployment="d", table="t", bucket="b", **urls))
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"openai", "httpx2", "lowtide_local"}, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True)
