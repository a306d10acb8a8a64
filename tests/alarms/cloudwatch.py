"""CloudWatch, as far as the alarms need it: metrics from EMF lines and from AWS's own services, and alarms over them.

A metric's points fall into periods that lie on the clock. An alarm is judged on the last full periods, as
``metric_maths`` does with series: statistic, metric maths, missing data, datapoints to alarm.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lowtide_local.stack.intrinsics import Evaluator, read_yaml
from tests.template.metric_maths import fires, metrics_of

ALARMS = Path(__file__).parents[2] / "infra" / "alarms.yaml"
MINUTE = timedelta(minutes=1)

Name = tuple[str, str, frozenset[tuple[str, str]]]
"""(namespace, metric, dimensions)."""

STATISTICS = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "SampleCount": len,
    "Average": lambda values: sum(values) / len(values),
}


@dataclass
class CloudWatch:
    """``given`` are the parameters of infra/alarms.yaml. ``points`` are (moment, value, moment from which an alarm sees
    it)."""

    given: Mapping[str, str]
    points: dict[Name, list[tuple[datetime, float, datetime]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._document = read_yaml(ALARMS)
        evaluator = Evaluator(self._document, dict(self.given), {"AWS::Region": "eu-central-1"})
        self._alarms = {
            name: {"Properties": self._resolved(evaluator, resource["Properties"])}
            for name, resource in self._document["Resources"].items()
            if resource["Type"] == "AWS::CloudWatch::Alarm"
        }

    @staticmethod
    def _resolved(evaluator: Evaluator, properties: Mapping[str, Any]) -> dict[str, Any]:
        plain = {name: value for name, value in properties.items() if name not in ("AlarmActions", "OKActions")}
        return evaluator.value(plain | {"AlarmDescription": ""})

    def put(
        self,
        namespace: str,
        metric: str,
        value: float,
        at: datetime,
        *,
        told_at: datetime | None = None,
        **dimensions: str,
    ) -> None:
        self.points[namespace, metric, frozenset(dimensions.items())].append((at, value, told_at or at))

    def take(self, printed: str) -> None:
        """Reads what a function has printed: the lines in the embedded format count, log lines do not."""
        for line in printed.splitlines():
            said = json.loads(line)
            for directive in said.get("_aws", {}).get("CloudWatchMetrics", ()):
                self._take(said, directive)

    def _take(self, said: Mapping[str, Any], directive: Mapping[str, Any]) -> None:
        at = datetime.fromtimestamp(said["_aws"]["Timestamp"] / 1000, UTC)
        for names in directive["Dimensions"]:
            dimensions = {name: said[name] for name in names}
            for metric in directive["Metrics"]:
                for value in said[metric["Name"]]:
                    self.put(directive["Namespace"], metric["Name"], value, at, **dimensions)

    def rings(self, alarm: str, at: datetime) -> bool:
        """Is the alarm in ALARM at this moment."""
        found = self._alarms[alarm]
        periods = found["Properties"]["EvaluationPeriods"]
        series = {name: self._series(metric, periods, at) for name, metric in metrics_of(found).items()}
        return fires(found, series)

    def ringing(self, at: datetime) -> set[str]:
        return {name for name in self._alarms if self.rings(name, at)}

    def rang(self, alarm: str, since: datetime, until: datetime) -> list[datetime]:
        """The minutes from ``since`` to ``until`` at which the alarm is in ALARM."""
        moments = [since + number * MINUTE for number in range(int((until - since) / MINUTE) + 1)]
        return [moment for moment in moments if self.rings(alarm, moment)]

    def _series(self, metric: Mapping[str, Any], periods: int, at: datetime) -> list[float | None]:
        period = timedelta(seconds=metric["Period"])
        end = datetime.fromtimestamp(at.timestamp() // metric["Period"] * metric["Period"], UTC)
        dimensions = frozenset((each["Name"], each["Value"]) for each in metric["Dimensions"])
        points = self.points.get((metric["Namespace"], metric["MetricName"], dimensions), [])
        series: list[float | None] = []
        for back in range(periods, 0, -1):
            start = end - back * period
            values = [value for moment, value, told_at in points if start <= moment < start + period and told_at <= at]
            series.append(STATISTICS[metric["Stat"]](values) if values else None)
        return series
