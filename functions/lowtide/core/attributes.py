"""Text as an attribute of a message: whatever a sender or a provider wrote, a queue takes it."""

from __future__ import annotations

import re

ATTRIBUTE_CHARACTERS = 256
"""Enough to filter by; the whole text is in the message's body."""

REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that SQS takes in no body and no attribute (SQS API reference, SendMessage): most control characters,
halves of surrogate pairs, U+FFFE and U+FFFF. A call that carries one is refused each time it is made."""


def attribute_text(said: str) -> str:
    """Return the first 256 characters, with ``?`` for each that SQS refuses. An empty text, which it refuses too, is
    ``none``."""
    return REFUSED.sub("?", said[:ATTRIBUTE_CHARACTERS]) or "none"
