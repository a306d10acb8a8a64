"""Part claims: the tasks that a drain has put into a part are claimed for it, and what else came of a claim is owed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never, cast

from lowtide.core.errors import Unfinished
from lowtide.core.parts import RESCUED, PartRow, PartState
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import Carry, ClaimPart, Decision, TaskEvent, TaskRow, TaskState, Verdict
from lowtide.ports import Change, System

from .deliver import Delivery
from .newer import known_rows
from .scoop import Drawn, Scoop


def first_copies(slice_: Sequence[Drawn]) -> Iterable[Drawn]:
    """One line for each task, for the copy that is the first to claim it: the part must hold no other token."""
    firsts: dict[tuple[str, str, int], Drawn] = {}
    for drawn in slice_:
        task = drawn.task
        firsts.setdefault((task.key, task.content_hash, task.generation), drawn)
    return firsts.values()


def claim(system: System, part: PartRow, slice_: Sequence[Drawn], scoop: Scoop) -> None:
    """Claim each task for the part. What a message owes besides goes into the scoop."""
    now = system.clock.now()
    changes: list[Change[TaskRow, TaskEvent]] = [
        Change(drawn.task.key, ClaimPart(drawn.task, part.part_id)) for drawn in slice_
    ]
    granted = _granted(system, changes, slice_, scoop)
    carried, between = _take_over(system, part, granted)
    for drawn, made in granted:
        message, task = drawn.message, drawn.task
        row = carried.get(task.key, made.row)
        if row is None:
            raise AssertionError("a claim on no row makes the row")
        if task.key in between:
            scoop.held[message.id] = system.routes.batching.lease_s
        match made.verdict:
            case Verdict.CONFLICT:
                scoop.deliveries[message.id].append(Delivery.conflict(task, now))
            case Verdict.APPLIED | Verdict.REPEATED | Verdict.DUPLICATE:
                if (owed := Delivery.unneeded(task, row)) is not None:
                    scoop.deliveries[message.id].append(owed)
            case Verdict.CANCELLED:
                scoop.deliveries[message.id].append(Delivery.settled(task, row))
            case Verdict.BUSY | Verdict.NOT_YET:
                scoop.held[message.id] = system.routes.batching.lease_s
            case Verdict.STALE | Verdict.IN_VAIN:
                raise AssertionError(f"a claim cannot be {made.verdict}")
            case _:
                assert_never(made.verdict)


def _granted(
    system: System, changes: Sequence[Change[TaskRow, TaskEvent]], slice_: Sequence[Drawn], scoop: Scoop
) -> list[tuple[Drawn, Decision]]:
    """What became of each claim. One that fails keeps its message waiting, and not the others of the part."""
    claims: Sequence[object]
    try:
        claims = system.tasks.apply(changes, system.clock.now())
    except Unfinished as error:
        claims = error.outcomes
    granted = []
    for drawn, made in zip(slice_, claims, strict=True):
        with scoop.held_if_it_fails(system, [drawn.message]):
            if isinstance(made, Exception):
                raise made
            granted.append((drawn, cast("Decision", made)))
    return granted


def _take_over(
    system: System, part: PartRow, claims: Sequence[tuple[Drawn, Decision]]
) -> tuple[dict[str, TaskRow | None], frozenset[str]]:
    """Carry the tasks that an earlier drain claimed too late for its part: the batch, or the rescue, is through with
    it, and would have moved on every task that it knew of. Any copy of such a task carries it. Returns the rows of
    those carried, and the keys of those whose part is being rescued now: they are to come again when that is over."""
    staged: dict[str, tuple[AcceptedTask, TaskRow]] = {}
    for drawn, made in claims:
        task, row = drawn.task, made.row
        if row is None or made.verdict not in (Verdict.REPEATED, Verdict.DUPLICATE):
            continue
        if row.state is TaskState.STAGED and row.speaks_of(task):
            staged.setdefault(task.key, (task, row))
    holders = sorted({row.holder for _, row in staged.values() if row.holder is not None} - {part.part_id})
    held = [each for each in known_rows(system.parts, holders) if each is not None]
    done = frozenset(each.part_id for each in held if each.state is PartState.DONE)
    rescued = {each.part_id for each in held if each.batch_id == RESCUED} - done
    lost = [(task, row) for task, row in staged.values() if row.holder in done]
    carried: dict[str, TaskRow | None] = {}
    if lost:
        system.metrics.log("stragglers", part_id=part.part_id, tasks=len(lost))
        changes: list[Change[TaskRow, TaskEvent]] = [
            Change(task.key, Carry(done, part.part_id, task), row) for task, row in lost
        ]
        decisions = system.tasks.apply(changes, system.clock.now())
        carried = {task.key: decision.row for (task, _), decision in zip(lost, decisions, strict=True)}
    return carried, frozenset(row.key for _, row in staged.values() if row.holder in rescued)
