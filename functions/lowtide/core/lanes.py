"""Lane: how an answer is bought."""

from __future__ import annotations

from enum import StrEnum


class Lane(StrEnum):
    """The provider's service tiers, and its Batch API."""

    PRIORITY = "priority"
    DEFAULT = "default"
    FLEX = "flex"
    BATCH = "batch"
