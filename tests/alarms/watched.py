"""The deployed stack on moto with its metrics watched: what its real handlers print, and what SQS and Lambda tell."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lowtide_local.simulator.scenario import Scenario
from lowtide_local.stack.runner import WORK_QUEUES
from tests.alarms.cloudwatch import CloudWatch
from tests.stack.stack_cases import START, Stage, files_read_once, stages

QUEUES = {f"{name}Name": name for name in (*WORK_QUEUES, "DeadLetterQueue", "StrandedQueue", "MissedRunsQueue")}
FUNCTIONS = {
    f"{name}Name": name
    for name in ("Ingest", "ConsumerCritical", "ConsumerHigh", "ConsumerNormal", "Assembler", "Poller", "Reporter")
}
FUNCTIONS |= dict.fromkeys(("WebhookName", "HintedName"), "no-webhooks")
DEPLOYMENT = "lowtide-on-moto"
QUIET_SCHEDULES = frozenset({"Reporter", "Assembler", "Poller"})
"""Functions that a scene of real-time tasks does without: a simulated hour passes in a second then."""


@dataclass
class Watched:
    stage: Stage
    cloudwatch: CloudWatch
    printed: io.StringIO
    seen: int = 0
    read: int = 0
    received: Counter[str] = field(default_factory=Counter)

    @property
    def now(self) -> datetime:
        return self.stage.stack.now

    def send(self, *messages: Any) -> None:
        self.stage.send(*messages)

    def run(self, minutes: int, *, every: int = 1) -> None:
        """AWS's own metrics are taken once a minute, or less often where a scene takes days."""
        for _ in range(minutes // every):
            with redirect_stdout(self.printed):
                self.stage.stack.wait(60 * every)
            self._look()

    def invoke(self, function: str) -> None:
        with redirect_stdout(self.printed):
            self.stage.stack.invoke(function)

    def values(self, metric: str, **dimensions: str) -> list[float]:
        """What the handlers have published of a metric."""
        name = ("lowtide", metric, frozenset({"deployment": DEPLOYMENT, **dimensions}.items()))
        return [value for _, value, _ in self.cloudwatch.points.get(name, [])]

    def ringing(self) -> set[str]:
        return self.cloudwatch.ringing(self.now)

    def rang(self, alarm: str) -> list[datetime]:
        return self.cloudwatch.rang(alarm, START, self.now)

    def _look(self) -> None:
        now, stack, put = self.now, self.stage.stack, self.cloudwatch.put
        for name in QUEUES.values():
            queue = stack.queues[name]
            put("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue.visible, now, QueueName=name)
            put("AWS/SQS", "NumberOfMessagesReceived", queue.received - self.received[name], now, QueueName=name)
            self.received[name] = queue.received
            put("AWS/SQS", "ApproximateAgeOfOldestMessage", queue.oldest_s(now) or 0.0, now, QueueName=name)
        for run in stack.runs[self.seen :]:
            milliseconds = (run.ended - run.began).total_seconds() * 1000
            # Lambda stamps a point with the invocation's beginning and sends it at its end (AWS Lambda Developer Guide,
            # "Viewing metrics for Lambda functions").
            for metric, value in (("Errors", int(run.failed)), ("Duration", milliseconds)):
                put("AWS/Lambda", metric, value, run.began, told_at=run.ended, FunctionName=run.function)
        self.seen = len(stack.runs)
        text = self.printed.getvalue()
        self.cloudwatch.take(text[self.read :])
        self.read = len(text)


@contextmanager
def watching() -> Iterator[Callable[..., Watched]]:
    with files_read_once(), stages() as make:

        def begin(scenario: Scenario | None = None, *deaths: Any, **options: Any) -> Watched:
            stage = make(scenario, *deaths, metrics=None, **{"by_hand": QUIET_SCHEDULES, **options})
            return Watched(stage, CloudWatch({"Deployment": DEPLOYMENT, **QUEUES, **FUNCTIONS}), io.StringIO())

        yield begin
