"""The demo's day through the deployed handlers: publishers, the event sources of template.yaml, the provider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from lowtide_local.demo.day import arrivals
from lowtide_local.demo.moments import Moment, batches_befallen, storm
from lowtide_local.demo.play import START, Day, Watcher
from lowtide_local.demo.weather import weather
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.report.run_report import Check
from lowtide_local.run.outputs import report_of, write_outputs
from lowtide_local.run.reconcile import BilledLine

from .line import Death, Line
from .runner import Stack, deployed
from .view import StackView

TITLE = "A day with lowtide's functions on a fake AWS"
PARAMETERS = {"AssemblerSchedule": "rate(10 minutes)", "PollerSchedule": "rate(10 minutes)"}
"""Half as often as by default: on moto a run that finds nothing to do takes as long as one that does."""


DEATHS = (
    Death("POST /v1/chat/completions", 20, "calls were in flight"),
    Death("POST /v1/batches", 1, "a batch was created, and its id not yet written down"),
    Death("GET /v1/files/{id}/content", 1, "a batch's answers were on their way"),
)


def play(template: Path, tasks: int, seed: int, out: Path, watch: Watcher) -> Day:
    """As ``demo.play.play``, on moto; the day's files are written to ``out``."""
    line, metrics = Line(weather(seed), START, *DEATHS), RecordedMetrics()
    with deployed(template, start=START, http_client=line.client, parameters=PARAMETERS, metrics=metrics) as stack:
        everything = arrivals(tasks, seed)
        for sent, arrival in enumerate(everything, start=1):
            stack.wait_until(START + timedelta(seconds=arrival.at_s))
            stack.send(arrival.body, arrival.tenant)
            watch(stack.now, sent, len(everything))
        stack.settle()
        system, view = stack.system(), stack.view()
        billed = [BilledLine.of(each) for each in line.provider.billing()["data"]]
        report = report_of(system, cast("Any", view), TITLE, billed)
        report = replace(report, checks=[*report.checks, *_checks(stack, line)])
        write_outputs(system, cast("Any", view), out, report)
        return Day(report, _moments(line, metrics, view))


def _checks(stack: Stack, line: Line) -> Iterator[Check]:
    files = line.provider.state()["files"]
    yield Check("nothing is left lying at the provider", not files, f"{len(files)} files left")
    stranded = stack.queues["StrandedQueue"].depth
    yield Check("SQS gave up on no message", stranded == 0, f"{stranded} stranded")


def _moments(line: Line, metrics: RecordedMetrics, view: StackView) -> list[Moment]:
    moments = [Moment(died.at, f"{died.function} was killed: {died.death.told}") for died in line.died]
    moments += [*batches_befallen(view.batches.scan()), storm(START, int(metrics.total("calls_put_off")))]
    return sorted(moments, key=lambda moment: moment.at)
