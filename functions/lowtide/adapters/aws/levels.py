"""How high the tiers' queues stand: SQS tells how many wait, marks on the table tell for how long.

SQS tells nobody but CloudWatch how old its oldest message is, minutes late. So whoever takes messages up notes how long
they had waited, and whoever finds a queue empty notes that nothing waits: an age is counted on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from lowtide.core.admission import Level, Mark
from lowtide.core.errors import LowtideError
from lowtide.core.tiers import Tier
from lowtide.ports import Clock, Queue

from .table import Key, Table

PARTITIONS = "level#"
"""What the keys begin with: ingest may read no others."""

GOOD_FOR = timedelta(seconds=5)
"""A process looks and marks no more often than this: its calls would cost more than they tell."""


class QueueLevels:
    """A ports.Levels."""

    def __init__(self, queues: Mapping[Tier, Queue], table: Table, clock: Clock) -> None:
        self._queues = queues
        self._table = table
        self._clock = clock
        self._seen: dict[Tier, tuple[datetime, Level]] = {}
        self._marked: dict[Tier, datetime] = {}

    def look(self, tiers: Sequence[Tier]) -> Mapping[Tier, Level]:
        """Raises LowtideError where a service does not answer."""
        try:
            return self._look(tiers)
        except (BotoCoreError, ClientError) as error:
            raise LowtideError(f"how high the queues stand could not be asked: {type(error).__name__}") from error

    def mark(self, tier: Tier, oldest_s: float) -> None:
        """Dropped where the table does not answer."""
        now = self._clock.now()
        if tier not in self._marked or now - self._marked[tier] >= GOOD_FOR:
            with suppress(BotoCoreError, ClientError, LowtideError):
                self._write(tier, Mark(at=now, oldest_s=oldest_s))

    def _look(self, tiers: Sequence[Tier]) -> Mapping[Tier, Level]:
        now = self._clock.now()
        stale = [tier for tier in tiers if tier not in self._seen or now - self._seen[tier][0] >= GOOD_FOR]
        if stale:
            items = self._table.read([_key(tier) for tier in stale])
            for tier in stale:
                item = items.get(_key(tier))
                mark = Mark.model_validate_json(item["body"]["S"]) if item else None
                self._seen[tier] = (now, self._level(tier, mark, now))
        return {tier: self._seen[tier][1] for tier in tiers}

    def _level(self, tier: Tier, mark: Mark | None, now: datetime) -> Level:
        waiting = self._queues[tier].depth().visible
        if mark is None or waiting == 0:
            self._write(tier, Mark(at=now, oldest_s=0.0))
            return Level(waiting)
        # A mark may be so old although all flows: what came since is not called old for it.
        return Level(waiting, mark.oldest_by(now - GOOD_FOR, waiting))

    def _write(self, tier: Tier, mark: Mark) -> None:
        self._marked[tier] = mark.at
        self._table.write([_key(tier).item() | {"body": {"S": mark.model_dump_json()}}])


def _key(tier: Tier) -> Key:
    return Key(f"{PARTITIONS}{tier.value}", "mark")
