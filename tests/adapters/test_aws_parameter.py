from __future__ import annotations

from importlib.resources import files

import pytest
import time_machine
from aws_cases import NOW
from botocore.exceptions import ClientError

from lowtide.adapters.aws.objects import S3Objects
from lowtide.adapters.aws.parameter import RoutesParameter
from lowtide.adapters.clock import WallClock
from lowtide.core.errors import ConfigError
from lowtide.core.routes import Routes
from lowtide.core.tiers import Tier
from lowtide_local.engine.metrics import RecordedMetrics
from tests.contract.aws import BUCKET

SHIPPED = files("lowtide").joinpath("routes.toml").read_text("utf-8")
STRICTER = "[batching]\nmax_open_batches = 1\n"
TWELVE_LINES = """\
remove = ["types.lead_scoring"]

[tiers.CRITICAL]
deadline_s = 20

[types]
invoice_check = { tier = "LOW", model = "simple" }

[models]
"gpt-5" = { requests_per_minute = 500 }
[batching]
max_wait_s = 300
"""


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def metrics() -> RecordedMetrics:
    return RecordedMetrics()


def put(aws, text: str) -> None:
    aws.ssm.put_parameter(Name="/shop/routes", Value=text, Type="String", Tier="Advanced", Overwrite=True)


def parameter(aws, metrics) -> RoutesParameter:
    return RoutesParameter(aws.ssm, "/shop/routes", S3Objects(aws.s3, BUCKET), SHIPPED, WallClock(), metrics)


def test_a_changed_parameter_is_in_force_within_a_minute(clock, aws, metrics):
    put(aws, SHIPPED)
    routes = parameter(aws, metrics)
    first = routes.current()
    put(aws, STRICTER)
    clock.shift(59)
    assert routes.current().version == first.version
    clock.shift(1)
    assert routes.current().batching.max_open_batches == 1


def test_a_bad_file_is_refused_visibly_and_the_last_good_one_stays(clock, aws, metrics):
    put(aws, STRICTER)
    routes = parameter(aws, metrics)
    good = routes.current()
    put(aws, STRICTER.replace("max_open_batches = 1", "max_open_batches = -1"))
    clock.shift(60)
    assert routes.current() == good
    assert metrics.total("routes_refused") == 1
    assert "max_open_batches" in metrics.lines[0].fields["reason"]


def test_a_new_process_finds_the_last_good_one_in_the_history(clock, aws, metrics):
    for text in (SHIPPED, STRICTER, "bad", "worse"):
        put(aws, text)
    assert parameter(aws, metrics).current().batching.max_open_batches == 1
    assert metrics.total("routes_refused") == 1


def test_without_any_good_version_nothing_starts(clock, aws, metrics):
    put(aws, "bad")
    with pytest.raises(ConfigError, match="no good version"):
        parameter(aws, metrics).current()


def test_a_parameter_that_cannot_be_read_stops_a_new_process_only(clock, aws, metrics):
    with pytest.raises(ConfigError, match="/shop/routes cannot be read"):
        parameter(aws, metrics).current()
    put(aws, SHIPPED)
    routes = parameter(aws, metrics)
    good = routes.current()
    aws.ssm.delete_parameter(Name="/shop/routes")
    clock.shift(60)
    assert routes.current() == good
    assert metrics.events() == ["routes_unread"]


def test_an_overlay_of_twelve_lines_is_in_force_over_what_ships(clock, aws, metrics):
    assert TWELVE_LINES.count("\n") == 12
    put(aws, TWELVE_LINES)
    routes, shipped = parameter(aws, metrics).current(), Routes.load(SHIPPED)
    assert routes.tiers[Tier.CRITICAL].deadline_s == 20
    assert routes.tiers[Tier.CRITICAL].concurrency == shipped.tiers[Tier.CRITICAL].concurrency
    assert set(routes.types) == set(shipped.types) - {"lead_scoring"} | {"invoice_check"}
    assert routes.models["gpt-5"].flex
    assert routes.ceiling("gpt-5").requests == 500
    assert routes.batching.max_wait_s == 300


def test_a_parameter_may_point_to_an_object_that_is_too_large_for_it(clock, aws, metrics):
    upload(aws, "routes/1.toml", STRICTER + "#" * 20_000)
    put(aws, f"s3://{BUCKET}/routes/1.toml\n")
    assert parameter(aws, metrics).current().batching.max_open_batches == 1


