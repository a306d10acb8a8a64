"""The real clock."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WallClock:
    """A ports.Clock. Moments have whole milliseconds, which is what rows keep: a row reads back as it was written."""

    def now(self) -> datetime:
        return _EPOCH + timedelta(milliseconds=int(time.time() * 1000))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
