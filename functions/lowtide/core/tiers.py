"""Tier: how long a task may wait."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """Ordered from the most to the least urgent."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    NORMAL = "NORMAL"
    LOW = "LOW"
