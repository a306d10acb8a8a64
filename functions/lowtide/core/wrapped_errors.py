"""Find the error that a router wraps into the text of its own, as JSON or as Python writes a dictionary.

LiteLLM writes ``litellm.BadRequestError: AnthropicException - {"type": "error", …}``, the openai package
``Error code: 429 - {'error': {…}}``, and OpenRouter puts the reply of the server behind it into ``metadata.raw``.
"""

from __future__ import annotations

import re
from typing import Any

_READ = 4_000
"""Characters of a text that are searched."""
_LEAD = re.compile(
    r"\s*(?:(?:[\w.]{0,80}(?:error|exception)|http|error code|api error|\d{3})[\s:-]{1,4}(?:(\d{3})[\s:-]{1,4})?){0,6}"
    r"(?:b?['\"])?(?=[{\[])",
    re.IGNORECASE,
)
"""What may stand before a wrapped error. Anything else may be the sender's own text."""
_STRING = re.compile(r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')(\s*:\s*)?", re.DOTALL)
_KEYS = frozenset({"code", "type", "status", "message", "msg", "error", "detail", "reason"})
_OF_A_REQUEST = frozenset({"messages", "prompt", "input", "model", "role"})
"""Keys of a request. A text that holds one repeats what was sent."""
_CODE_ALONE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+){1,8}\.?")
_CODE_FIRST = re.compile(r"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+){1,8}):\s")


def wrapped(text: Any) -> dict[str, Any] | None:
    """Return the fields of the error that ``text`` wraps, or None."""
    lead = _LEAD.match(text[:_READ]) if isinstance(text, str) else None
    if lead is None:
        return None
    found = _fields(text[lead.end() : _READ])
    if not found.keys() & _KEYS or found.keys() & _OF_A_REQUEST:
        return None
    fields = {key: value for key, value in found.items() if key in _KEYS}
    return {"status": int(lead[1]), **fields} if lead[1] else fields


def code_in(text: str) -> str | None:
    """Return the code that is the whole text (``insufficient_quota``) or its first word (``RATE_LIMIT:``)."""
    if _CODE_ALONE.fullmatch(text):
        return text.rstrip(".")
    first = _CODE_FIRST.match(text)
    return first[1] if first else None


def _fields(text: str) -> dict[str, Any]:
    """Return the first text beside each key. Texts inside texts are not read: one is skipped as a whole."""
    found: dict[str, Any] = {}
    key, at = None, 0
    for each in _STRING.finditer(text):
        said = each[1][1:-1]
        if each[2]:
            key, at = said, each.end()
            found.setdefault(key, None) if key in _OF_A_REQUEST else None
        elif key is not None and each.start() == at:
            if not found.get(key) and said not in ("error", ""):
                found[key] = re.sub(r"\\(.)", r"\1", said)
            key = None
    return found
