"""The reporter: what is usual, what a task costs week over week, and zeros."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

import reporter
from lowtide import wiring
from lowtide.adapters.aws.history import CloudWatchHistory
from lowtide.core.baselines import WEEK, cost_ratio, usual_depth
from lowtide.core.tiers import Tier
from lowtide.ports import Depth
from lowtide.steps.report import report
from lowtide_local.stack.template import load, transform

TEMPLATE = Path(__file__).parents[2] / "template.yaml"

NOW = datetime(2026, 3, 4, 10, 20, tzinfo=UTC)  # a Wednesday
HOUR = NOW.replace(minute=0)
DAY = timedelta(days=1)


def test_usual_is_the_median_of_the_same_hour_in_earlier_weeks():
    same_hour = [(HOUR - weeks * WEEK, depth) for weeks, depth in ((1, 100), (2, 120), (3, 5000), (4, 80))]
    other_hours = [(HOUR - timedelta(hours=hours), 9.0) for hours in range(1, 100) if hours % 24]
    assert usual_depth([*same_hour, *other_hours], NOW) == 110


def test_the_first_week_is_held_against_the_same_hour_of_earlier_days():
    assert usual_depth([(HOUR - DAY, 40), (HOUR - 2 * DAY, 60), (HOUR - timedelta(hours=3), 900)], NOW) == 50


def test_this_very_hour_is_no_history():
    assert usual_depth([(HOUR, 700)], NOW) == 0


def test_without_any_history_nothing_is_usual():
    assert usual_depth([], NOW) == 0


def weekly(this: float, last: float) -> list[tuple[datetime, float]]:
    return [(HOUR - 2 * DAY, this / 2), (HOUR - 3 * DAY, this / 2), (HOUR - 9 * DAY, last)]


def test_a_task_that_costs_a_quarter_more_than_last_week_shows():
    assert cost_ratio(weekly(250, 100), weekly(200, 100), HOUR) == pytest.approx(1.25)


@pytest.mark.parametrize(("this", "last"), [(99, 1000), (1000, 99), (0, 0)])
def test_thin_traffic_says_nothing_about_cost(this, last):
    assert cost_ratio(weekly(5, 1), weekly(this, last), HOUR) is None


def test_a_week_that_cost_nothing_is_no_yardstick():
    assert cost_ratio(weekly(5, 0), weekly(200, 200), HOUR) is None


class Recorded:
    def __init__(self):
        self.counted = {}

    def count(self, name, value=1, **dimensions):
        self.counted[name, *dimensions.values()] = value

    def log(self, event, **fields):
        raise AssertionError(f"nothing to log: {event} {fields}")


class Remembered:
    """Series by metric; every tier's alike."""

    def __init__(self, **series):
        self.known = series
        self.asked = []

    def series(self, metric, *, period_s, statistic, start, end, **dimensions):
        self.asked.append((metric, period_s, statistic, dimensions))
        return [(moment, value) for moment, value in self.known.get(metric, []) if start <= moment < end]


class Deep:
    def depth(self):
        return Depth(visible=5, in_flight=3, delayed=2)


def reported(**series):
    metrics, history = Recorded(), Remembered(**series)
    report(dict.fromkeys(Tier, Deep()), history, metrics, NOW)
    return metrics.counted, history


def test_a_report_has_every_tiers_depth_and_what_is_usual_for_it():
    counted, history = reported(depth=[(HOUR - WEEK, 7)])
    assert {key: value for key, value in counted.items() if key[0].startswith("depth")} == {
        (name, tier): value for name, value in (("depth", 10), ("depth_baseline", 7)) for tier in Tier
    }
    assert ("depth", 3600, "Average", {"tier": "LOW"}) in history.asked


def test_a_report_publishes_zeros_where_nobody_called():
    counted, _ = reported()
    assert {key: value for key, value in counted.items() if key[0].startswith("call")} == {
        (name, tier): 0 for name in ("calls", "call_errors") for tier in Tier
    }


def test_a_report_has_a_cost_ratio_only_where_there_is_enough_to_compare():
    counted, history = reported(cost_usd=weekly(3, 1), tasks_settled=weekly(200, 100))
    assert counted["cost_per_task_ratio",] == pytest.approx(1.5)
    assert ("tasks_settled", 3600, "Sum", {"tier": "LOW", "status": "answered"}) in history.asked
    thin, _ = reported(cost_usd=weekly(3, 1), tasks_settled=weekly(2, 1))
    assert ("cost_per_task_ratio",) not in thin


def test_history_is_this_deployments_own_in_utc(monkeypatch):
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hour = now - timedelta(hours=2)
    with mock_aws():
        client = boto3.client("cloudwatch")
        for deployment, value in (("ours", 4), ("ours", 6), ("theirs", 900)):
            dimensions = [{"Name": "deployment", "Value": deployment}, {"Name": "tier", "Value": "LOW"}]
            datum = {"MetricName": "depth", "Dimensions": dimensions, "Value": value, "Timestamp": hour}
            client.put_metric_data(Namespace="lowtide", MetricData=[datum])
        series = CloudWatchHistory(client, "ours").series(
            "depth", period_s=3600, statistic="Average", start=now - DAY, end=now, tier="LOW"
        )
    assert list(series) == [(hour, 5.0)]
    assert series[0][0].tzinfo is UTC


def test_the_function_publishes_depths_and_its_heartbeat_from_the_deployed_stack(monkeypatch, capsys):
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    template = load(TEMPLATE, {"ProviderSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key"})
    with mock_aws(), wiring.rehearsal(wiring.Outside(threads=1)):
        cloudformation = boto3.client("cloudformation")
        cloudformation.create_stack(StackName="tide", TemplateBody=json.dumps(transform(template)))
        created = cloudformation.describe_stack_resources(StackName="tide")["StackResources"]
        physical = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in created}
        physical["AWS::StackName"] = "tide"
        for name, value in template.environment("Reporter", physical).items():
            monkeypatch.setenv(name, value)
        boto3.client("sqs").send_message(QueueUrl=physical["LowQueue"], MessageBody="waiting")

        reporter.handler({}, None)

    published = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["tier"]: line["depth"] for line in published if "depth" in line} == {
        "CRITICAL": [0],
        "HIGH": [0],
        "NORMAL": [0],
        "LOW": [1],
    }
    assert published[-1].items() >= {"deployment": "tide", "function": "reporter", "heartbeat": [1]}.items()
