"""Looks: when to look at a batch again, and when to try a step again that the provider failed."""

from __future__ import annotations

from datetime import timedelta

from lowtide.core.batches import BatchState, Made, Postpone, ProviderBatch, Seen
from lowtide.core.result_files import NAMED_WITHIN, given_up_at
from lowtide.ports import System

from .lease import LeasedBatch
from .rescue import longest_wait_s


def put_off(system: System, batch: LeasedBatch) -> None:
    """Leave a batch alone that the provider fails, for longer each time."""
    if batch.row.state is BatchState.RUNNING:
        look_later(system, batch, batch.row.provider_batch)
        return
    batching, now = system.routes.batching, system.clock.now()
    wait = min(batching.poll_max_s, batching.poll_first_s * 2.0 ** min(batch.row.setbacks, 20))
    # The last try for a file that stays away is at the moment at which it is given up.
    ends = [end for file in batch.row.away if (end := given_up_at(file)) > now]
    batch.apply(Postpone(batch.owner, min([now + timedelta(seconds=wait), *ends]), Made.NOTHING))


def look_later(system: System, batch: LeasedBatch, seen: ProviderBatch | None) -> None:
    """Plan the next look at a batch that has not ended, or does not name its files yet: less often each time."""
    batching, now = system.routes.batching, system.clock.now()
    if batch.row.state is not BatchState.RUNNING or seen is None:
        return
    unnamed_since = batch.row.unnamed_since
    looks = 0 if seen.ended and unnamed_since is None else batch.row.polls
    wait = min(longest_wait_s(system, batch.row), batching.poll_first_s * 2.0 ** min(looks, 20))
    next_look = now + timedelta(seconds=wait)
    last_look = (unnamed_since or now) + NAMED_WITHIN
    if seen.ended and now < last_look:
        next_look = min(next_look, last_look)
    batch.apply(Seen(batch.owner, seen, next_look))
