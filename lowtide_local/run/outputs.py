"""The files of a run, each written whole or not at all."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from lowtide import __version__
from lowtide.core.batches import BatchRow
from lowtide.core.tasks import TaskState
from lowtide.ports import System
from lowtide.steps.deliver import document_of
from lowtide.steps.unread import unread_key
from lowtide_local.engine.engine import Engine
from lowtide_local.report.files import write_jsonl
from lowtide_local.report.run_report import RefusedLine, RunReport
from lowtide_local.report.write import write_receipt, write_report

from .feed import refusals
from .reconcile import BilledLine, checks, unchecked
from .records import Tick, batch_stories, figures, settled, silent

FIRST_REFUSED = 5
"""Number of refused lines that a report names. refused.jsonl has all of them."""


def report_of(
    system: System, engine: Engine, title: str, billed: Sequence[BilledLine] | str, tick: Tick = silent
) -> RunReport:
    """Add up the run. ``billed`` is the provider's bill, or why there is none. One endpoint answers for all providers,
    so that they have the same prices."""
    summed = figures(system, engine, tick)
    told = None if isinstance(billed, str) else billed
    return RunReport(
        title=title,
        receipt=summed.receipt,
        tiers=summed.tiers,
        batches=batch_stories(engine),
        dead=summed.dead,
        checks=checks(system, engine, summed.receipt, told, tick),
        finished_at=system.clock.now(),
        versions={"lowtide": __version__, "python": platform.python_version(), "routes": system.routes.version},
        unchecked=unchecked(engine, billed),
        unpriced=summed.unpriced,
        prices=system.seller(next(iter(system.routes.providers))).source,
        refused=[
            RefusedLine(each["line"], each["error"]["code"], each["error"]["message"])
            for each in islice(refusals(engine), FIRST_REFUSED)
        ],
    )


def write_outputs(
    system: System, engine: Engine, out: Path, report: RunReport, tell: Callable[[str], Tick] = lambda _name: silent
) -> None:
    """Write the files of a run. Raises OSError. The receipt comes last, so that a reader who sees it finds the records.

    ``tell`` is called with the name of each file, and what it returns is called for every row.
    """
    write_jsonl(out / "results.jsonl", _records(system, engine, tell("results.jsonl")))
    write_jsonl(out / "dead.jsonl", _letters(system, engine, tell("dead.jsonl")))
    write_jsonl(out / "refused.jsonl", refusals(engine))
    if any(row.tally.unread for row in engine.batches.scan()):
        write_jsonl(out / "unreadable.jsonl", _unread(engine))
    write_report(out / "report.html", report)
    write_receipt(out / "receipt.json", report)


def _records(system: System, engine: Engine, tick: Tick) -> Iterator[Any]:
    for _, document in settled(system, engine, tick):
        yield document.record.model_dump_json().encode()


def _unread(engine: Engine) -> Iterator[bytes]:
    """Lines of result files that settled nothing, as they came, each with its batch."""
    for row in engine.batches.scan():
        if row.tally.unread:
            for raw in engine.objects.lines(unread_key(row.batch_id)):
                yield orjson.dumps({"batch_id": _provider_id(row), **orjson.loads(raw)})


def _provider_id(row: BatchRow) -> str:
    known = row.provider_batch
    return known.id if known is not None and known.id else row.batch_id


def _letters(system: System, engine: Engine, tick: Tick) -> Iterator[Any]:
    for row in engine.tasks.scan():
        tick()
        if row.state is TaskState.DEAD and (letter := document_of(system, row).letter) is not None:
            yield letter.model_dump_json().encode()
