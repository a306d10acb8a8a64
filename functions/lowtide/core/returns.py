"""Returns: how long a message that has been given back again and again stays away at least.

SQS gives a message up after a thousand receives. What keeps a task waiting, such as a provider that is down or an
account that is refused, may last for days, and must not use them up before the queue's own retention ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from math import ceil

MOST_RECEIVES = 1_000
"""maxReceiveCount of the queues in template.yaml, and the most that SQS takes."""

AT_WILL = 100
"""Receives before the floor begins: what waits for seconds or minutes is as quick as its reasons allow."""

SHARE = 1 / 50
"""Of its age a message stays away from then on: what kept it waiting is found over at most a fiftieth too late, and
each receive makes it a fiftieth older, so that a day costs it some four hundred."""

LONGEST_S = 2_400.0
"""The floor grows no further. It takes some 850 receives to ten days, so a hundred are left for functions that died."""

OF_THE_TIME_LEFT = 1 / 2
"""And it takes no more than this of the time that a task has left."""


def away_s(wait_s: float, receives: int, sent_at: datetime, deadlines: Iterable[datetime], now: datetime) -> float:
    """``wait_s``, or longer for a message that was sent at ``sent_at`` and came for the ``receives``-th time (from 1).

    ``deadlines`` are those of its tasks that are still to be done; those past do not matter any more.
    """
    if receives < AT_WILL:
        return wait_s
    left = [(deadline - now).total_seconds() * OF_THE_TIME_LEFT for deadline in deadlines if deadline > now]
    age_s = (now - sent_at).total_seconds()
    # Whole seconds, as queues count them, and never none: a message so young would not age between two receives.
    return max(wait_s, ceil(max(1.0, min(LONGEST_S, age_s * SHARE, *left))))
