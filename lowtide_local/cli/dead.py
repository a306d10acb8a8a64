"""``lowtide dead list`` and ``dead show``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import orjson

from lowtide.core.dead import DeadFilter
from lowtide.core.errors import NotFound
from lowtide.core.model import utc_text
from lowtide.core.task_rows import TaskRow
from lowtide.steps.deliver import document_of
from lowtide_local.operate.desk import opened
from lowtide_local.operate.whereabouts import task_row

from .moments import before
from .operate import DEFAULT_TENANT
from .showing import ago, console, facts, print_json, row, table
from .stop import ExitCode, Stop


@dataclass(frozen=True, slots=True)
class Which:
    """Of the dead, as it was said on the command line: ``names``, or filters, or ``every``."""

    code: str | None
    tenant: str | None
    type: str | None
    older_than: str | None
    newer_than: str | None
    names: tuple[str, ...] = ()
    limit: int | None = None
    every: bool = False

    @property
    def filters(self) -> bool:
        return any((self.code, self.tenant, self.type, self.older_than, self.newer_than))

    def wanted(self, now: datetime) -> DeadFilter:
        return DeadFilter(
            code=self.code,
            tenant=self.tenant,
            type=self.type,
            since=None if self.newer_than is None else before(now, self.newer_than, "--newer-than"),
            until=None if self.older_than is None else before(now, self.older_than, "--older-than"),
        )


def dead_list_command(where: tuple[str | None, str | None], which: Which, limit: int, *, as_json: bool) -> ExitCode:
    with opened(*where) as desk:
        now = desk.system.clock.now()
        found = list(islice(desk.dead_tasks.find(which.wanted(now)), limit + 1))
    rows, more = found[:limit], len(found) > limit
    if as_json:
        print_json({"dead": [_listed(each) for each in rows], "more": more})
        return ExitCode.DONE
    out = console()
    if not rows:
        out.print("no dead task is like that" if which.filters else "no task is dead")
        return ExitCode.DONE
    shown = table("Dead tasks", "task", "tenant", "type", "code", "model", "attempts", "ago", "")
    for each in rows:
        died = ago(each.settled_at or each.accepted_at, now)
        note = "redriven, not taken up yet" if each.redriving else ""
        row(shown, each.task_id, each.tenant, each.type, each.error_code, each.model, each.attempt, died, note)
    out.print(shown)
    if more:
        out.print(f"and more: these are the last {limit} (--limit)")
    return ExitCode.DONE


def _listed(dead: TaskRow) -> dict[str, object]:
    return {
        "tenant": dead.tenant,
        "task_id": dead.task_id,
        "type": dead.type,
        "code": dead.error_code,
        "tier": dead.tier.value,
        "model": dead.model,
        "attempts": dead.attempt,
        "generation": dead.generation,
        "died_at": utc_text(dead.settled_at) if dead.settled_at else None,
        "redriven_and_not_taken_up": dead.redriving,
    }


def dead_show_command(
    where: tuple[str | None, str | None], name: str, tenant: str | None, *, as_json: bool
) -> ExitCode:
    whose = tenant or DEFAULT_TENANT
    with opened(*where) as desk:
        dead = task_row(desk, name, whose)
        if dead is None or not dead.buried:
            raise Stop(f"tenant {whose} has no dead task {name}")
        try:
            document = document_of(desk.system, dead)
        except NotFound:
            raise Stop(f"the letter of {name} has been removed (ResultRetentionDays): send the task anew") from None
    if document.letter is None:
        raise AssertionError("a dead task has its letter")
    letter = document.letter.model_dump(mode="json")
    if as_json:
        print_json(_listed(dead) | letter)
        return ExitCode.DONE
    out = console()
    for line in facts(_listed(dead) | letter["error"]):
        out.print(line, soft_wrap=True)
    out.print("", soft_wrap=True)
    out.print(orjson.dumps(letter["task"], option=orjson.OPT_INDENT_2).decode(), markup=False, soft_wrap=True)
    return ExitCode.DONE
