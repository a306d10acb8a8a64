"""infra/alarms.yaml: that each alarm fires on the trouble it is for, and is quiet otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from deployed_resources import of_type
from metric_maths import Points, fires, metrics_of

from consumer import SETTLE_S
from lowtide_local.stack.intrinsics import Evaluator, read_yaml

ROOT = Path(__file__).parents[2]
TIERS = ("critical", "high", "normal")
DAY_S, HOUR_S, WEEK_S = 86_400, 3_600, 604_800
COMPOSITES = {
    "CriticalWaiting": {"CriticalWaitsInQueue", "CriticalWaitsAtIntake", "CriticalWaitsByOurRows"},
    "HighWaiting": {"HighWaitsInQueue", "HighWaitsByOurRows"},
    "NormalWaiting": {"NormalWaitsInQueue", "NormalWaitsByOurRows"},
}
COMPOSITE_PARTS = frozenset().union(*COMPOSITES.values())

Series = dict[str, Points]


def steady(**values: float) -> Series:
    return {name: [value] * 6 for name, value in values.items()}


def calls(per_tier: float, failed: float) -> Series:
    """Traffic on CRITICAL; zeros from the reporter elsewhere."""
    quiet = {f"{kind}_{tier}": 0.0 for kind in ("calls", "errors") for tier in ("high", "normal", "low")}
    return steady(calls_critical=per_tier, errors_critical=failed, **quiet)


DEPTHS = ("CriticalDepthAboveNormal", "HighDepthAboveNormal", "NormalDepthAboveNormal", "LowDepthAboveNormal")
SILENT = ("AssemblerSilent", "PollerSilent", "ReporterSilent")
WAITING = ("DeadLettersWaiting", "StrandedMessages", "MissedRuns")

LOUD: list[tuple[str, Series]] = [
    *((name, steady(depth=801, baseline=400)) for name in DEPTHS),
    *((name, steady(depth=101, baseline=0)) for name in DEPTHS),
    ("CallErrors", calls(100, 6)),
    ("CallErrors", calls(20, 20)),
    ("CallErrors", calls(0, 0) | steady(calls_low=20, errors_low=2)),
    ("CallErrors", calls(20, 20) | steady(calls_normal=5_000)),
    ("CallErrors", calls(8, 8) | steady(calls_high=7, errors_high=7, calls_normal=5, errors_normal=5)),
    ("CostPerTaskUp", {"value": [1.21, 1.3, 1.25]}),
    ("CriticalWaitsInQueue", {"value": [301]}),
    ("CriticalWaitsAtIntake", {"value": [301]}),
    ("CriticalWaitsByOurRows", {"value": [301]}),
    ("HighWaitsInQueue", {"value": [301, 301]}),
    ("HighWaitsByOurRows", {"value": [301]}),
    ("NormalWaitsInQueue", {"age": [7_201], "visible": [1], "received": [0]}),
    ("NormalWaitsInQueue", {"age": [7_201], "visible": [1]}),
    ("NormalWaitsByOurRows", {"value": [7_201]}),
    ("TasksLate", {"late_high": [3], "ended_high": [50]}),
    ("TasksLate", {"late_low": [3], "ended_low": [3], "late_high": [0], "ended_high": [9_000]}),
    ("NewDeadLetters", {"value": [1]}),
    ("FunctionErrors", {"ingest": [1, 0, 1]}),
    ("FunctionErrors", {"webhook": [1, 0, 1]}),
    ("LongFunctionErrors", {"poller": [1, None, 1, None, None, None, None, None]}),
    ("LongFunctionErrors", {"normal": [1, 1]}),
    ("LongFunctionErrors", {"hinted": [1, 0, 0, 1]}),
    ("FunctionErrors", {"high": [0, 9, 0], "reporter": [None, None, 1]}),
    ("FunctionThrottles", {"critical": [1, 1, 1]}),
    ("FunctionNearTimeout", {"assembler": [600_000, None, None, None, None]}),
    ("FunctionNearTimeout", {"hinted": [600_000, None, None]}),
    ("FunctionNearTimeout", {"high": [38_001]}),
    ("FunctionNearTimeout", {"normal": [299_000], "ingest": [100]}),
    ("RoutesRefused", {"value": [1]}),
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
    ("CallErrors", calls(0, 0) | steady(calls_low=19, errors_low=19)),
    ("HighWaitsInQueue", {"value": [301, 300]}),
    ("HighWaitsByOurRows", {"value": [60]}),
    ("NormalWaitsInQueue", {"age": [90_000], "visible": [0]}),
    ("NormalWaitsInQueue", {"age": [90_000], "visible": [7], "received": [900]}),
    ("NormalWaitsInQueue", {"age": [3_600], "visible": [1], "received": [0]}),
    ("NormalWaitsByOurRows", {"value": [3_600]}),
    ("TasksLate", {"late_high": [2], "ended_high": [2]}),
    ("TasksLate", {"late_high": [3], "ended_high": [60]}),
    ("TasksLate", {}),
    ("NewDeadLetters", {}),
    ("FunctionErrors", {"ingest": [0, 0, 1]}),
    ("FunctionErrors", {}),
    ("LongFunctionErrors", {"poller": [0, 0, 1, 0, 0, 0, 0, 0], "normal": [0] * 8}),
    ("LongFunctionErrors", {}),
    ("FunctionThrottles", {"critical": [5, 0, 5]}),
    ("FunctionNearTimeout", {"high": [35_500], "normal": [295_500], "critical": [15_500], "poller": [400_000]}),
    ("RoutesRefused", {}),
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
        "wait_s": {"tier"},
        "tasks_late": {"tier"},
        "latency_s": {"tier"},
        "dead_letters": set(),
        "routes_refused": set(),
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


@pytest.mark.parametrize("name", COMPOSITES)
def test_any_of_its_ages_says_that_a_tier_waits(alarms: dict[str, Any], name: str):
    composite = read_yaml(ROOT / "infra" / "alarms.yaml")["Resources"][name]["Properties"]
    rule = composite["AlarmRule"]["Fn::Sub"]
    assert set(re.findall(r'ALARM\("\$\{(\w+)}"\)', rule)) == COMPOSITES[name]
    assert rule.count(" OR ") == len(COMPOSITES[name]) - 1
    assert not any("AlarmActions" in alarms[part]["Properties"] for part in COMPOSITES[name]), "one mail, not two"
    assert "AlarmActions" in composite


def test_a_function_that_nears_its_end_has_used_up_what_it_keeps_for_settling(alarms, with_webhooks):
    expression = alarms["FunctionNearTimeout"]["Properties"]["Metrics"][0]["Expression"]
    limits_ms = {name: int(limit) for name, limit in re.findall(r"(\w+) / (\d+)", expression)}
    named = {name: f"Consumer{name.title()}" if name in TIERS else name.title() for name in limits_ms}
    timeouts_ms = {name: with_webhooks.functions[function].timeout_s * 1000 for name, function in named.items()}
    for name, limit_ms in limits_ms.items():
        planned_ms = timeouts_ms[name] - SETTLE_S * 1000 if name in TIERS else timeouts_ms[name] * 0.6
        assert planned_ms < limit_ms < timeouts_ms[name], name


@pytest.mark.parametrize(
    ("names", "unwatched"),
    [
        (("FunctionErrors", "LongFunctionErrors"), set()),
        (("FunctionThrottles",), {"Webhook"}),
        (("FunctionNearTimeout",), set()),
    ],
)
def test_every_function_is_watched(alarms, with_webhooks, names, unwatched):
    read = [metric for name in names for metric in metrics_of(alarms[name]).values()]
    watched = [metric["Dimensions"][0]["Value"]["Ref"] for metric in read]
    assert sorted(watched) == sorted(f"{function}Name" for function in with_webhooks.functions.keys() - unwatched)


@pytest.mark.parametrize("name", ["FunctionErrors", "LongFunctionErrors", "FunctionNearTimeout"])
def test_an_alarm_on_invocations_still_sees_those_that_took_as_long_as_they_may(alarms, with_webhooks, name):
    """Lambda stamps a point with the invocation's beginning, and CloudWatch has it a minute after the end."""
    properties = alarms[name]["Properties"]
    for metric in metrics_of(alarms[name]).values():
        timeout_s = with_webhooks.functions[metric["Dimensions"][0]["Value"]["Ref"].removesuffix("Name")].timeout_s
        # Runs one after another leave a point each timeout_s, or each period where they are shorter.
        apart_s = max(metric["Period"], timeout_s)
        latest_s = timeout_s + 60 + (properties["DatapointsToAlarm"] - 1) * apart_s
        assert properties["EvaluationPeriods"] * metric["Period"] >= latest_s, metric


def test_no_alarm_on_maths_reads_more_than_cloudwatch_takes(alarms):
    for name, alarm in alarms.items():
        metrics = len(metrics_of(alarm))
        expressions = len(alarm["Properties"].get("Metrics", ())) - metrics
        assert metrics <= 10, name
        assert expressions <= 10, name


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


def test_every_alarm_has_an_entry_in_the_runbook(alarms, template):
    alarms = alarms | of_type(template.document["Resources"], "AWS::CloudWatch::Alarm")
    _, runbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("\n# Runbook\n")
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


@pytest.mark.parametrize(
    "widget",
    ["Depth", "waits", "accepted", "full", "failed", "Cost per answered task", "late", "Latency", "Errors", "Duration"],
)
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
