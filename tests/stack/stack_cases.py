"""The deployed stack as tests play it: a provider with a scenario, tasks sent, records read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lowtide.core.records import ResultRecord
from lowtide.core.tasks import TaskRow
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.run.reconcile import BilledLine, checks
from lowtide_local.run.records import figures, settled
from lowtide_local.simulator.scenario import Scenario
from lowtide_local.stack import template
from lowtide_local.stack.delivery import sqs_event
from lowtide_local.stack.line import Line
from lowtide_local.stack.runner import REGION, Stack, deployed

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
START = datetime(2026, 11, 2, 10, tzinfo=UTC)

SENDING = Callable[..., "Stage"]
OPEN: list[Stage] = []
"""The stages that are there at the moment."""


@contextmanager
def files_read_once() -> Iterator[None]:
    """Read each template once. Every stack would read the same one again."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(template, "read_yaml", cache(template.read_yaml))
        yield


@contextmanager
def stages() -> Iterator[SENDING]:
    """Makes the deployed stack, in fair weather unless a scenario says otherwise."""
    with ExitStack() as held:

        def make(scenario: Scenario | None = None, *deaths: Any, **options: Any) -> Stage:
            line, metrics = Line(scenario or Scenario(), START, *deaths), RecordedMetrics()
            given = {"metrics": metrics, **options}
            stack = held.enter_context(deployed(TEMPLATE, start=START, http_client=line.client, **given))
            made = Stage(stack, line, metrics)
            OPEN.append(made)
            held.callback(made.close)
            return made

        yield make


def task(task_id: str, kind: str = "email_draft", text: str = "hello", **changes: Any) -> dict[str, Any]:
    """A HIGH one, unless its kind says otherwise."""
    body = {"model": changes.pop("model", "gpt-5-mini"), "messages": [{"role": "user", "content": f"{text} {task_id}"}]}
    request = {"url": "/v1/chat/completions", "body": body}
    return {"task_id": task_id, "type": kind, "tenant": "acme", "request": request} | changes


def low(task_id: str, text: str = "hello", **changes: Any) -> dict[str, Any]:
    return task(task_id, "content_generation", text, **changes)


def pack(*tasks: Any) -> dict[str, Any]:
    return {"tasks": list(tasks)}


@dataclass
class Stage:
    stack: Stack
    line: Line
    metrics: RecordedMetrics

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.stack.send(message)

    def play(self, *messages: Any) -> dict[str, ResultRecord]:
        """Sends, waits until all is quiet, audits; the records by task id."""
        self.send(*messages)
        self.stack.settle()
        return self.audited()

    def audited(self) -> dict[str, ResultRecord]:
        """What is promised of every day: one record a task, all that was billed accounted for, nothing left around."""
        system, view = self.stack.system(), self.stack.view()
        billed = [BilledLine.of(each) for each in self.line.provider.billing()["data"]]
        held = {check.name: check for check in checks(system, view, figures(system, view).receipt, billed)}
        assert [check for check in held.values() if not check.held] == []
        assert self.line.provider.state()["files"] == []
        assert self.stack.queues["StrandedQueue"].depth == 0
        return self.records()

    def records(self) -> dict[str, ResultRecord]:
        found = list(settled(self.stack.system(), self.stack.view()))
        records = {document.record.task_id: document.record for _, document in found}
        assert len(records) == len(found)
        return records

    def row(self, task_id: str) -> TaskRow:
        [row] = [row for row in self.stack.view().tasks.scan() if row.task_id == task_id]
        return row

    def rows(self) -> list[TaskRow]:
        return list(self.stack.view().tasks.scan())

    def asked(self, route: str) -> int:
        return self.line.provider.requests[route]

    def received(self, queue: str) -> dict[str, Any]:
        """The event of everything that waits on a queue, in hand from now on."""
        found = self.stack.queues[queue]
        return sqs_event(found.receive(10), found.arn, REGION)

    def letters(self) -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
        """By error code, which must differ."""
        letters = self.stack.letters()
        coded = {letter["error"]["code"]: (letter, attributes) for letter, attributes in letters}
        assert len(coded) == len(letters)
        return coded

    def close(self) -> None:
        """At the end of every test: whatever functions and operators did, the template's policies allow it."""
        OPEN.remove(self)
        asyncio.run(self.line.client.aclose())
        assert [str(each) for each in self.stack.roles.refused] == []
