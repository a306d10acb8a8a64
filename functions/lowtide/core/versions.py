"""The schema versions that rows and messages between functions carry: whether this release may touch them.

A release adds fields under the same version, because an older release keeps what it does not know. It takes the next
version where an older release would do harm: a new state, or a field that must not be ignored. What carries a newer
version is left as it is, for the release that knows it. Messages and each kind of row have a version of their own, so
that the release before goes on with the others.
"""

from __future__ import annotations

from typing import Any

from .errors import NewerSchema

MESSAGES = 1
"""What this release writes on the tiers' queues, and the newest that it reads. What carries none is of version 1."""


def check_message(content: Any, what: str) -> None:
    """Raise NewerSchema for a message's content of a newer version, and ValueError for one that is no version."""
    check_schema(content.get("v", 1) if isinstance(content, dict) else 1, MESSAGES, what)


def check_schema(found: Any, known: int, what: str) -> None:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ValueError(f"{what}: its schema version is no number from 1 on")
    if found > known:
        raise NewerSchema(what, found, known)
