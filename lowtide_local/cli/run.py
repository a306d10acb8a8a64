"""``lowtide run``: from the command line to the exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.markup import escape

from lowtide_local.report.run_report import RunReport
from lowtide_local.run.endpoint import Endpoint
from lowtide_local.run.reading import DATABASE, STATE, check_input

from .progress import onlooker
from .repeat import command_line
from .signals import Interruptible
from .stop import ExitCode
from .summary import print_summary


def run_command(
    tasks: Path, out: Path, base_url: str | None, *, batch: bool, prices: str | None, as_json: bool
) -> ExitCode:
    def kept() -> str:
        if (out / STATE / DATABASE).exists():
            return f"what was done is kept in {out}: repeat the command to go on"
        return "nothing was begun: repeat the command to begin"

    with Interruptible(kept, command_line()) as signals:
        check_input(tasks, out)
        endpoint = Endpoint.of(base_url, prices=prices)
        # The pipeline takes half a second to load: what is wrong with the command is told before.
        from lowtide_local.run.command import run  # noqa: PLC0415

        with onlooker() as looking:
            if endpoint.note is not None:
                looking.notice(endpoint.note)
            report = signals.run(run(tasks, out, endpoint, batch=batch, onlooker=looking, at_once=signals.at_once))
        if as_json:
            document = report.receipt_document()
            sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        else:
            print_summary(report)
            Console(highlight=False).print(
                f"written to {escape(str(out))}: results, dead, refused (.jsonl), receipt.json, report.html",
                soft_wrap=True,
            )
    return exit_code(report)


def exit_code(report: RunReport) -> ExitCode:
    """Return the exit code. A check that could not be made changes nothing."""
    if not all(check.held for check in report.checks):
        return ExitCode.UNBALANCED
    return ExitCode.SOME_DEAD if report.receipt.dead or report.receipt.refused else ExitCode.DONE
