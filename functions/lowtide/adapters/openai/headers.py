"""Headers that a deployment's or a person's environment adds to every request, by the variables of OpenAI's SDK."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx2

from lowtide import __version__
from lowtide.core.errors import ConfigError

CUSTOM = "OPENAI_CUSTOM_HEADERS"
_NAMED = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token, as RFC 9110 defines it."""
_OF_THE_BODY = frozenset({"content-type", "content-length", "content-encoding", "transfer-encoding"})
"""Each request says these of its own body. Another's word for them would break every upload."""
_HOLDS_KEY = re.compile(r"key|token|auth|secret|passw|credential|signature", re.IGNORECASE)


def headers_of(environment: Mapping[str, str]) -> httpx2.Headers:
    """Return what goes with every request: an organisation, a project, and headers of one's own, which may replace the
    key's.

    Raises ConfigError with the variable's name, and not with its value, where no header can carry it.
    """
    headers = httpx2.Headers({"Accept": "application/json", "User-Agent": f"lowtide/{__version__}"})
    for header, variable in _NAMED.items():
        value = environment.get(variable, "").strip()
        if not is_header(value):
            raise ConfigError(f"{variable} holds characters that no header can carry; mend it or unset it")
        if value:
            headers[header] = value
    for line in environment.get(CUSTOM, "").split("\n"):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            continue
        if not (_NAME.fullmatch(name) and is_header(value)):
            raise ConfigError(f"{CUSTOM} holds a line that is no header (Name: value); mend it or unset it")
        if name.lower() not in _OF_THE_BODY:
            headers[name] = value
    return headers


def is_header(value: str) -> bool:
    """Tell whether a header can carry ``value``."""
    return value.isascii() and (value.isprintable() or not value)


def holds_key(name: str) -> bool:
    """Tell whether a header of this name is likely to hold a key: a gateway's, say."""
    return _HOLDS_KEY.search(name) is not None
