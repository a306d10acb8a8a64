"""``lowtide demo``: the day, what happened in it, and what it cost."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from lowtide_local.demo.play import Day, Watcher, play
from lowtide_local.disk import make_directory

from .demo_engines import EngineName
from .stop import ExitCode
from .summary import print_summary

OUT = Path("out")


TASKS = {EngineName.EMBEDDED: 400, EngineName.MOTO: 100}
"""moto's queues slow down with their depth."""


def demo_command(*, tasks: int | None, seed: int, engine: EngineName, as_json: bool) -> ExitCode:
    """Fails where the reconciliation does not hold."""
    make_directory(OUT)
    count = TASKS[engine] if tasks is None else tasks
    console = Console(highlight=False)
    if not as_json:
        console.print(f"A day with {count} tasks on the {engine.value} engine, against the simulated provider\n")
    with _watcher() as watch:
        day = _play(engine, count, seed, watch)
    report = day.report
    if as_json:
        document = report.receipt_document()
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        console.print("[bold]What went wrong on purpose[/]")
        for moment in day.moments:
            console.print(f"{moment.at:%H:%M:%S}  {moment.what}", soft_wrap=True)
        console.print()
        print_summary(report, console)
        console.print(
            f"\nfor a manager: {OUT / 'report.html'} · for a program: receipt.json and results.jsonl beside it"
        )
    return ExitCode.DONE if report.reconciled else ExitCode.FAILURE


def _play(engine: EngineName, tasks: int, seed: int, watch: Watcher) -> Day:
    match engine:
        case EngineName.EMBEDDED:
            with tempfile.TemporaryDirectory() as state:
                return play(tasks, seed, Path(state), OUT, watch)
        case EngineName.MOTO:
            # moto and time-machine are development tools: they come with a clone, not with an installed lowtide.
            from lowtide_local.stack.day import play_on_moto  # noqa: PLC0415

            return play_on_moto(tasks, seed, OUT, watch)


@contextmanager
def _watcher() -> Iterator[Watcher]:
    """A bar on a terminal, nothing elsewhere: the day is over in seconds."""
    if not sys.stderr.isatty():
        yield lambda _now, _sent, _all: None
        return
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("00:00", total=None)

        def show(now: datetime, sent: int, everything: int) -> None:
            bar.update(line, description=f"{now:%H:%M}", completed=sent, total=everything)

        yield show
