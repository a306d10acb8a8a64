"""The files of a run, each written whole or not at all."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from lowtide.core.batches import BatchRow
from lowtide.core.tasks import TaskState
from lowtide.ports import System
from lowtide.steps.deliver import document_of
from lowtide.steps.unread import unread_key
from lowtide_local.engine.engine import Engine
from lowtide_local.report.files import write_jsonl
from lowtide_local.report.run_report import RunReport
from lowtide_local.report.write import write_receipt, write_report

from .feed import refusals
from .reconcile import BilledLine, checks
from .records import batch_stories, figures, settled


def report_of(system: System, engine: Engine, title: str, billed: Sequence[BilledLine] | None) -> RunReport:
    summed = figures(system, engine)
    return RunReport(
        title=title,
        receipt=summed.receipt,
        tiers=summed.tiers,
        batches=batch_stories(engine),
        dead=summed.dead,
        checks=checks(system, engine, summed.receipt, billed),
        finished_at=system.clock.now(),
        versions={"lowtide": version("lowtide"), "python": platform.python_version(), "routes": system.routes.version},
    )


def write_outputs(system: System, engine: Engine, out: Path, report: RunReport) -> None:
    """Raises OSError. The receipt comes last but one, so that who sees it finds the records."""
    write_jsonl(out / "results.jsonl", _records(system, engine))
    write_jsonl(out / "dead.jsonl", _letters(system, engine))
    write_jsonl(out / "refused.jsonl", refusals(engine))
    if any(row.tally.unread for row in engine.batches.scan()):
        write_jsonl(out / "unreadable.jsonl", _unread(engine))
    write_report(out / "report.html", report)
    write_receipt(out / "receipt.json", report)


def _records(system: System, engine: Engine) -> Iterator[Any]:
    for _, document in settled(system, engine):
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


def _letters(system: System, engine: Engine) -> Iterator[Any]:
    for row in engine.tasks.scan():
        if row.state is TaskState.DEAD and (letter := document_of(system, row).letter) is not None:
            yield letter.model_dump_json().encode()
