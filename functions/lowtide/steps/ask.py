"""Ask: which model a task of type ``auto`` gets. Once per task, by the holder of its claim, written down before the
answer is bought: who comes after a crash asks again only where nothing was written, and that claim counts as repaid.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lowtide.core.acceptance import queue_for, with_model
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import Halt, Response, judge
from lowtide.core.profiles import Question, Reply, ask_or_choose, reply
from lowtide.core.task import AcceptedTask, Endpoint
from lowtide.core.tasks import Choose, Onward, TaskRow, Verdict
from lowtide.core.tiers import Tier
from lowtide.ports import Call, Change, System

from .carry import send_tasks
from .coalesce import Coalescer, TaskRows

CallProvider = Callable[[AcceptedTask, str, Call], Awaitable[Response]]
"""Makes a call for a task at the provider of this name, or none where it would have to wait."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model is decided, and the claim holds: go on to the call."""

    task: AcceptedTask
    row: TaskRow


@dataclass(frozen=True, slots=True)
class HandedOn:
    """To LOW's queue, durably: a batch will carry it, and its message here is done."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The claim is no longer the caller's. ``row`` is the task's now; the question, if there was one, is repaid."""

    row: TaskRow | None


class Asker:
    """One invocation's questions, sharing its calls and its writes."""

    def __init__(self, system: System, rows: TaskRows, call: CallProvider) -> None:
        self._system = system
        self._rows = rows
        self._call = call
        self._onward: Coalescer[AcceptedTask, None] = Coalescer(self._send, system.offload)

    async def choose(self, task: AcceptedTask, row: TaskRow) -> Chosen | HandedOn | Lost | Halt:
        """``row`` is claimed for a call, and ``task`` has candidates. Halt: the account is refused, nothing chosen."""
        made = Reply(row.choice) if row.choice is not None else await self._make(task, row)
        if isinstance(made, Halt):
            return made
        if row.holder is None:
            raise AssertionError("a claimed row names its holder")
        decided = with_model(task, made.choice, self._system.routes)
        onward = Onward.BATCH if queue_for(decided) is Tier.LOW else Onward.CALL
        if onward is Onward.CALL and row.choice is not None:
            return Chosen(decided, row)
        event = Choose(row.holder, row.attempt, made.choice, onward, made.spent_usd, int(made.unsure), made.unpriced)
        decision = await self._rows(Change(task.key, event, row))
        if decision.verdict not in (Verdict.APPLIED, Verdict.REPEATED) or decision.row is None:
            return Lost(decision.row)
        if onward is Onward.CALL:
            return Chosen(decided, decision.row)
        strikes = decision.row.strikes
        before = {"spent_usd": strikes.spent_usd, "unpriced": strikes.unpriced}
        await self._onward(decided.model_copy(update=before))
        return HandedOn()

    async def _make(self, task: AcceptedTask, row: TaskRow) -> Reply | Halt:
        system, now = self._system, self._system.clock.now()
        found = ask_or_choose(task, row.attempt, now, system.routes, system.seller)
        if not isinstance(found, Question):
            return Reply(found)
        provider, asked_at = system.routes.model(found.model).provider, system.clock.now()
        response = await self._call(
            task,
            provider,
            Call(
                endpoint=Endpoint.CHAT,
                body=found.body,
                lane=Lane.DEFAULT,
                call_id=found.call_id,
                timeout_s=system.routes.auto.timeout_s,
                traceparent=task.traceparent,
            ),
        )
        if isinstance(halt := judge(response, Lane.DEFAULT, Endpoint.CHAT), Halt):
            return halt
        said = reply(task, found, response, system.seller(provider), asked_at)
        system.metrics.count("profiles_asked", profile=said.choice.profile)
        return said

    def _send(self, tasks: Sequence[AcceptedTask]) -> Sequence[None]:
        send_tasks(self._system, tasks)
        return [None] * len(tasks)
