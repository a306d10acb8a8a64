"""One process that does what the deployed functions do: ingest, a consumer per tier, the assembler and the poller.

The steps are the deployed ones. Where AWS invokes a function for messages, a loop here receives them; where a schedule
fires, a loop here sleeps. Loops wake at the doorbell of their queue, not by asking again and again, so that a simulated
day costs what happens in it and not its seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from lowtide.core.errors import AccountRefused
from lowtide.core.tiers import Tier
from lowtide.ports import Depth, Message, Outgoing, Queue, System
from lowtide.steps.accept import accept_messages
from lowtide.steps.answer import answer
from lowtide.steps.gate import Gate
from lowtide.steps.slots import Slots
from lowtide.steps.turns import assemble, collect_due, submit_due, sweep_due

REAL_TIME = (Tier.CRITICAL, Tier.HIGH, Tier.NORMAL)

INTAKE_BATCH = 10
CONSUMER_BATCH = 10
IN_HAND_FOLD = 5
"""Messages in hand at most, as a multiple of a tier's concurrency. Slots hold, and their lines keep, up to 3.25 times
as many of slow models. So there is always room to receive others."""
LEAST_IN_HAND = 4 * CONSUMER_BATCH
"""The same where the concurrency is small."""
"""Messages per invocation, as the event sources of template.yaml have it."""

VISIBILITY_S = 60
"""Of a message in hand. Extended while its calls are in flight; a restart makes it visible at once."""

LONGEST_NAP_S = 3600.0


class Halted(Exception):
    """The provider refuses the account: nothing was lost, and nothing more is sent."""


class Doorbell:
    """Tells whoever waits for a queue that something changed in it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        self._event.clear()


class RungQueue:
    """A queue that rings when a message may be there to receive."""

    def __init__(self, queue: Queue, doorbell: Doorbell) -> None:
        self._queue = queue
        self._doorbell = doorbell

    def send(self, messages: Sequence[Outgoing]) -> None:
        self._queue.send(messages)
        self._doorbell.ring()

    def receive(self, limit: int, *, visibility_s: int) -> list[Message]:
        return self._queue.receive(limit, visibility_s=visibility_s)

    def delete(self, messages: Sequence[Message]) -> None:
        self._queue.delete(messages)

    def defer(self, messages: Sequence[tuple[Message, int]]) -> None:
        self._queue.defer(messages)
        self._doorbell.ring()

    def depth(self) -> Depth:
        return self._queue.depth()


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between the turns of the scheduled functions, and between looks whether all is done."""

    assemble_s: float
    poll_s: float
    watch_s: float


class Worker:
    """``next_visible`` tells when a queue's next message becomes visible: none now, but one in hand or delayed."""

    def __init__(self, system: System, pace: Pace, next_visible: Callable[[str], datetime | None]) -> None:
        self._bells = {name: Doorbell() for name in ("intake", *(tier.value for tier in REAL_TIME))}
        self.system = replace(
            system,
            intake=RungQueue(system.intake, self._bells["intake"]),
            tiers={
                tier: RungQueue(queue, self._bells[tier.value]) if tier in REAL_TIME else queue
                for tier, queue in system.tiers.items()
            },
        )
        self._gate = Gate(self.system)
        self._pace = pace
        self._next_visible = next_visible
        self._flush = asyncio.Event()
        self._fed = False
        self._turns = Doorbell()

    def no_more(self) -> None:
        """Every task is on its queue: seal without waiting for more, and end when all of them have."""
        self._fed = True
        self._flush.set()
        self._turns.ring()

    async def run(self, *, flush: bool) -> None:
        """Until everything is settled after ``no_more``. With ``flush``, nothing is batched before that.

        Raises ``Halted`` (in an exception group) when the provider refuses the account.
        """
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(self._ingest()), group.create_task(self._assembler(flush=flush))]
            loops.append(group.create_task(self._poller()))
            loops += [group.create_task(self._consumer(tier)) for tier in REAL_TIME]
            await self._watch()
            for loop in loops:
                loop.cancel()

    async def _watch(self) -> None:
        while not (self._fed and quiet(self.system)):
            await self.system.clock.sleep(self._pace.watch_s)

    async def _ingest(self) -> None:
        while True:
            messages = self.system.intake.receive(INTAKE_BATCH, visibility_s=VISIBILITY_S)
            if not messages:
                await self._rest("intake")
                continue
            again = accept_messages(self.system, messages).again
            self.system.intake.delete([message for message in messages if message not in again])
            await asyncio.sleep(0)

    async def _consumer(self, tier: Tier) -> None:
        """Many invocations at a time, as the event source would start them, while calls are free."""
        concurrency = self.system.routes.tiers[tier].concurrency
        slots = Slots(concurrency)
        room = asyncio.Semaphore(max(LEAST_IN_HAND, IN_HAND_FOLD * concurrency))
        queue = self.system.tiers[tier]
        async with asyncio.TaskGroup() as group:
            while True:
                for _ in range(CONSUMER_BATCH):
                    await room.acquire()
                messages = queue.receive(CONSUMER_BATCH, visibility_s=VISIBILITY_S)
                for _ in range(CONSUMER_BATCH - len(messages)):
                    room.release()
                if messages:
                    group.create_task(self._invoke(tier, messages, slots, room))
                    await asyncio.sleep(0)
                else:
                    await self._rest(tier.value)

    async def _invoke(self, tier: Tier, messages: Sequence[Message], slots: Slots, room: asyncio.Semaphore) -> None:
        """``room`` is for messages in hand. Each gives its place up when it has ended, whatever its neighbours do."""
        report = await answer(
            self.system,
            tier,
            messages,
            slots=slots,
            gate=self._gate,
            visibility_s=VISIBILITY_S,
            ended=room.release,
        )
        self.system.tiers[tier].delete(report.done)
        if report.halted is not None:
            raise Halted(report.halted)

    async def _assembler(self, *, flush: bool) -> None:
        if flush:
            await self._flush.wait()
        # Twice in the longest wait, or a short one would not be kept.
        pause_s = min(self._pace.assemble_s, self.system.routes.batching.max_wait_s / 2)
        while True:
            await assemble(self.system, flush=self._fed)
            await self._turns.wait(pause_s)

    async def _poller(self) -> None:
        while True:
            await self.system.clock.sleep(self._pace.poll_s)
            try:
                await collect_due(self.system)
            except* AccountRefused as refused:
                raise Halted(_words(refused)) from None
            if self._fed:
                await submit_due(self.system)
            await sweep_due(self.system)

    async def _rest(self, name: str) -> None:
        moment = self._next_visible(name)
        nap = LONGEST_NAP_S
        if moment is not None:
            nap = min(nap, max(0.001, (moment - self.system.clock.now()).total_seconds()))
        await self._bells[name].wait(nap)


def _words(refused: BaseExceptionGroup[AccountRefused]) -> str:
    """What the provider said to the first of them."""
    first = refused.exceptions[0]
    return _words(first) if isinstance(first, BaseExceptionGroup) else first.message


def quiet(system: System) -> bool:
    """Nothing is on a queue, in a part or in a batch: every accepted task has its end."""
    depths = [system.intake.depth(), system.stranded.depth(), *(queue.depth() for queue in system.tiers.values())]
    if any(depth.visible or depth.in_flight or depth.delayed for depth in depths):
        return False
    return not system.parts.active() and not system.batches.active()
