"""What this deployment's own metrics have been, from CloudWatch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lowtide.core.baselines import Series

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

NAMESPACE = "lowtide"


class CloudWatchHistory:
    """A report.History. CloudWatch keeps hours for 455 days and bills a cent for a thousand series read."""

    def __init__(self, client: CloudWatchClient, deployment: str) -> None:
        self._client = client
        self._deployment = deployment

    def series(
        self, metric: str, *, period_s: int, statistic: str, start: datetime, end: datetime, **dimensions: str
    ) -> Series:
        named = {"deployment": self._deployment, **dimensions}
        pages = self._client.get_paginator("get_metric_data").paginate(
            StartTime=start,
            EndTime=end,
            ScanBy="TimestampAscending",
            MetricDataQueries=[
                {
                    "Id": "series",
                    "MetricStat": {
                        "Metric": {
                            "Namespace": NAMESPACE,
                            "MetricName": metric,
                            "Dimensions": [{"Name": name, "Value": value} for name, value in named.items()],
                        },
                        "Period": period_s,
                        "Stat": statistic,
                    },
                }
            ],
        )
        return [
            (moment.astimezone(UTC), value)
            for page in pages
            for result in page["MetricDataResults"]
            for moment, value in zip(result["Timestamps"], result["Values"], strict=True)
        ]
