"""Every model that a request names beside its own: in tools, as fallbacks, for moderation.

Prompts and schemas are not looked into: a word in them is no request. A body is nested 100 levels deep at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Steps = tuple[str | int, ...]

_OPAQUE = frozenset(
    {"messages", "instructions", "metadata", "prompt", "schema", "parameters", "input_schema", "headers"}
)
"""Texts, schemas, and what goes on to somebody else."""
_IMAGES = "image_generation"


def other_models(body: dict[str, Any]) -> Iterator[tuple[Steps, str]]:
    """Yield (way to it inside the body, model). The model is empty where a tool chooses one that the request leaves
    open."""
    for name, value in body.items():
        if name == "input":
            for place, item in enumerate(value if isinstance(value, list) else ()):
                # A conversation that is sent again names the models of its past; only new tools are asked for.
                if isinstance(item, dict) and "tools" in item:
                    yield from _inside(item["tools"], (name, place, "tools"), named=False)
        elif name not in _OPAQUE and name not in ("model", "tool_choice"):
            yield from _inside(value, (name,), named=_names_models(name))


def _inside(value: Any, at: Steps, *, named: bool) -> Iterator[tuple[Steps, str]]:
    """``named``: a text that stands here is a model."""
    if isinstance(value, str) and named:
        yield at, value
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _inside(inner, (*at, place), named=named)
    elif isinstance(value, dict):
        if value.get("type") == _IMAGES and not value.get("model"):
            yield (*at, "model"), ""
        # {"gpt-a": ["gpt-b"]} names fallbacks, {"model": "gpt-b", "user": "…"} has one among other settings.
        for name, inner in value.items():
            if name not in _OPAQUE:
                yield from _inside(inner, (*at, name), named=_names_models(name) or (named and "model" not in value))


def _names_models(name: str) -> bool:
    small = name.lower()
    return small.endswith(("model", "models", "model_id", "fallback", "fallbacks"))
