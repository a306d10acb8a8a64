from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest

from lowtide.adapters.aws.metrics import EmfMetrics
from lowtide_local.engine.metrics import RecordedMetrics


class Printed:
    """Metrics, and what they wrote on standard output since it was last looked at."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.metrics = EmfMetrics("shop")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]


@pytest.fixture
def printed(monkeypatch, capsys) -> Printed:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "not-a-dimension")
    return Printed(capsys)


def test_counts_are_summed_and_published_once_by_flush(printed):
    printed.metrics.count("calls", tier="HIGH")
    printed.metrics.count("calls", 2, tier="HIGH")
    assert printed.lines() == []
    printed.metrics.flush()
    printed.metrics.flush()
    [line] = printed.lines()
    [directive] = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "lowtide"
    assert directive["Dimensions"] == [["deployment", "tier"]]
    assert directive["Metrics"] == [{"Name": "calls", "Unit": "Count"}]
    assert (line["deployment"], line["tier"], line["calls"]) == ("shop", "HIGH", [3.0])


def test_a_zero_is_published_as_zero(printed):
    printed.metrics.count("call_errors", 0, tier="HIGH")
    printed.metrics.flush()
    assert printed.lines()[0]["call_errors"] == [0.0]


def test_each_set_of_dimensions_is_a_line_of_its_own(printed):
    printed.metrics.count("calls", tier="HIGH")
    printed.metrics.count("calls", tier="NORMAL")
    printed.metrics.count("oldest_batch_age_s", 12.5)
    printed.metrics.flush()
    high, normal, alone = printed.lines()
    assert (high["tier"], normal["tier"]) == ("HIGH", "NORMAL")
    assert alone["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["deployment"]]
    assert alone["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "oldest_batch_age_s", "Unit": "Seconds"}]


def test_what_is_measured_is_published_value_by_value_a_hundred_a_line(printed):
    for seconds in range(101):
        printed.metrics.measure("latency_s", seconds, tier="LOW")
    printed.metrics.flush()
    first, second = printed.lines()
    assert (first["latency_s"], second["latency_s"]) == ([float(each) for each in range(100)], [100.0])
    assert first["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "latency_s", "Unit": "Seconds"}]


def test_a_long_invocation_publishes_in_between_so_that_a_kill_loses_seconds_of_counts(capsys):
    now = [0.0]
    metrics = EmfMetrics("shop", lambda: now[0])
    for now[0] in (700.0, 704.0, 709.9):
        metrics.count("tasks_settled", tier="LOW")
    assert capsys.readouterr().out == "", "what lies before the first count is no delay of it"
    now[0] = 710.0
    metrics.measure("latency_s", 3.0, tier="LOW")
    counted, measured = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (counted["tasks_settled"], measured["latency_s"]) == ([3.0], [3.0])


def test_a_flush_by_another_thread_in_between_disturbs_no_count(capsys):
    class Raced(EmfMetrics):
        """Another thread flushes whenever this one has looked at ``_since_s`` without the lock."""

        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name == "_since_s" and found is not None and not self._lock.locked():
                other = Thread(target=EmfMetrics.flush, args=[self])
                other.start()
                other.join()
            return found

    metrics = Raced("shop")
    for _ in range(3):
        metrics.count("calls")
    metrics.flush()
    assert sum(json.loads(line)["calls"][0] for line in capsys.readouterr().out.splitlines()) == 3


def test_a_log_line_holds_ids_sizes_and_reasons(printed):
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    printed.metrics.log(
        "batch_done", batch_id="b_1", at=moment, cost=Decimal("0.1"), tally={"answered": 3}, codes=["a"]
    )
    [line] = printed.lines()
    assert line["message"] == "batch_done"
    assert line["level"] == "INFO"
    assert line["deployment"] == "shop"
    assert (line["batch_id"], line["at"], line["cost"]) == ("b_1", "2026-03-01T00:00:00.000Z", "0.1")
    assert (line["tally"], line["codes"]) == ({"answered": 3}, ["a"])


@pytest.mark.parametrize(("event", "level"), [("message_failed", "WARNING"), ("account_refused", "ERROR")])
def test_a_log_line_bears_the_level_of_its_event(printed, event, level):
    printed.metrics.log(event)
    assert [line["level"] for line in printed.lines()] == [level]


def test_a_log_line_never_carries_a_prompt_an_answer_or_a_key(printed):
    secret = "the patient says"
    printed.metrics.log(
        "call_failed",
        prompt=secret,
        body={"messages": [secret]},
        detail={"content": secret, "tokens": 5},
        thing=io.BytesIO(secret.encode()),
        reason="Incorrect API key provided: sk-proj-abc***xyz. Bearer abcdef",
    )
    [line] = printed.lines()
    text = json.dumps(line)
    assert secret not in text
    assert "abc***xyz" not in text
    assert "abcdef" not in text
    assert line["detail"] == {"tokens": 5}
    assert line["thing"] == "(BytesIO)"
    assert "Incorrect API key provided: (key)" in line["reason"]


def test_a_long_text_is_cut(printed):
    printed.metrics.log("refused", reason="x" * 5000)
    assert len(printed.lines()[0]["reason"]) == 200


def test_a_field_may_bear_a_name_that_logging_uses_itself(printed):
    printed.metrics.log("odd", name="n", args=1, level="deep", module="m")
    [line] = printed.lines()
    assert (line["name_"], line["args_"], line["level_"], line["module_"]) == ("n", 1, "deep", "m")
    assert line["level"] == "INFO"


def test_recorded_metrics_answer_for_every_count_with_these_dimensions():
    metrics = RecordedMetrics()
    metrics.count("settled", tier="LOW", status="dead")
    metrics.count("settled", 2, tier="LOW", status="answered")
    metrics.count("settled", 5, tier="HIGH", status="answered")
    metrics.log("done", tasks=8)
    assert metrics.total("settled") == 8
    assert metrics.total("settled", tier="LOW") == 3
    assert metrics.total("settled", status="answered", tier="LOW") == 2
    assert metrics.total("nothing") == 0
    assert metrics.events() == ["done"]
