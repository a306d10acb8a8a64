"""``lowtide status`` and ``lowtide batches``."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.markup import escape

from lowtide.core.batches import BatchRow, BatchState
from lowtide.core.task_rows import SETTLED
from lowtide.core.wording import span
from lowtide_local.operate.desk import Desk, opened
from lowtide_local.operate.looking import (
    batch_document,
    batch_named,
    names_a_batch,
    overview,
)
from lowtide_local.operate.whereabouts import task_document, task_row
from lowtide_local.operate.yielding import Yielding

from .operate import DEFAULT_TENANT
from .showing import ago, console, facts, print_json, row, table
from .stop import ExitCode, Stop, usage

EVERY_S = 5.0
"""Between two looks: an assembler's or a poller's turn comes once a minute at the most."""


def status_command(
    where: tuple[str | None, str | None], name: str | None, tenant: str | None, *, watch: bool, as_json: bool
) -> ExitCode:
    if watch and as_json:
        raise usage("--json prints one document and --watch one after the other; give one of them")
    with opened(*where) as desk:
        if as_json:
            print_json(_document(desk, name, tenant)[0])
            return ExitCode.DONE
        out = console()
        ended = _show(desk, name, tenant, out)
        while watch and not ended:
            time.sleep(EVERY_S)
            if out.is_terminal:
                out.clear()
            ended = _show(desk, name, tenant, out)
    return ExitCode.DONE


def batches_command(where: tuple[str | None, str | None], *, as_json: bool) -> ExitCode:
    with opened(*where) as desk:
        rows = desk.system.batches.active()
        if as_json:
            print_json({"batches": [batch_document(each) for each in rows]})
        elif rows:
            console().print(_batches(desk, rows))
        else:
            console().print("no batch is open")
    return ExitCode.DONE


def _document(desk: Desk, name: str | None, tenant: str | None) -> tuple[dict[str, Any], bool]:
    """What there is to say, and whether that was the end of it."""
    if name is None:
        return overview(desk).document(), False
    if names_a_batch(name, tenant):
        batch = batch_named(desk, name)
        if batch is None:
            raise Stop(f"there is no batch {name}; a provider's id is known while its batch is open")
        return batch_document(batch), batch.state is BatchState.DONE
    task = task_row(desk, name, tenant or DEFAULT_TENANT)
    if task is None:
        whose = tenant or DEFAULT_TENANT
        raise Stop(
            f"task {name} of tenant {whose} is not known: it waits in a queue for its first worker, or was never sent, "
            "or is another tenant's (--tenant)"
        )
    return task_document(desk, task), task.state in SETTLED


def _show(desk: Desk, name: str | None, tenant: str | None, out: Console) -> bool:
    if name is None:
        _overview(desk, out)
        return False
    document, ended = _document(desk, name, tenant)
    timeline = document.pop("timeline", [])
    if (answer := document.get("answer")) is not None:
        document["answer"] = _place(answer)
    for line in facts(document):
        out.print(line, soft_wrap=True)
    for each in timeline:
        out.print(f"[dim]{each['at']}[/]  {escape(each['what'])}", soft_wrap=True)
    return ended


def _place(answer: dict[str, Any]) -> str:
    """Where an answer lies, for a person; ``lowtide results`` reads it."""
    if answer["in"] == "row":
        return f"on its row in table {answer['table']}"
    end = answer["offset"] + answer["length"] - 1
    return f"s3://{answer['bucket']}/{answer['key']}, bytes {answer['offset']} to {end}"


def _overview(desk: Desk, out: Console) -> None:
    seen = overview(desk)
    queues = table(f"Queues of {escape(desk.system.deployment)}", "queue", "messages", "in flight", "delayed")
    for name, depth in seen.queues.items():
        row(queues, name, depth.visible, depth.in_flight, depth.delayed)
    out.print(queues, "")
    for hold in seen.holds:
        since = ago(hold.placed_at, desk.system.clock.now())
        out.print(f"[bold]paused[/] {escape(hold.scope.text)}, {since} ago: {escape(hold.reason)}", soft_wrap=True)
    if seen.yielding is not None:
        out.print(_making_room(seen.yielding), soft_wrap=True)
    if not seen.parts and not seen.batches:
        out.print("no part and no batch is open")
        return
    work = table("LOW tasks off their queue", "where", "parts", "batches", "tasks")
    for name, count in seen.parts.items():
        row(work, f"parts, {name}", count.rows, None, count.tasks)
    for name, count in seen.batches.items():
        row(work, f"batches, {name}", None, count.rows, count.tasks)
    out.print(work)


def _making_room(seen: Yielding) -> str:
    waiting = f"[bold]CRITICAL waits[/] {span(seen.oldest_s)}: {', '.join(seen.tiers)} begin nothing"
    if not seen.providers:
        return waiting
    return f"{waiting}, no batch is submitted to {escape(', '.join(seen.providers))} but for a deadline"


def _batches(desk: Desk, rows: list[BatchRow]) -> Any:
    now = desk.system.clock.now()
    shown = table("Open batches", "batch", "provider's id", "model", "state", "requests", "age", "due")
    for each in rows:
        provider = each.provider_batch
        late = each.tightest_deadline <= now
        row(
            shown,
            each.batch_id,
            provider.id if provider else None,
            each.lot.model,
            f"{each.state.value}, cancelled" if each.stop else each.state.value,
            each.requests,
            ago(each.created_at, now),
            "late" if late else f"in {ago(now, each.tightest_deadline)}",
        )
    return shown
