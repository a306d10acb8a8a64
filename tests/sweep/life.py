"""A process at work in a world: the deployed steps, driven one by one or left to the embedded engine's worker."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from lowtide.core.batches import BatchRow
from lowtide.core.records import ResultRecord
from lowtide.core.tasks import TaskRow
from lowtide.core.tiers import Tier
from lowtide.ports import Message, System
from lowtide.steps.accept import accept_messages
from lowtide.steps.answer import Report, answer
from lowtide.steps.deliver import document_of
from lowtide.steps.slots import Slots
from lowtide.steps.turns import assemble, collect_due
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.worker import Pace, Worker

if TYPE_CHECKING:
    from tests.sweep.world import World

PACE = Pace(assemble_s=120, poll_s=60, watch_s=240)


@dataclass
class Life:
    """A process at work in a world, driven step by step or left to itself."""

    world: World
    engine: Engine
    system: System

    async def work(self) -> None:
        """Everything that is on the intake queue or under way, to its end."""
        worker = Worker(self.system, PACE, lambda name: self.engine.queue(name).next_visible_at())
        worker.no_more()
        await worker.run(flush=False)

    def accept(self) -> None:
        """Ingest, until the intake queue is empty."""
        while messages := self.system.intake.receive(10, visibility_s=60):
            again = accept_messages(self.system, messages).again
            self.system.intake.delete([message for message in messages if message not in again])

    async def answer(self, tier: Tier, *, slots: int = 10, **options: Any) -> Report:
        """One invocation of a tier's consumer with all that is visible; what is done is deleted."""
        messages = self.system.tiers[tier].receive(10, visibility_s=60)
        report = await answer(self.system, tier, messages, slots=Slots(slots), **{"visibility_s": 60, **options})
        self.system.tiers[tier].delete(report.done)
        return report

    async def assemble(self) -> None:
        await assemble(self.system, flush=True)

    async def collect(self) -> int:
        return await collect_due(self.system)

    async def pass_time(self, seconds: float) -> None:
        await self.system.clock.sleep(seconds)

    async def finish(self, *, step_s: float = 60, most: int = 5_000) -> None:
        """Turns of the assembler and the poller until no batch and no part is active."""
        for _ in range(most):
            await self.assemble()
            await self.collect()
            if not self.system.parts.active() and not self.system.batches.active():
                return
            await self.pass_time(step_s)
        raise AssertionError("there is no end to it")

    def row(self, task_id: str) -> TaskRow:
        [row] = self.system.tasks.get([f"{task_id} default"])
        assert row is not None, f"{task_id} has no row"
        return row

    def record(self, task_id: str) -> ResultRecord:
        return document_of(self.system, self.row(task_id)).record

    def batch(self) -> BatchRow:
        """The one batch that is active."""
        [batch] = self.system.batches.active()
        return batch

    def letters(self) -> list[dict[str, Any]]:
        """Every dead letter that was sent, repeats among them."""
        return [orjson.loads(message.body) for message in self._look("dead-letters")]

    def waiting(self, tier: Tier) -> int:
        """Messages on a tier's queue, those in flight among them."""
        depth = self.system.tiers[tier].depth()
        return depth.visible + depth.in_flight + depth.delayed

    def _look(self, name: str) -> list[Message]:
        """A look that counts as no receive: the transaction around it is undone."""
        seen: list[Message] = []
        with suppress(_Undone), self.engine.transaction():
            seen += self.engine.queue(name).receive(1_000, visibility_s=0)
            raise _Undone
        return seen


class _Undone(Exception):
    pass
