from __future__ import annotations

from importlib.resources import files

import pytest
import time_machine
from aws_cases import NOW

from lowtide.adapters.aws.parameter import RoutesParameter
from lowtide.adapters.clock import WallClock
from lowtide.core.errors import ConfigError
from lowtide_local.engine.metrics import RecordedMetrics

SHIPPED = files("lowtide").joinpath("routes.toml").read_text("utf-8")
STRICTER = SHIPPED.replace("max_open_batches = ", "max_open_batches = 1 #", 1)


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
    return RoutesParameter(aws.ssm, "/shop/routes", WallClock(), metrics)


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
