"""Mask keys in a foreign text: those we hold, and whatever has the shape of one.

A provider repeats the key that it refuses, and servers in between repeat headers and addresses. Every pattern begins
at a fixed word or at the first character of a run, so that a text costs time in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

KEY = "(key)"
"""What stands in a text where a key stood."""

SHORTEST = 6
"""Characters of a secret that is looked for as it is. A shorter one is a word that texts have anyway."""

_ELISION = re.compile(r"\*{2,}|\.{2,}|…|•{2,}|x{4,}|X{4,}")
"""How a key is shown in part."""

_RUN = r"[A-Za-z0-9_*.…•-]"
_SHOWN = re.compile(f"{_RUN}+")

_PREFIXED = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    # OpenAI and most others; Groq, Hugging Face, xAI, Perplexity, NVIDIA, Replicate, Fireworks, Cerebras, Together
    r"(?:sk|pk|rk|sess|gsk|hf|xai|pplx|nvapi|r8|fw|csk|tgp_v1)[-_]"
    rf"(?:{_RUN}{{6,}}|[A-Za-z0-9_-]{{0,5}}(?:…|\.{{3}}|\*{{2}}){_RUN}*)"
    # GitHub, GitLab, Slack, webhooks
    rf"|(?:gh[opsur]|github_pat|glpat|xox[abeprs]|whsec)[-_]{_RUN}{{6,}}"
    rf"|AIza{_RUN}{{10,}}|ya29\.{_RUN}{{10,}}"  # Google
    r"|A(?:KIA|SIA|BIA|CCA)[A-Z0-9*]{12,}"  # AWS
    r"|eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_*…-]*){0,2}"  # a JSON Web Token
    r")"
)

_STARRED = re.compile(rf"\*{{3,}}{_RUN}*")
_LEFT_OF_STARS = 64
"""Characters that are masked before the stars, at most."""

_NAMES = (
    r"api[ _-]?key|access[ _-]?key(?:[ _-]?id)?|secret(?:[ _-]access)?[ _-]?key|subscription[ _-]?key|shared[ _-]?key"
    r"|client[ _-]?secret|(?:api|access|auth|refresh|session|security|bearer)[ _-]?token|authorization|password|passwd"
)
_NAMED = re.compile(
    # No run of blanks may be divided in many ways: hence the numbers.
    rf"(?i)({_NAMES})([\"'\\]{{0,4}}\s{{0,4}}(?:(?:provided|supplied|given|received|was|is)\s{{0,4}})?"
    r"[:=]?\s{0,4}[\"'\\]{0,4}\s{0,4})((?:bearer|basic|token)\s{1,4})?([^\s\"'<>,;&(){}\[\]\\]+)"
)
_NAME = re.compile(rf"(?i)(?:{_NAMES})")
_SCHEME = re.compile(r"\b([Bb]earer|BEARER|Basic(?=\s[A-Za-z0-9+/]{8,}={0,2}))(\s{1,4})([A-Za-z0-9._~+/=*…-]{4,})")
_SPOKEN = frozenset(
    ["auth", "authentication", "authorization", "credentials", "header", "key", "scheme", "token", "tokens"]
)
"""What follows ``Bearer`` or ``Basic`` in a sentence about them."""
_USER = re.compile(r"://[^\s/\"'<>\\]{1,512}@")
_QUERY = re.compile(r"(?i)([?&](?:code|sig|signature|x-amz-[a-z-]+|[a-z_-]*(?:key|token|secret))=)[^\s&\"'<>#]+")

_WORD = re.compile(r"(?<![A-Za-z0-9_+/-])[A-Za-z0-9_+/-]{32,}")
_HEX_LENGTHS = frozenset({32, 64})
"""Azure's keys, Together's."""
_MIXED_LENGTHS = frozenset({32})
"""Mistral's."""
_MIXED_FROM = 40
"""Characters from which letters of both cases and digits are a key: Azure's new ones have 84, identifiers fewer."""
_BASE64_LENGTH = 40
"""An AWS secret access key. Other texts with slashes are paths."""
_TOKEN_FROM = 100
"""Session tokens, with slashes or without."""
_LONG_ENOUGH = 16
"""Characters after which a value that is called a key is taken for one, whatever it is made of."""


