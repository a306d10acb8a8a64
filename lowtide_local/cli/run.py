"""``lowtide run``: what it prints while it works and when it is done."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from lowtide_local.report.run_report import RunReport
from lowtide_local.run.command import Progress, Watcher, check_input, run
from lowtide_local.run.endpoint import Endpoint

from .stop import ExitCode
from .summary import print_summary

EVERY_S = 5.0
"""Between lines of progress where there is no terminal."""


def run_command(tasks: Path, out: Path, base_url: str | None, *, batch: bool, as_json: bool) -> ExitCode:
    check_input(tasks)
    endpoint = Endpoint.of(base_url)
    with _watcher() as watch:
        report = asyncio.run(run(tasks, out, endpoint, batch=batch, watch=watch))
    if as_json:
        document = report.receipt.document([story.batch for story in report.batches], reconciled=report.reconciled)
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        print_summary(report)
        Console().print(f"written to {out}: results, dead, refused (.jsonl), receipt.json, report.html", soft_wrap=True)
    return _exit_code(report)


def _exit_code(report: RunReport) -> ExitCode:
    return ExitCode.SOME_DEAD if report.receipt.dead or report.receipt.refused else ExitCode.DONE


@contextmanager
def _watcher() -> Iterator[Watcher]:
    """Progress goes to stderr: a bar on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        with _bar() as watch:
            yield watch
        return
    shown = [0.0]

    def lines(progress: Progress) -> None:
        if time.monotonic() - shown[0] >= EVERY_S:
            shown[0] = time.monotonic()
            sys.stderr.write(
                f"{progress.answered} answered, {progress.dead} dead of {progress.accepted} accepted"
                f"{'' if progress.fed else ' so far'}\n"
            )

    yield lines


@contextmanager
def _bar() -> Iterator[Watcher]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("reading", total=None)

        def show(progress: Progress) -> None:
            ended = progress.answered + progress.dead
            bar.update(
                line, description="answering", completed=ended, total=progress.accepted if progress.fed else None
            )

        yield show
