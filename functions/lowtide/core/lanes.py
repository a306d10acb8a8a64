"""Lane: how an answer is bought."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum


class Lane(StrEnum):
    """The provider's service tiers, and its Batch API."""

    PRIORITY = "priority"
    DEFAULT = "default"
    FLEX = "flex"
    BATCH = "batch"


SHARE_OF_LIST = {
    Lane.PRIORITY: Decimal(2),
    Lane.DEFAULT: Decimal(1),
    Lane.FLEX: Decimal("0.5"),
    Lane.BATCH: Decimal("0.5"),
}
"""What a lane costs against list, to compare the lanes of a model that may have no price here; receipts go by
prices.json. Source: the provider's pricing page (docs/costs.md); priority is 1.7 to 2.5 times."""
