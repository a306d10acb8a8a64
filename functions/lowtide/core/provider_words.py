"""What a provider says of a failure, as far as we carry it: its text goes into rows, records, letters and attributes
of messages, all of which have limits of their own. Whatever it says, none of them is to be refused for it, and none is
to hold a key that it repeats.
"""

from __future__ import annotations

import json
from typing import Any

from .masking import masked

CODE_CHARACTERS = 100
MESSAGE_CHARACTERS = 500
_READ_CHARACTERS = 8_000
"""Characters read of what a provider says. They are more than are kept, so that no key is cut before it is masked."""


def code_text(said: str) -> str:
    """A code in printable ASCII, at most 100 characters; others become ``?`` (SQS takes no control characters)."""
    plain = "".join(char if " " <= char <= "~" else "?" for char in said[:_READ_CHARACTERS])
    return masked(plain)[:CODE_CHARACTERS]


def message_text(said: str, most: int = MESSAGE_CHARACTERS) -> str:
    """A message of printable characters, at most so many of them; line breaks stay, others become ``?``."""
    plain = "".join(char if char.isprintable() or char in "\n\t" else "?" for char in said[:_READ_CHARACTERS])
    return masked(plain)[:most]


def any_text(said: Any) -> str:
    """A text as it is, anything else as JSON. What is nested so deeply that nothing can write it (a thousand levels can
    be read) is only named."""
    if isinstance(said, str):
        return said
    try:
        return json.dumps(said, default=str)
    except (RecursionError, ValueError):
        return "(nested too deeply to be shown)"
