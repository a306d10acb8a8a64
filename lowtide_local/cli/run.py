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
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from lowtide_local.report.run_report import RunReport
from lowtide_local.run.endpoint import Endpoint
from lowtide_local.run.onlooker import Onlooker, Progress
from lowtide_local.run.reading import check_input

from .signals import interruptible
from .stop import ExitCode
from .summary import print_summary

EVERY_S = 5.0
"""Between lines of progress where there is no terminal, while something moves."""

STILL_S = 60.0
"""And while nothing does."""


def run_command(tasks: Path, out: Path, base_url: str | None, *, batch: bool, as_json: bool) -> ExitCode:
    check_input(tasks, out)
    endpoint = Endpoint.of(base_url)
    # The provider's SDK takes half a second to load: what is wrong with the command is told before.
    from lowtide_local.run.command import run  # noqa: PLC0415

    with _onlooker() as onlooker:
        if endpoint.at.note is not None:
            onlooker.notice(endpoint.at.note)
        work = run(tasks, out, endpoint, batch=batch, onlooker=onlooker)
        report = asyncio.run(interruptible(work, f"what was done is kept in {out}: repeat the command to go on"))
    if as_json:
        document = report.receipt.document([story.batch for story in report.batches], reconciled=report.reconciled)
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        print_summary(report)
        Console(highlight=False).print(
            f"written to {escape(str(out))}: results, dead, refused (.jsonl), receipt.json, report.html", soft_wrap=True
        )
    return _exit_code(report)


def _exit_code(report: RunReport) -> ExitCode:
    return ExitCode.SOME_DEAD if report.receipt.dead or report.receipt.refused else ExitCode.DONE


@contextmanager
def _onlooker() -> Iterator[Onlooker]:
    """Progress goes to stderr: a bar on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        yield _Shown(bar, bar.add_task("reading", total=None))


class _Lines:
    """One when the file is read, then one whenever something has moved, but not too many."""

    def __init__(self) -> None:
        self._said = ""
        self._at = time.monotonic()
        self._fed = False

    def progress(self, progress: Progress) -> None:
        text = (
            f"{progress.answered} answered, {progress.dead} dead of {progress.accepted} accepted"
            f"{'' if progress.fed else ' so far'}"
        )
        waited = time.monotonic() - self._at
        if progress.fed is not self._fed or waited >= (STILL_S if text == self._said else EVERY_S):
            self._said, self._at, self._fed = text, time.monotonic(), progress.fed
            sys.stderr.write(text + "\n")

    def notice(self, text: str) -> None:
        sys.stderr.write(text + "\n")


class _Shown:
    def __init__(self, bar: Bar, line: TaskID) -> None:
        self._bar = bar
        self._line = line

    def progress(self, progress: Progress) -> None:
        self._bar.update(
            self._line,
            description="answering",
            completed=progress.answered + progress.dead,
            total=progress.accepted if progress.fed else None,
        )

    def notice(self, text: str) -> None:
        self._bar.console.print(escape(text), soft_wrap=True)
