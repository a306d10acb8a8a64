"""Metrics in CloudWatch's embedded format (EMF), and structured log lines, through powertools.

Both are lines on standard output: they cost no call, and a function that is cut off loses only what it had not flushed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from threading import Lock
from time import monotonic

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from lowtide.core import trace
from lowtide.core.log_levels import level_of
from lowtide.core.masking import masked
from lowtide.core.model import utc_text

NAMESPACE = "lowtide"

FLUSH_AFTER_S = 10.0
"""How often an invocation that goes on publishes: within an alarm's shortest period, and in few lines."""
_VALUES_A_LINE = 100
"""The most that CloudWatch takes of one metric in a line."""

Dimensions = tuple[tuple[str, str], ...]

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

    Counts are summed and published by ``flush``, at the end of an invocation, and after every ``FLUSH_AFTER_S`` of it:
    a process that is killed loses no more. A count of 0 is published as 0, which is how silence and health are told
    apart. Names that end in ``_s`` are published in seconds. What is measured is published value by value, for its
    percentiles.
    """

    def __init__(self, deployment: str, elapsed_s: Callable[[], float] = monotonic) -> None:
        self._deployment = deployment
        self._elapsed_s = elapsed_s
        self._since_s: float | None = None
        """When the first of what is not published yet was counted."""
        self._sums: dict[Dimensions, dict[str, float]] = {}
        self._values: dict[Dimensions, dict[str, list[float]]] = {}
        self._lock = Lock()
        self._logger = Logger(service=NAMESPACE, logger_handler=_Output(), utc=True, use_rfc3339=True)

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        with self._lock:
            sums = self._sums.setdefault(tuple(sorted(dimensions.items())), {})
            sums[name] = sums.get(name, 0) + value
        self._flush_if_due()

    def measure(self, name: str, value: float, **dimensions: str) -> None:
        with self._lock:
            self._values.setdefault(tuple(sorted(dimensions.items())), {}).setdefault(name, []).append(value)
        self._flush_if_due()

    def log(self, event: str, **fields: object) -> None:
        """Withholds fields whose name says prompt, answer or key, cuts long texts, masks keys in what is left. The
        level is the event's own (core/log_levels.py).

        The line bears the trace of the task that is being worked on, and X-Ray's of the invocation (``xray_trace_id``,
        which powertools reads from the environment for each line).
        """
        plain = {
            f"{name}_" if name in _TAKEN else name: "(withheld)" if name in _PRIVATE else _plain(value)
            for name, value in fields.items()
        }
        if (traceparent := trace.current()) is not None:
            plain.setdefault("traceparent", traceparent)
        logger = self._logger
        write = {"INFO": logger.info, "WARNING": logger.warning, "ERROR": logger.error}[level_of(event)]
        write(event, extra=plain | {"deployment": self._deployment})

    def flush(self) -> None:
        """Publishes what was counted since the last time: a line for each set of dimensions, and one more for every
        hundred values of a metric that was measured."""
        with self._lock:
            counted, self._sums = self._sums, {}
            measured, self._values = self._values, {}
            self._since_s = None
        for dimensions, sums in counted.items():
            self._publish(dimensions, {name: [float(value)] for name, value in sums.items()})
        for dimensions, by_name in measured.items():
            for name, values in by_name.items():
                for at in range(0, len(values), _VALUES_A_LINE):
                    self._publish(dimensions, {name: values[at : at + _VALUES_A_LINE]})

    def _flush_if_due(self) -> None:
        now_s = self._elapsed_s()
        with self._lock:
            if self._since_s is None:
                self._since_s = now_s
            due = now_s - self._since_s >= FLUSH_AFTER_S
        if due:
            self.flush()

    def _publish(self, dimensions: Dimensions, values: Mapping[str, list[float]]) -> None:
        # An empty service keeps powertools from adding a dimension of its own.
        line = AmazonCloudWatchEMFProvider(namespace=NAMESPACE, service="")
        line.add_dimension("deployment", self._deployment)
        for dimension, of in dimensions:
            line.add_dimension(dimension, masked(of))
        metrics = {
            name: {"Unit": (MetricUnit.Seconds if name.endswith("_s") else MetricUnit.Count).value, "Value": each}
            for name, each in values.items()
        }
        published = dict(line.serialize_metric_set(metrics=metrics))
        if (trace_id := _xray_trace_id()) is not None:
            published["xray_trace_id"] = trace_id  # as powertools names it in log lines
        sys.stdout.write(json.dumps(published) + "\n")


class _Output(logging.Handler):
    """Standard output as it is at the moment: powertools keeps one logger, and this handler, for the process's life."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stdout.write(self.format(record) + "\n")


def _xray_trace_id() -> str | None:
    """X-Ray's id of this invocation, which Lambda puts anew into the environment for each."""
    root, _, _ = os.environ.get("_X_AMZN_TRACE_ID", "").partition(";")
    return root.removeprefix("Root=") or None


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
