"""CRITICAL where functions are short: an account that runs so many at once, for all tiers together.

That is what preemption is for. A rate limit is shared call by call, and an urgent call goes first. A function is held
for as long as its invocation has work in hand, which for NORMAL may be minutes. An invocation is modelled as AWS has
it: messages when a function is free, slots and a gate of its own, an end by its timeout. Who waits for a function has
the next one that is free, whatever its tier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.preemption import Preemption
from lowtide.core.task import AcceptedTask
from lowtide.core.tiers import Tier
from lowtide.steps.answer import answer
from lowtide.steps.carry import send_tasks
from lowtide.steps.deliver import document_of
from lowtide.steps.slots import Slots
from lowtide_local.engine.worker import CONSUMER_BATCH
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario

from .crowd import Crowd, gather

FUNCTIONS = 10
"""What a new account may run at once. Source: Lambda's quotas, concurrent executions of new accounts."""
POLLERS = {Tier.CRITICAL: 20, Tier.NORMAL: 10}
TIMEOUT_S = {Tier.CRITICAL: 20, Tier.NORMAL: 300}
VISIBILITY_S = {Tier.CRITICAL: 20, Tier.NORMAL: 600}
"""As template.yaml has them."""
SETTLE_S = 5.0
WEATHER = Scenario(latency=Latencies(default=Latency(min_s=0.5, max_s=2.0), flex=Latency(min_s=10.0, max_s=60.0)))
FLEXIBLE, QUICK = "gpt-6.1-terra", "gpt-6-luna"
FROM_S, EVERY_S = 30.0, 0.5


def measure(directory: Path, *, seconds: int, flood: int, preemption: bool) -> list[float]:
    """Seconds that each CRITICAL task took from its sending to its record, ascending."""
    routes = shipped_routes().model_copy(update={"preemption": Preemption(enabled=preemption)})
    return gather(directory, WEATHER, lambda crowd: _story(crowd, seconds, flood), routes=routes)


async def _story(crowd: Crowd, seconds: int, flood: int) -> list[float]:
    if flood:
        crowd.feed(flood, model=FLEXIBLE, lane="auto")
    functions = asyncio.Semaphore(FUNCTIONS)
    at_work = [
        asyncio.create_task(_poller(crowd, tier, functions)) for tier, count in POLLERS.items() for _ in range(count)
    ]
    await crowd.clock.sleep(FROM_S)
    sent = []
    for number in range(round(seconds / EVERY_S)):
        task = _urgent(crowd, number)
        send_tasks(crowd.system, [task])
        sent.append(task.key)
        await crowd.clock.sleep(EVERY_S)
    while (took := _took(crowd, sent)) is None:
        await crowd.clock.sleep(1)
    for each in at_work:
        each.cancel()
    for each in at_work:
        with suppress(asyncio.CancelledError):
            await each
    return took


async def _poller(crowd: Crowd, tier: Tier, functions: asyncio.Semaphore) -> None:
    system, queue = crowd.system, crowd.system.tiers[tier]
    while True:
        if not queue.depth().visible:
            await crowd.clock.sleep(0.1)
            continue
        async with functions:
            messages = queue.receive(CONSUMER_BATCH, visibility_s=VISIBILITY_S[tier])
            if messages:
                stop_at = crowd.clock.now() + timedelta(seconds=TIMEOUT_S[tier] - SETTLE_S)
                slots = Slots(system.routes.tiers[tier].concurrency)
                report = await answer(system, tier, messages, slots=slots, stop_at=stop_at)
                queue.delete(report.done)


def _urgent(crowd: Crowd, number: int) -> AcceptedTask:
    body = {"model": QUICK, "messages": [{"role": "user", "content": f"Chat {number}."}], "max_completion_tokens": 50}
    request = {"url": "/v1/chat/completions", "body": body}
    message = {"task_id": f"chat-{number}", "type": "live_chat_response", "request": request}
    return accept(message, origin=f"chat {number}", sent_at=crowd.clock.now(), routes=crowd.system.routes)


def _took(crowd: Crowd, keys: Iterable[str]) -> list[float] | None:
    """None while one of them has no record yet."""
    took = []
    for row in crowd.system.tasks.get(list(keys)):
        if row is None or row.settled_at is None:
            return None
        record = document_of(crowd.system, row).record
        took.append((record.finished_at - record.accepted_at).total_seconds())
    return sorted(took)
