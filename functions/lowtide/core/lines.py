"""Request lines: written by a serializer, split on ``\\n`` only by their readers; and what they weigh."""

from __future__ import annotations

import json
from typing import Any

from .attachments import attached
from .task import Endpoint

_BYTES_PER_TOKEN = 4
"""A rule of thumb for English text; estimates bind nothing but the fill of a batch."""


def request_line(custom_id: str, endpoint: Endpoint, body: dict[str, Any]) -> bytes:
    """One line of a batch's input, ``\\n`` included. ASCII escapes keep U+2028 from readers that split on it."""
    line = {"custom_id": custom_id, "method": "POST", "url": endpoint.value, "body": body}
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


def embedding_inputs(body: dict[str, Any]) -> int:
    """How many inputs an embeddings request holds: a text or a list of token numbers is one."""
    given = body.get("input")
    return len(given) if isinstance(given, list) and not (given and isinstance(given[0], int)) else 1


def _given_tokens(given: Any) -> int | None:
    """An embedding's input may be tokens already, in one list or several: then they are counted, not guessed."""
    rows = given if isinstance(given, list) and given and isinstance(given[0], list) else [given]
    if not all(isinstance(row, list) and row and isinstance(row[0], int) for row in rows):
        return None
    return sum(len(row) for row in rows)


def estimated_tokens(body: dict[str, Any], size: int) -> int:
    """What a request will count against an enqueued-token limit: its input, and the output that it allows."""
    if (tokens := _given_tokens(body.get("input"))) is not None:
        return tokens
    limits = (body.get(name) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"))
    allowed = next((limit for limit in limits if isinstance(limit, int)), 0)
    return input_tokens(body, size) + allowed


def input_tokens(body: dict[str, Any], size: int) -> int:
    """Estimate the input tokens of a request that is ``size`` bytes long as a line.

    Text counts by its length, attachments by what they are.
    """
    found = attached(body)
    return max(0, size - found.chars) // _BYTES_PER_TOKEN + found.tokens
