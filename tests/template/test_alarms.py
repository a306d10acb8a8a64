"""infra/alarms.yaml: that each alarm fires on the trouble it is for, and is quiet otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from metric_maths import Points, fires, metrics_of

from lowtide_local.stack.intrinsics import Evaluator, read_yaml

ROOT = Path(__file__).parents[2]
DAY_S, HOUR_S, WEEK_S = 86_400, 3_600, 604_800
COMPOSITE_PARTS = {"CriticalWaitsInQueue", "CriticalWaitsAtIntake", "CriticalWaitsByOurRows"}

Series = dict[str, Points]


def steady(**values: float) -> Series:
    return {name: [value] * 6 for name, value in values.items()}


def calls(per_tier: float, failed: float) -> Series:
    """Traffic on CRITICAL; zeros from the reporter elsewhere."""
    quiet = {f"{kind}_{tier}": 0.0 for kind in ("calls", "errors") for tier in ("high", "normal")}
    return steady(calls_critical=per_tier, errors_critical=failed, **quiet)


DEPTHS = ("CriticalDepthAboveNormal", "HighDepthAboveNormal", "NormalDepthAboveNormal", "LowDepthAboveNormal")
SILENT = ("AssemblerSilent", "PollerSilent", "ReporterSilent")
WAITING = ("DeadLettersWaiting", "StrandedMessages", "MissedRuns")

LOUD: list[tuple[str, Series]] = [
    *((name, steady(depth=801, baseline=400)) for name in DEPTHS),
    *((name, steady(depth=101, baseline=0)) for name in DEPTHS),
    ("CallErrors", calls(100, 6)),
    ("CallErrors", calls(20, 20)),
    ("CostPerTaskUp", {"value": [1.21, 1.3, 1.25]}),
    ("CriticalWaitsInQueue", {"value": [301]}),
    ("CriticalWaitsAtIntake", {"value": [301]}),
    ("CriticalWaitsByOurRows", {"value": [301]}),
    ("BatchItemsFailed", {"lines": [20], "failed": [2]}),
    ("BatchItemsFailedSixHours", {"lines": [2000], "failed": [101]}),
    ("BatchOverdue", {"value": [26 * HOUR_S + 1]}),
    *((name, {"value": [1.0]}) for name in WAITING),
    *((name, {"value": [1.0, None, None]}) for name in SILENT),
    ("BatchesRescued", {"value": [3.0]}),
    ("OrphanBatch", {"value": [1.0]}),
    ("BreakerOpen", {"value": [2.0]}),
    ("AccountRefused", {"value": [1.0]}),
    ("QueueAging", {"low": [5 * DAY_S + 1]}),
    ("AdmissionShedding", {"value": [1.0]}),
    ("AdmissionWaiting", {"value": [1.0, None, 1.0]}),
]

QUIET: list[tuple[str, Series]] = [
    *((name, steady(depth=800, baseline=400)) for name in DEPTHS),
    *((name, steady(depth=90, baseline=1)) for name in DEPTHS),
    *((name, {"depth": [900, 900, 900, 700, 900, 900], "baseline": [400] * 6}) for name in DEPTHS),
    *((name, {}) for name in DEPTHS),
    ("CallErrors", calls(100, 5)),
    ("CallErrors", calls(19, 19)),
    ("CallErrors", calls(0, 0)),
    ("CostPerTaskUp", {"value": [1.3, 1.1, 1.3]}),
    ("CostPerTaskUp", {"value": [1.3, None, None]}),
    ("CriticalWaitsInQueue", {"value": [300]}),
    ("CriticalWaitsAtIntake", {}),
    ("CriticalWaitsByOurRows", {"value": [0]}),
    ("BatchItemsFailed", {"lines": [19], "failed": [19]}),
    ("BatchItemsFailed", {"lines": [1000], "failed": [50]}),
    ("BatchItemsFailed", {}),
    ("BatchItemsFailedSixHours", {"lines": [1000], "failed": [50]}),
    ("BatchOverdue", {"value": [0]}),
    ("BatchOverdue", {"value": [25 * HOUR_S]}),
    *((name, {"value": [0.0]}) for name in WAITING),
    *((name, {"value": [None, 1.0]}) for name in SILENT),
    ("BatchesRescued", {"value": [2.0]}),
    ("BatchesRescued", {}),
    ("OrphanBatch", {"value": [0.0]}),
    ("OrphanBatch", {}),
    ("BreakerOpen", {"value": [0.0]}),
    ("BreakerOpen", {}),
    ("AccountRefused", {"value": [0.0]}),
    ("QueueAging", {"intake": [0], "low": [DAY_S]}),
    ("AdmissionShedding", {}),
    ("AdmissionWaiting", {"value": [None, 1.0, None]}),
]


@pytest.mark.parametrize(("name", "series"), LOUD)
def test_an_alarm_fires_on_its_trouble(alarms: dict[str, Any], name: str, series: Series):
    assert fires(alarms[name], series)


@pytest.mark.parametrize(("name", "series"), QUIET)
def test_an_alarm_is_quiet_where_nothing_is_wrong(alarms: dict[str, Any], name: str, series: Series):
    assert not fires(alarms[name], series)


def test_every_alarm_is_tried_both_ways(alarms):
    assert alarms.keys() == {name for name, _ in LOUD} == {name for name, _ in QUIET}


def test_no_alarm_looks_back_further_than_cloudwatch_allows(alarms):
    for name, alarm in alarms.items():
        for metric in metrics_of(alarm).values():
            span = metric["Period"] * alarm["Properties"]["EvaluationPeriods"]
            assert span <= (WEEK_S if metric["Period"] >= HOUR_S else DAY_S), name


def test_one_alarm_reads_metrics_of_one_period(alarms):
    for name, alarm in alarms.items():
        assert len({metric["Period"] for metric in metrics_of(alarm).values()}) == 1, name


def test_alarms_read_only_what_the_functions_publish(alarms):
    published = {
        "depth": {"tier"},
        "depth_baseline": {"tier"},
        "calls": {"tier"},
        "call_errors": {"tier"},
        "cost_per_task_ratio": set(),
        "critical_wait_s": set(),
        "batch_lines": set(),
        "batch_lines_failed": set(),
        "oldest_batch_age_s": set(),
        "batches_rescued": set(),
        "heartbeat": {"function"},
        "orphan_batch": set(),
        "shed": set(),
        "admission_waits": set(),
        "breaker_open": set(),
        "account_held": set(),
    }
    ours = [m for alarm in alarms.values() for m in metrics_of(alarm).values() if m["Namespace"] == "lowtide"]
    for metric in ours:
        dimensions = {dimension["Name"] for dimension in metric["Dimensions"]}
        assert dimensions == {"deployment"} | published[metric["MetricName"]]
    assert {metric["MetricName"] for metric in ours} == published.keys()


def test_dead_letters_are_counted_by_what_is_there_to_see(alarms):
    for name in WAITING:
        assert alarms[name]["Properties"]["MetricName"] == "ApproximateNumberOfMessagesVisible"


def test_any_of_three_ages_says_that_critical_waits(alarms):
    composite = read_yaml(ROOT / "infra" / "alarms.yaml")["Resources"]["CriticalWaiting"]["Properties"]
    rule = composite["AlarmRule"]["Fn::Sub"]
    assert set(re.findall(r'ALARM\("\$\{(\w+)}"\)', rule)) == COMPOSITE_PARTS
    assert rule.count(" OR ") == 2
    assert not any("AlarmActions" in alarms[part]["Properties"] for part in COMPOSITE_PARTS), "one mail, not two"


def test_every_alarm_tells_somebody_and_tells_when_it_is_over(alarms):
    topic = [{"Fn::If": ["CreatesTopic", {"Ref": "Topic"}, {"Ref": "AlarmTopicArn"}]}]
    for name in alarms.keys() - COMPOSITE_PARTS:
        properties = alarms[name]["Properties"]
        assert properties["AlarmActions"] == properties["OKActions"] == topic, name


def test_the_topic_is_encrypted_with_a_key_that_cloudwatch_may_use():
    resources = read_yaml(ROOT / "infra" / "alarms.yaml")["Resources"]
    assert resources["Topic"]["Properties"]["KmsMasterKeyId"] == {"Ref": "TopicKey"}
    statements = resources["TopicKey"]["Properties"]["KeyPolicy"]["Statement"]
    [granted] = [s for s in statements if s["Principal"] == {"Service": "cloudwatch.amazonaws.com"}]
    assert granted["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]
    assert resources["TopicKey"]["Properties"]["EnableKeyRotation"] is True


def test_every_alarm_has_an_entry_in_the_runbook(alarms):
    runbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    entries = dict(re.findall(r"^### (\w+)\n(.*?)(?=^###|\Z)", runbook, re.DOTALL | re.MULTILINE))
    named = {
        name: re.search(r"Runbook: (\w+)$", alarm["Properties"]["AlarmDescription"]["Fn::Sub"])
        for name, alarm in alarms.items()
    }
    for name, found in named.items():
        assert found is not None, name
        assert all(word in entries[found[1]] for word in ("**Means**", "**Do**", "**Look at**")) or (
            "as for" in entries[found[1]]
        ), name
    assert {found[1] for found in named.values() if found} == entries.keys()
    assert all(name in runbook for name in alarms)


@pytest.mark.parametrize("widget", ["Depth", "Age", "accepted", "full", "failed", "Cost per answered task"])
def test_the_dashboard_is_json_and_shows(widget: str):
    document = read_yaml(ROOT / "infra" / "dashboard.yaml")
    given = {name: f"the-{name}" for name in document["Parameters"]}
    body = Evaluator(document, given, {"AWS::Region": "eu-west-1"}).value(
        document["Resources"]["Dashboard"]["Properties"]["DashboardBody"]
    )
    titles = [shown["properties"]["title"] for shown in json.loads(body)["widgets"]]
    assert any(widget in title for title in titles)


@pytest.mark.parametrize("nested", ["Alarms", "Dashboard"])
def test_the_nested_stacks_are_handed_what_they_ask_for(template, nested):
    application = template.document["Resources"][nested]["Properties"]
    asked = read_yaml(ROOT / application["Location"])["Parameters"]
    assert application["Parameters"].keys() == asked.keys()