def masked(text: str, secrets: Sequence[str] = ()) -> str:
    """Return the text with ``(key)`` in place of each key. ``secrets`` are those we hold, in whole or shown in part."""
    for secret in secrets:
        text = _without(text, secret)
    if "://" in text:
        text = _USER.sub(f"://{KEY}@", text)
    text = _PREFIXED.sub(_ended, text)
    small = text.casefold()
    if any(word in small for word in ("key", "token", "secret", "authorization", "passw")):
        text = _NAMED.sub(_named, text)
    if "bearer" in small or "basic" in small:
        text = _SCHEME.sub(_schemed, text)
    if "=" in small:
        text = _QUERY.sub(rf"\1{KEY}", text)
    text = _WORD.sub(lambda found: KEY if _is_key(found[0]) else found[0], text)
    return _without_starred(text) if "***" in text else text


def masked_in(value: Any, secrets: Sequence[str] = ()) -> Any:
    """Return a JSON value with the keys in its texts masked, names of fields included."""
    match value:
        case str():
            return masked(value, secrets)
        case list():
            return [masked_in(each, secrets) for each in value]
        case dict():
            return {masked(name, secrets): _field(name, inner, secrets) for name, inner in value.items()}
        case _:
            return value


def _field(name: str, value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str) and _NAME.search(name) and _looks_secret(value):
        return KEY
    return masked_in(value, secrets)


def _without(text: str, secret: str) -> str:
    """Mask a secret that we hold, and what begins as it does and is shown in part (``4f1c…9a``)."""
    if len(secret) < SHORTEST:
        return text
    text = text.replace(secret, KEY)
    begins, parts, done = secret[:4], [], 0
    place = text.find(begins)
    while place >= 0:
        shown = _SHOWN.match(text, place)
        end = place + len(begins) if shown is None else shown.end()
        if _ELISION.search(text, place, end):
            parts += [text[done:place], KEY]
            done = end
        place = text.find(begins, end)
    return "".join([*parts, text[done:]])


def _without_starred(text: str) -> str:
    parts, done = [], 0
    for found in _STARRED.finditer(text):
        start = found.start()
        least = max(done, start - _LEFT_OF_STARS)
        while start > least and (text[start - 1].isalnum() or text[start - 1] in "_.-"):
            start -= 1
        parts += [text[done:start], KEY]
        done = found.end()
    return "".join([*parts, text[done:]])


def _ended(found: re.Match[str]) -> str:
    """The full stop of the sentence is no part of the key."""
    return KEY + "." * (found[0].endswith(".") and not found[0].endswith(".."))


def _named(found: re.Match[str]) -> str:
    name, between, scheme, value = found.groups()
    certain = scheme is not None or (name.casefold() in ("password", "passwd") and ("=" in between or ":" in between))
    if value.startswith(KEY[:1]) or value.casefold().rstrip(".") in _SPOKEN or not (certain or _looks_secret(value)):
        return found[0]
    return f"{name}{between}{scheme or ''}{KEY}{'.' * value.endswith('.')}"


def _schemed(found: re.Match[str]) -> str:
    return found[0] if found[3].casefold().rstrip(".") in _SPOKEN else f"{found[1]}{found[2]}{KEY}"


def _looks_secret(value: str) -> bool:
    """A word of a sentence has no digit in it and is short."""
    return len(value) >= _LONG_ENOUGH or (len(value) >= 4 and any(char.isdigit() or char in "*…" for char in value))  # noqa: PLR2004


def _is_key(word: str) -> bool:
    if len(word) in _HEX_LENGTHS and all(char in "0123456789abcdefABCDEF" for char in word):
        return True
    if not (any(map(str.isupper, word)) and any(map(str.islower, word)) and any(map(str.isdigit, word))):
        return False
    if "/" in word or "+" in word:
        return len(word) == _BASE64_LENGTH or len(word) >= _TOKEN_FROM
    return len(word) in _MIXED_LENGTHS or len(word) >= _MIXED_FROM
