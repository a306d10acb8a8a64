"""Metrics in CloudWatch's embedded format (EMF), and structured log lines, through powertools.

Both are lines on standard output: they cost no call, and a function that is cut off loses only what it had not flushed.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from threading import Lock

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from lowtide.core.masking import masked
from lowtide.core.model import utc_text

NAMESPACE = "lowtide"

_TEXT_CHARACTERS = 200
"""Room for an id or a reason; a prompt that strays into a field is cut off."""
_LIST_ITEMS = 20
_PRIVATE = frozenset(
    {"answer", "api_key", "authorization", "body", "content", "input", "key", "message", "messages", "output", "prompt"}
    | {"request", "response", "secret", "task", "text"}
)
"""Names of fields that are withheld, whatever they hold."""
_TAKEN = frozenset(logging.makeLogRecord({}).__dict__) | {"asctime", "level", "location", "service", "timestamp"}
"""Names that a log record or powertools uses itself."""


class EmfMetrics:
    """A ports.Metrics. Every metric has the dimension ``deployment`` and those it is counted with, and no other:
    CloudWatch sums over no dimension by itself, so an alarm names the same ones.

    Counts are summed and published by ``flush``, at the end of an invocation. A count of 0 is published as 0, which is
    how silence and health are told apart. Names that end in ``_s`` are published in seconds.
    """

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._sums: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
        self._lock = Lock()
        self._logger = Logger(service=NAMESPACE, logger_handler=_Output(), utc=True, use_rfc3339=True)

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        with self._lock:
            sums = self._sums.setdefault(tuple(sorted(dimensions.items())), {})
            sums[name] = sums.get(name, 0) + value

    def log(self, event: str, **fields: object) -> None:
        """Withholds fields whose name says prompt, answer or key, cuts long texts, masks keys in what is left."""
        plain = {
            f"{name}_" if name in _TAKEN else name: "(withheld)" if name in _PRIVATE else _plain(value)
            for name, value in fields.items()
        }
        self._logger.info(event, extra=plain | {"deployment": self._deployment})

    def flush(self) -> None:
        """Publishes what was counted since the last time, one line for each set of dimensions."""
        with self._lock:
            counted, self._sums = self._sums, {}
        for dimensions, sums in counted.items():
            # An empty service keeps powertools from adding a dimension of its own.
            line = AmazonCloudWatchEMFProvider(namespace=NAMESPACE, service="")
            line.add_dimension("deployment", self._deployment)
            for dimension, of in dimensions:
                line.add_dimension(dimension, masked(of))
            for name, value in sums.items():
                unit = MetricUnit.Seconds if name.endswith("_s") else MetricUnit.Count
                line.add_metric(name, unit, value)
            sys.stdout.write(json.dumps(line.serialize_metric_set()) + "\n")


class _Output(logging.Handler):
    """Standard output as it is at the moment: powertools keeps one logger, and this handler, for the process's life."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stdout.write(self.format(record) + "\n")


def _plain(value: object) -> object:
    """What a log line may hold of a value: numbers, moments, short texts, and few of them."""
    match value:
        case None | bool() | int() | float():
            return value
        case Decimal():
            return str(value)
        case datetime():
            return utc_text(value)
        case str():
            return masked(value)[:_TEXT_CHARACTERS]
        case Mapping():
            return {str(name): number for name, number in value.items() if isinstance(number, int | float)}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in list(value)[:_LIST_ITEMS]]
        case _:
            return f"({type(value).__name__})"
