"""How long to wait before trying again what a call left undone."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

_FIRST_S = 0.05
"""Below a batch call's own latency there is nothing to wait for; the SDK backs off for whole calls only."""
_LONGEST_S = 1.0
"""A step holds leases and messages while it waits here."""


def tries(limit: int, *, at_once: int = 1) -> Iterator[int]:
    """0, 1, … below ``limit``: ``at_once`` of them without a pause, then after pauses that double, with full jitter."""
    for attempt in range(limit):
        if attempt >= at_once:
            time.sleep(random.uniform(0, min(_LONGEST_S, _FIRST_S * 2 ** (attempt - at_once))))
        yield attempt
