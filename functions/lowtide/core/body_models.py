"""Every model that a request names beside its own: in tools, as fallbacks, for moderation.

Prompts and schemas are not looked into: a word in them is no request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Way = tuple[Any, ...]
"""(the way before, a step): put together only where a model is found."""

_OPAQUE = frozenset(
    {"messages", "instructions", "metadata", "prompt", "schema", "parameters", "input_schema", "headers"}
)
"""Texts, schemas, and what the provider passes on to other services."""
_IMAGES = "image_generation"
_NAMES = ("model", "models", "modelid", "modelname", "fallback", "fallbacks")
"""How the name of a field ends whose text is a model, without case, dashes and underscores."""
_AT_TOP = frozenset({"engine", "engineid", "enginename", "deployment", "deploymentid", "deploymentname"})
"""Names of such fields at the top of a body or of its ``extra_body``. Elsewhere an engine is one of web search."""


_EXTRA: Way = ((), "extra_body")


def other_models(body: dict[str, Any]) -> Iterator[tuple[Way, str]]:
    """Yield (way to it inside the body, model). The model is empty where a tool chooses one that the request leaves
    open."""
    waiting = _fields(body)
    while waiting:
        way, value, named = waiting.pop()
        if isinstance(value, str):
            if named:
                yield way, value
        elif isinstance(value, list):
            waiting += [((way, at), inner, named) for at, inner in enumerate(value) if named or _holds_more(inner)]
        elif isinstance(value, dict):
            if value.get("type") == _IMAGES and not value.get("model"):
                yield (way, "model"), ""
            # {"gpt-a": ["gpt-b"]} names fallbacks, {"model": "gpt-b", "user": "…"} has one among other settings.
            named = named and "model" not in value
            for name, inner in value.items():
                names_model = named or _names_model(name, at_top=way == _EXTRA)
                if (names_model or _holds_more(inner)) and name not in _OPAQUE:
                    waiting.append(((way, name), inner, names_model))


def _fields(body: dict[str, Any]) -> list[tuple[Way, Any, bool]]:
    """Only new tools of a conversation ask for a model. Its other items name the models of its past."""
    given = body.get("input")
    conversation = enumerate(given if isinstance(given, list) else ())
    fields: list[tuple[Way, Any, bool]] = [
        (((((), "input"), place), "tools"), item["tools"], False)
        for place, item in conversation
        if isinstance(item, dict) and "tools" in item
    ]
    passed_over = _OPAQUE | {"model", "tool_choice", "input"}
    fields += [
        (((), name), value, _names_model(name, at_top=True)) for name, value in body.items() if name not in passed_over
    ]
    return fields


def _names_model(name: str, *, at_top: bool) -> bool:
    spelt = name.lower().replace("_", "").replace("-", "")
    return spelt.endswith(_NAMES) or (at_top and spelt in _AT_TOP)


def _holds_more(value: Any) -> bool:
    return isinstance(value, dict | list)


def steps_of(way: Way) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    while way:
        way, step = way
        steps.append(step)
    return tuple(reversed(steps))
