"""``lowtide cancel``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from lowtide.core.batches import BatchVerdict, Unanswered
from lowtide.steps.cancel import CancelOutcome, cancel_tasks, stop_batch
from lowtide_local.operate.desk import Desk, opened
from lowtide_local.operate.looking import batch_named, names_a_batch
from lowtide_local.operate.whereabouts import task_row

from .operate import DEFAULT_TENANT
from .showing import console, print_json
from .stop import ExitCode, Stop

_MEANING = {
    CancelOutcome.CANCELLED: "cancelled",
    CancelOutcome.CANCELLING: "cancelled; its record follows when its message comes by",
    CancelOutcome.ENDED: "had ended before and stays as it ended",
    CancelOutcome.NEWER: "a newer release wrote it: cancel it with that release",
}
_UNKNOWN = "not known yet: the first task that comes with this id in 30 days is cancelled"


def cancel_command(
    where: tuple[str | None, str | None], names: Sequence[str], tenant: str | None, unanswered: str, *, as_json: bool
) -> ExitCode:
    distinct = list(dict.fromkeys(names))
    batches = [name for name in distinct if names_a_batch(name, tenant)]
    tasks = [name for name in distinct if name not in batches]
    with opened(*where) as desk:
        done = [_batch(desk, name, Unanswered(unanswered)) for name in batches]
        done += _tasks(desk, tasks, tenant or DEFAULT_TENANT)
        dropped = desk.metrics.total("replies_dropped")
    if as_json:
        print_json({"cancelled": done})
    else:
        for each in done:
            console().print(f"{each['kind']} {escape(each['name'])}: {escape(each['meaning'])}", soft_wrap=True)
    if late := [each["name"] for each in done if each["outcome"] == CancelOutcome.ENDED]:
        raise Stop(f"{len(late)} of {len(done)} had ended before: {', '.join(late)}")
    if newer := [each["name"] for each in done if each["outcome"] == CancelOutcome.NEWER]:
        raise Stop(f"a newer release wrote {len(newer)} of {len(done)}, cancel with that one: {', '.join(newer)}")
    if dropped:
        raise Stop(f"all were cancelled, but {dropped:.0f} replies could not be sent; their records say so as well")
    return ExitCode.DONE


def _batch(desk: Desk, name: str, unanswered: Unanswered) -> dict[str, Any]:
    row = batch_named(desk, name)
    if row is None:
        raise Stop(f"there is no batch {name}; a provider's id is known while its batch is open")
    decision = stop_batch(desk.system, row.batch_id, unanswered)
    ended = decision.verdict is BatchVerdict.REFUSED
    rest = "goes into a later batch" if unanswered is Unanswered.AGAIN else "is cancelled with it"
    return {
        "kind": "batch",
        "name": name,
        "outcome": (CancelOutcome.ENDED if ended else CancelOutcome.CANCELLING).value,
        "meaning": _MEANING[CancelOutcome.ENDED]
        if ended
        else f"the poller cancels it at its next turn; what it has answered by then is kept, the rest {rest}",
    }


def _tasks(desk: Desk, names: Sequence[str], tenant: str) -> list[dict[str, Any]]:
    known = {name for name in names if task_row(desk, name, tenant) is not None}
    outcomes = cancel_tasks(desk.system, [(tenant, name) for name in names])
    return [
        {
            "kind": "task",
            "name": name,
            "tenant": tenant,
            "outcome": outcome.value,
            "meaning": _MEANING[outcome] if name in known else _UNKNOWN,
        }
        for name, outcome in zip(names, outcomes, strict=True)
    ]
