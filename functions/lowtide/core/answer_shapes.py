"""The shape of an answer at each endpoint. A body that came with status 200 and has another shape is no answer.

The check is lenient, because servers differ. All of these are answers: a tool call without content, a refusal, an empty
text, a text that was cut off at its limit or by a content filter, an object that leaves fields out.
"""

from __future__ import annotations

from typing import Any

from .task import Endpoint

_SAID = ("content", "tool_calls", "function_call", "refusal", "audio")
"""Fields of a message that a sender can use."""


def what_is_missing(body: Any, endpoint: Endpoint) -> str | None:
    """Say in a few words what ``body`` lacks to be an answer. Return None if it is one."""
    if not isinstance(body, dict):
        return "it is no JSON object"
    match endpoint:
        case Endpoint.CHAT:
            choices = [choice for choice in _list(body, "choices") if _has(choice, "message")]
            if choices and all(_failed(choice) for choice in choices):
                return "its generation ended in an error"
            return None if choices else "it has no message"
        case Endpoint.RESPONSES:
            # A response that was cut off may have an empty output. It was paid for all the same.
            cut = body.get("status") == "incomplete" and isinstance(body.get("output"), list)
            return None if cut or _list(body, "output") else "it has no output"
        case Endpoint.EMBEDDINGS:
            return None if any(_vector(each) for each in _list(body, "data")) else "it has no embedding"


def _has(choice: Any, name: str) -> bool:
    """Is there an object that is not empty? A filtered answer may be just ``{"role": "assistant"}``."""
    inner = choice.get(name) if isinstance(choice, dict) else None
    return isinstance(inner, dict) and bool(inner)


def _failed(choice: dict[str, Any]) -> bool:
    """Did the server behind a router fail before it said anything? OpenRouter says so with this finish reason."""
    return choice.get("finish_reason") == "error" and not any(choice["message"].get(name) for name in _SAID)


def _vector(item: Any) -> bool:
    """Does the item hold a vector, as numbers or as base64?"""
    return isinstance(item, dict) and isinstance(item.get("embedding"), list | str) and bool(item["embedding"])


def _list(body: dict[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    return value if isinstance(value, list) else []