def test_a_changed_object_is_in_force_within_a_minute_and_a_bad_one_is_refused(clock, aws, metrics):
    upload(aws, "routes/1.toml", STRICTER)
    put(aws, f"s3://{BUCKET}/routes/1.toml")
    routes = parameter(aws, metrics)
    good = routes.current()
    upload(aws, "routes/1.toml", STRICTER.replace("= 1", "= -1"))
    clock.shift(60)
    assert routes.current() == good
    assert metrics.total("routes_refused") == 1
    assert "line 2: batching.max_open_batches" in metrics.lines[0].fields["reason"]
    upload(aws, "routes/1.toml", STRICTER.replace("= 1", "= 2"))
    clock.shift(60)
    assert routes.current().batching.max_open_batches == 2


@pytest.mark.parametrize(
    ("pointer", "said"),
    [
        ("s3://BUCKET/routes/none.toml", "no object routes/none.toml"),
        ("s3://another-bucket/routes/1.toml", "put it under s3://"),
        ("s3://BUCKET/results/1.toml", "put it under s3://"),
        ("s3://BUCKET/", "put it under s3://"),
        ("S3://BUCKET", "put it under s3://"),
        ("s3://", "put it under s3://"),
        ("s3://BUCKET/routes/1.toml and more", "is no TOML"),
        ("s3://BUCKET/routes/latin.toml", "is no UTF-8 at byte 3"),
        ("s3://BUCKET/routes/empty.toml", "it is empty"),
        ("s3://BUCKET/routes/huge.toml", "keep it below"),
        ("s3://BUCKET/routes/pointer.toml", "is no TOML"),
    ],
)
def test_a_pointer_that_leads_nowhere_is_refused_and_the_last_good_one_stays(clock, aws, metrics, pointer, said):
    aws.s3.put_object(Bucket=BUCKET, Key="routes/latin.toml", Body="# f\u00fcr".encode("latin-1"))
    aws.s3.put_object(Bucket=BUCKET, Key="routes/empty.toml", Body=b"")
    aws.s3.put_object(Bucket=BUCKET, Key="routes/huge.toml", Body=b"#" * 3_000_000)
    upload(aws, "routes/pointer.toml", f"s3://{BUCKET}/routes/empty.toml")
    put(aws, STRICTER)
    put(aws, pointer.replace("BUCKET", BUCKET))
    assert parameter(aws, metrics).current().batching.max_open_batches == 1
    assert metrics.total("routes_refused") == 1
    assert said in metrics.lines[0].fields["reason"]


def test_an_object_that_may_not_be_read_is_refused_and_an_outage_of_s3_is_not(clock, aws, metrics, monkeypatch):
    upload(aws, "routes/1.toml", STRICTER)
    put(aws, f"s3://{BUCKET}/routes/1.toml")
    routes = parameter(aws, metrics)
    good = routes.current()
    passing = [
        ("SlowDown", 503),
        ("InternalError", 500),
        ("RequestTimeout", 400),
        ("ExpiredToken", 400),
        ("RequestTimeTooSkewed", 403),
        ("InvalidAccessKeyId", 403),
    ]
    for code, status in [("AccessDenied", 403), *passing]:
        fault = ClientError(
            {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
            "GetObject",
        )
        monkeypatch.setattr(aws.s3, "get_object", raises(fault))
        clock.shift(60)
        assert routes.current() is good
    assert metrics.events() == ["routes_refused"] + ["routes_unread"] * len(passing)


def test_a_version_that_cannot_be_asked_for_is_not_passed_over_for_an_older_one(clock, aws, metrics, monkeypatch):
    for text in ("# as shipped", STRICTER, "bad"):
        put(aws, text)
    get = aws.ssm.get_parameter

    def throttled(Name):  # noqa: N803 - boto3's name
        if Name.endswith(":2"):
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "GetParameter")
        return get(Name=Name)

    monkeypatch.setattr(aws.ssm, "get_parameter", throttled)
    with pytest.raises(ConfigError, match="/shop/routes:2 cannot be read"):
        parameter(aws, metrics).current()
    monkeypatch.setattr(aws.ssm, "get_parameter", get)
    assert parameter(aws, metrics).current().batching.max_open_batches == 1


def upload(aws, key: str, text: str) -> None:
    aws.s3.put_object(Bucket=BUCKET, Key=key, Body=text.encode())


def raises(error):
    def call(**_):
        raise error

    return call
