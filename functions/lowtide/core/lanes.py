"""Lane: how an answer is bought."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any


class Lane(StrEnum):
    """The provider's service tiers, and its Batch API."""

    PRIORITY = "priority"
    DEFAULT = "default"
    FLEX = "flex"
    BATCH = "batch"


ASKED_LANES = {
    "default": Lane.DEFAULT,
    "scale": Lane.DEFAULT,
    "flex": Lane.FLEX,
    "priority": Lane.PRIORITY,
    "fast": Lane.PRIORITY,
    "ultrafast": Lane.PRIORITY,
}
"""``service_tier`` as senders write it, where it asks for a lane. Priority processing has been called Fast mode since
2026-07-30, and both words are in use (openai.com/api-fast-mode); ``scale`` is bought beforehand, and called like
``default``; ``ultrafast`` has no lane of its own, and is called like ``priority``."""


def asked_lane(body: Mapping[str, Any] | None) -> Lane | None:
    """Return the lane that a request's body asks for, or None if it asks for none."""
    asked = (body or {}).get("service_tier")
    return ASKED_LANES.get(asked) if isinstance(asked, str) else None


SHARE_OF_LIST = {
    Lane.PRIORITY: Decimal(2),
    Lane.DEFAULT: Decimal(1),
    Lane.FLEX: Decimal("0.5"),
    Lane.BATCH: Decimal("0.5"),
}
"""What a lane costs against list, to compare the lanes of a model that may have no price here; receipts go by
prices.json. Source: the provider's pricing page (docs/costs.md); priority is 1.7 to 2.5 times."""
