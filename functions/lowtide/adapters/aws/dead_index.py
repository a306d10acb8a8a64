"""The sparse index of dead tasks: which rows are in it, and under what they are found.

Its attributes are on an item exactly as long as its task is buried: the write that settles a task enters it, and the
write that takes a redriven one up removes it.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from lowtide.core.model import utc_text
from lowtide.core.task_rows import TaskRow

INDEX = "dead"
SHARDS = 16
"""Partitions of the index: a partition takes 1,000 writes a second, and a batch may die whole."""
_CHARACTERS = 100
"""Of a code or a type in the index. Providers make codes, and senders types; the row itself has them whole."""


def shards() -> list[str]:
    return [f"{number:02}" for number in range(SHARDS)]


def shard_of(key: str) -> str:
    """The partition of a task's row in this index, and in that of settled tasks."""
    return shards()[crc32(key.encode()) % SHARDS]


def dead_attributes(row: TaskRow) -> dict[str, Any]:
    """Nothing for a task that is not buried."""
    if not row.buried:
        return {}
    named = {"dead_tenant": row.tenant, "dead_type": row.type, "dead_code": row.error_code}
    return {
        "dead_shard": {"S": shard_of(row.key)},
        "dead_since": {"S": utc_text(row.settled_at or row.accepted_at)},
        **{name: {"S": indexed(text)} for name, text in named.items() if text},
    }


def indexed(text: str) -> str:
    """A code, type or tenant as the index has it."""
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS]
