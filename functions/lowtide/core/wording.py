"""How a refusal names what it found, in one printable line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

SHOWN_CHARACTERS = 40
"""A longer value is told by its kind: a line of a report has no room for more."""


def kind(value: Any) -> str:
    """``an empty string``, ``an array of 3``, ``a number``: what a value is, without saying what is in it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"a string of {len(value)} characters" if value else "an empty string"
        case int() | float():
            return "a number"
        case list():
            return f"an array of {len(value)}" if value else "an empty array"
        case _:
            return "an object"


def shown(value: Any) -> str:
    """A short scalar as JSON, anything else as its kind."""
    if isinstance(value, str | int | float) and value != "":
        text = json.dumps(value)
        if len(text) <= SHOWN_CHARACTERS:
            return text
    return kind(value)


def path(steps: Sequence[str | int]) -> str:
    """``request.body.model``; a step that came from the sender is cut and quoted where it would not print."""
    return ".".join(_step(str(step)) for step in steps)


def _step(step: str) -> str:
    if step.isprintable() and len(step) <= SHOWN_CHARACTERS:
        return step
    return json.dumps(step[:SHOWN_CHARACTERS])


def span(seconds: float) -> str:
    """``45 s``, ``58 min``, ``23 h``: rounded down, so that no promise grows by rounding."""
    if seconds < 2 * 60:
        return f"{int(seconds)} s"
    if seconds < 2 * 3600:
        return f"{int(seconds // 60)} min"
    return f"{int(seconds // 3600)} h"
