"""What an answer says that it used, in the words of each endpoint."""

from __future__ import annotations

import re
from typing import Any

from .records import Usage
from .task import Endpoint

_MOST_TOKENS = 10**9
"""Hundreds of times what any model reads at once: a server that tells of more is mistaken."""

_COUNTS: dict[Endpoint, tuple[str, str | None]] = {
    Endpoint.CHAT: ("prompt_tokens", "completion_tokens"),
    Endpoint.RESPONSES: ("input_tokens", "output_tokens"),
    Endpoint.EMBEDDINGS: ("prompt_tokens", None),
}
"""What each endpoint calls its tokens in ``usage``: read, and written where it writes."""


_FREE_CALLS = frozenset(
    {
        *("function_call", "custom_tool_call", "local_shell_call", "apply_patch_call"),
        *("mcp_call", "computer_call", "tool_search_call"),
    }
)
"""Items of a response that are run by the caller, or cost nothing but their tokens."""
_WEB_SEARCH, _PREVIEW = "web_search_call", "web_search_preview_call"
_KIND, _MOST_KINDS, _OTHER = re.compile(r"[a-z0-9_]{1,64}"), 16, "other_call"
"""Kinds are the provider's words. What is no plain word, or one too many, is counted as another, which has no price."""
_NO_SEARCH = frozenset({"open_page", "find_in_page", "find"})
"""Actions of a web search call that look at what a search has found. Only a search is billed. Source: the provider's
guide to web search."""


def usage_of(body: Any, endpoint: Endpoint) -> Usage:
    """The tokens that an answer's body reports. What is absent or is no count is zero; never raises."""
    usage = _object(body, "usage")
    read, written = _COUNTS[endpoint]
    tokens_in = _number(usage.get(read)) or 0
    details = _object(usage, f"{read}_details")
    cached = min(_number(details.get("cached_tokens")) or 0, tokens_in)
    kept = _object(details, "cache_write_tokens_details")
    long, short = (_number(kept.get(f"ttl_{kept_for}_tokens")) or 0 for kept_for in ("12h", "30m"))
    # How long they are kept is said by responses alone, and there not always.
    stored = min(tokens_in - cached, max(_number(details.get("cache_write_tokens")) or 0, long + short))
    long = min(long, stored)
    return Usage(
        input_tokens=tokens_in,
        cached_input_tokens=cached,
        cache_write_tokens=stored - long,
        cache_write_12h_tokens=long,
        output_tokens=0 if written is None else _number(usage.get(written)) or 0,
    )


def reports_usage(body: Any, endpoint: Endpoint) -> bool:
    """Does the answer say what it used, in numbers? One that does not has no price: a cost of 0 would be a guess."""
    usage = _object(body, "usage")
    read, written = _COUNTS[endpoint]
    return _number(usage.get(read)) is not None and (written is None or _number(usage.get(written)) is not None)


def ran(body: Any, endpoint: Endpoint) -> bool:
    """Does the answer report tokens, so that a model ran and is billed? Servers write zeros where none did."""
    usage = usage_of(body, endpoint)
    return reports_usage(body, endpoint) and bool(usage.input_tokens or usage.output_tokens)


def tool_calls(body: Any, endpoint: Endpoint) -> dict[str, int]:
    """Count the calls of hosted tools in a response, by the type of their items. A web search with the tool's preview
    has a type of its own, because it has a price of its own."""
    output = body.get("output") if isinstance(body, dict) and endpoint is Endpoint.RESPONSES else None
    counts: dict[str, int] = {}
    for item in output if isinstance(output, list) else ():
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str) or not kind.endswith("_call") or kind in _FREE_CALLS or _costs_nothing(kind, item):
            continue
        name = _PREVIEW if kind == _WEB_SEARCH and _is_preview(body) else kind
        if not _KIND.fullmatch(name) or (name not in counts and len(counts) >= _MOST_KINDS):
            name = _OTHER
        counts[name] = counts.get(name, 0) + 1
    return counts


def _costs_nothing(kind: str, item: dict[str, Any]) -> bool:
    """Does this call cost nothing: a shell of the caller's own, or a look at what a web search has found?"""
    match kind:
        case "shell_call":
            return _object(item, "environment").get("type") == "local"
        case "web_search_call":
            return _object(item, "action").get("type") in _NO_SEARCH
        case _:
            return False


def _is_preview(body: dict[str, Any]) -> bool:
    tools = body.get("tools")
    named = [_object({"tool": tool}, "tool").get("type") for tool in tools] if isinstance(tools, list) else []
    searching = [name for name in named if isinstance(name, str) and name.startswith("web_search")]
    return bool(searching) and all(name.startswith("web_search_preview") for name in searching)


def _object(value: Any, key: str) -> dict[str, Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _number(value: Any) -> int | None:
    """A count of tokens as servers write it, 12, 12.0 or "12"; None for what is no count, or more than there can be."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(_MOST_TOKENS)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None
