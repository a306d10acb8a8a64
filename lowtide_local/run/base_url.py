"""Reads the base URL that a person gave."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import httpx2

from lowtide.adapters.openai.client import OPENAI_URL
from lowtide_local.cli.stop import Stop, usage

_INVISIBLE = "\ufeff\u200b\u2060"
"""Characters that are copied along with a URL from a page or a document."""
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
_HIGHEST_PORT = 65_535
_SHOWN_CHARACTERS = 200

_VERSION = r"(?:v\d[\w.-]*|openai)"
_IS_BASE = re.compile(rf".*/{_VERSION}")
_CALLED = (
    re.compile(r"(?P<base>.*?)/chat/completions(?:/.*)?"),
    # Below a version there is nothing but what is called. Elsewhere these words may be a gateway's own.
    re.compile(rf"(?P<base>.*/{_VERSION})/(?:completions|responses|embeddings|models|batches|files|messages)(?:/.*)?"),
    re.compile(r"(?P<base>.*)/(?:completions|responses|embeddings|batches|files)"),
)
"""Paths of single calls. People copy them where the base of all calls is asked for."""


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A base URL in parts.

    ``url`` has neither query nor trailing slash, and may be shown. ``query`` goes with every request and may hold a
    secret. ``note`` says how the text was understood, where that differs from what was given.
    """

    url: str
    query: str = ""
    note: str | None = None

    @classmethod
    def of(cls, text: str, name: str) -> BaseUrl:
        """Read ``text``, which comes from the option or variable ``name``. Raises Stop where it is no base URL."""
        text = text.strip().strip(_INVISIBLE).strip()
        if not text:
            raise usage(f"{name} is empty; give one such as {OPENAI_URL}")
        if "@" in text:
            raise usage(
                f"{name} holds a user or a password; give the key in OPENAI_API_KEY and a URL without them "
                "(an @ that belongs to the path is written %40)"
            )
        problem = _problem(text)
        if problem is not None:
            raise _no_url(text, name, problem)
        scheme, slashes, rest = text.partition("://")
        try:
            parsed = httpx2.URL(scheme.lower() + slashes + rest)
        except httpx2.InvalidURL as error:
            raise _no_url(text, name, str(error)) from None
        host = f"[{parsed.raw_host.decode()}]" if ":" in parsed.host else parsed.raw_host.decode()
        if not parsed.host or re.search(r"[%*\\]|\.\.", host) or host.startswith("."):
            raise _no_url(text, name, "no host has such a name")
        port = f":{parsed.port}" if parsed.port is not None else ""
        path, _, query = parsed.raw_path.decode().partition("?")
        base = _base(path := path.rstrip("/"))
        origin = f"{parsed.scheme}://{host}{port}"
        names = [each for each, _ in parse_qsl(query, keep_blank_values=True)]
        if twice := sorted({each for each in names if names.count(each) > 1}):
            raise usage(f"the query of {name} gives {', '.join(twice)} twice; give each parameter once")
        note = None
        if base != path:
            note = f"{name} ends in {path.removeprefix(base)}, which is a call: {origin}{base} is taken as the base URL"
        return cls(origin + base, query, note)


def _problem(text: str) -> str | None:
    """Say what is wrong in a person's words; None where the parser may judge."""
    if not text.isprintable() or " " in text:
        return "it holds a blank or a character that cannot be seen"
    scheme, found, _ = text.partition("://")
    if not found:
        return "it does not begin with http:// or https://"
    if scheme.lower() not in ("http", "https"):
        return f"{scheme[:20]}:// is not spoken here"
    if "#" in text:
        return "it holds a fragment (#…), which is never sent"
    try:
        authority = urlsplit(text).netloc
    except ValueError:
        return "its brackets hold no IPv6 address"
    if not authority.strip(":"):
        return "it names no host"
    if authority.count(":") > 1 and not authority.startswith("["):
        return "an IPv6 address stands in brackets, as in http://[::1]:8000/v1"
    found_port = _HOST_AND_PORT.fullmatch(authority)
    port = found_port["port"] if found_port is not None else "?"
    if port and not (port.isdecimal() and 0 < int(port) <= _HIGHEST_PORT):
        return f"a port is a number from 1 to {_HIGHEST_PORT}"
    return None


def _base(path: str) -> str:
    """Return the part of ``path`` that all calls have in common."""
    if _IS_BASE.fullmatch(path):
        return path
    return next((found["base"] for called in _CALLED if (found := called.fullmatch(path))), path)


def _no_url(text: str, name: str, problem: str) -> Stop:
    shown = re.split(r"[?#]", text)[0][:_SHOWN_CHARACTERS]
    shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in shown)
    return usage(f"{name} {shown} is no http(s) URL: {problem}; give one such as {OPENAI_URL}")
