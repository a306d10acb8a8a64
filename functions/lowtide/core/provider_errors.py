"""Read a provider's refusal into one value, whatever shape the server gives its errors.

Shapes seen: OpenAI ``{"error": {"message", "type", "param", "code"}}``; the same at the top level with
``"object": "error"`` (vLLM, Mistral); in a list (Gemini); ``error`` as a text beside ``code`` (xAI); ``detail``
(FastAPI); ``title`` and ``detail`` (problem+json); ``statusCode`` and ``message`` (API gateways); ``base_resp``
(MiniMax); ``errors`` (Cloudflare); ``error_code`` (Databricks); ``__type`` (Bedrock); the error of another server
inside the text of a router (wrapped_errors.py); and no JSON at all, where a proxy or a wrong address answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from typing import Any

from .error_statuses import STATUS_OF, STATUS_OF_BASE_RESP
from .provider_words import CODE_CHARACTERS, any_text, code_text, message_text
from .wrapped_errors import code_in, wrapped


@dataclass(frozen=True, slots=True)
class ProviderError:
    """One refusal. ``status`` is the HTTP status, or the status that the error names if it came with 200. It is None
    for the ``errors`` of a failed batch. ``page``: the body was a web page, so the API itself did not write it."""

    status: int | None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    message: str | None = None
    page: bool = False

    @property
    def name(self) -> str:
        """Code for records and dead letters: the code, else the type, else the status. At most 100 ASCII characters.
        Without a status it is the failure of a batch."""
        return code_text(self.code or self.type or (BATCH_FAILED if self.status is None else f"http_{self.status}"))

    @property
    def sentence(self) -> str:
        """Message for records and dead letters, in the provider's words. At most 500 characters."""
        if self.status is None:
            return message_text(self.message or "the provider gave no reason")
        return message_text(self.message or f"the provider answered with HTTP {self.status}")


BATCH_FAILED = "batch_failed"
"""Name of a failure that has neither a code nor a status."""
_STATUSES = range(400, 600)
_NO_ERROR = frozenset(
    {
        "",
        "0",
        "none",
        "null",
        "nil",
        "undefined",
        "false",
        "no",
        "no error",
        "no_error",
        "n/a",
        "-",
        "ok",
        "okay",
        "success",
    }
    | {"succeeded", "successful", "completed", "{}", "[]"}
)
"""Texts with which a server fills ``error`` although nothing failed."""
_ANSWERS = ("choices", "output", "data")
_PAGE = re.compile(r"\s*<(?:!doctype|html|head|body)\b", re.IGNORECASE)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_READ = 4_000
"""Characters of a text that are searched for a sentence."""
_WAIT = re.compile(
    r"(?:try again|retry|retrying|wait)(?: in| after| for)?((?: ?\d{1,9}(?:\.\d{1,9})? ?(?:ms|s|m|h|d)[a-z]{0,10})+)"
)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m(?!s)|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DIGITS = 6
"""Digits of the longest number that can be a status."""
_DEEPEST = 4
"""Levels of ``error`` inside ``error``. Routers wrap the error of the server behind them."""


def error_of(status: int | None, body: Any) -> ProviderError:
    """Read the body of a reply with an error status."""
    if isinstance(body, str):
        page = _PAGE.match(body) is not None
        return ProviderError(status, message=_sentence(body, page=page), page=page)
    return _read(status, _mapping(body) or {})


def error_inside(body: Any) -> ProviderError | None:
    """Read the error in a body that came with 200. Return None if the body holds none. The error's ``status`` is None
    if neither a number nor a known code tells it."""
    given = _mapping(body)
    if given is None:
        return None
    if not _tells_of_error(given):
        # Some routers put the error of the server behind them into the choice.
        choices = given.get("choices")
        given = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        if not _filled(given.get("error")):
            return None
    found = _read(None, given)
    told = _numbers(given) + [STATUS_OF[word] for word in words(found) if word in STATUS_OF]
    status = told[0] if told else None
    return ProviderError(status, found.code, found.type, found.param, found.message)


def wait_told(message: str | None) -> float | None:
    """Return the seconds in a message such as ``try again in 6m0s`` or ``retry after 86400 seconds``."""
    found = _WAIT.search((message or "")[:_READ].lower())
    if found is None:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _AMOUNT.findall(found.group(1)))


def words(error: ProviderError) -> tuple[str, ...]:
    """Return code and type in small letters with underscores. ``AccessDenied`` and ``access-denied`` become the
    same."""
    return tuple(spelt(said) for said in (error.code, error.type) if said)


def spelt(said: str) -> str:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", said[:CODE_CHARACTERS])
    return re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")


def _mapping(body: Any) -> dict[str, Any] | None:
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    return body if isinstance(body, dict) else None


def _tells_of_error(body: dict[str, Any]) -> bool:
    if _filled(body.get("error")) or body.get("object") == "error":
        return True
    told = body.get("base_resp")
    if isinstance(told, dict) and _whole(told.get("status_code")) not in (None, 0):
        return True
    if any(body.get(name) for name in _ANSWERS):
        return False
    # Some gateways give their code and message at the top level, and their failures as a list beside success: false.
    named = body.get("code") not in (None, 0, 200, "0", "200") and _filled(body.get("message") or body.get("msg"))
    return named or (body.get("success") is False and _filled(body.get("errors")))


def _filled(error: Any, depth: int = _DEEPEST) -> bool:
    """Does ``error`` tell of an error? Some servers always send the field: null, empty, or with ``"code": 0``."""
    if isinstance(error, dict) and depth:
        told = error.values()
        return _whole(error.get("code")) not in (0, 200) and any(_filled(value, depth - 1) for value in told)
    if isinstance(error, list) and depth:
        return any(_filled(value, depth - 1) for value in error)
    if isinstance(error, str):
        return error.strip().lower() not in _NO_ERROR
    return error not in (None, 0, False, [], {})


def _layers(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the body and the errors nested in it, the outermost first."""
    found = [body]
    while len(found) <= _DEEPEST and (inner := _inner(found[-1])) is not None:
        found.append(inner)
    return found


def _inner(layer: dict[str, Any]) -> dict[str, Any] | None:
    """Return the error that is nested in one: as an object, as the first of a list, or wrapped into a text."""
    for given in (layer.get("error"), layer.get("errors")):
        first = given[0] if isinstance(given, list) and given else given
        if isinstance(first, dict) and first:
            return first
    metadata = layer.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    texts = (raw, *(layer.get(key) for key in ("message", "error", "detail", "msg")))
    found = next((fields for text in texts if (fields := wrapped(text)) is not None), None)
    return {"message": raw} if found is None and isinstance(raw, str) and raw.strip() else found


def _numbers(body: dict[str, Any]) -> list[int]:
    """Return the HTTP statuses that an error names, the innermost first."""
    named = (layer.get(key) for layer in reversed(_layers(body)) for key in ("code", "status", "statusCode"))
    resp = body.get("base_resp")
    base = STATUS_OF_BASE_RESP.get(_whole(resp.get("status_code")) or 0) if isinstance(resp, dict) else None
    return ([] if base is None else [base]) + [
        number for value in named if (number := _whole(value)) in _STATUSES and number is not None
    ]


def _read(status: int | None, body: dict[str, Any]) -> ProviderError:
    layers = _layers(body)[::-1]
    told = body.get("base_resp")
    if isinstance(told, dict):
        layers.append({"message": told.get("status_msg")})
    message = _first(layers, ("message", "error", "detail", "msg", "title", "error_description"), _told)
    return ProviderError(
        status,
        code=_first(layers, ("code", "error_code"), _word)
        or _reason(layers)
        or (code_in(message) if message else None),
        type=_first(layers, ("type", "status", "error_type", "__type"), _word),
        param=_first(layers, ("param",), _text) or _place(body.get("detail")),
        message=message,
    )


def _reason(layers: list[dict[str, Any]]) -> str | None:
    """Return the ``reason`` in the details of a Google error, such as ``API_KEY_INVALID``."""
    found = (layer.get("reason") for layer in layers)
    details = (each for layer in layers if isinstance(given := layer.get("details"), list) for each in given[:_DEEPEST])
    named = (each.get("reason") for each in details if isinstance(each, dict))
    return next((said for each in (*found, *named) if (said := _word(each)) and code_in(said)), None)


def _first(layers: list[dict[str, Any]], keys: tuple[str, ...], read: Any) -> str | None:
    found = (read(layer.get(key)) for layer in layers for key in keys)
    return next((text for text in found if text), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _word(value: Any) -> str | None:
    """Return a code or type. Numbers are left out: they are statuses, or only their server knows them."""
    text = _text(value)
    return None if text is None or text.strip().isdecimal() or text in ("None", "null", "error") else text.strip()


def _told(value: Any) -> str | None:
    """Return a message. ``detail`` may be a list of faults."""
    if isinstance(value, str):
        return value.strip() or None
    return any_text(value) if isinstance(value, list) and value else None


def _place(detail: Any) -> str | None:
    """Return the field that a FastAPI server finds at fault, such as ``body.service_tier``."""
    first = detail[0] if isinstance(detail, list) and detail else None
    place = first.get("loc") if isinstance(first, dict) else None
    return ".".join(map(str, place)) if isinstance(place, list) and place else None


def _whole(value: Any) -> int | None:
    """Return a whole number that may be written as 429, 429.0 or "429"."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _DIGITS:
        return int(value)
    if isinstance(value, int | float) and abs(value) < 10**_DIGITS and value == int(value):
        return int(value)
    return None


def _sentence(text: str, *, page: bool) -> str | None:
    """Return a page's title, or the beginning of a text."""
    text = text[:_READ]
    if page:
        title = _TITLE.search(text)
        text = unescape(_MARKUP.sub(" ", title.group(1) if title else text))
    return " ".join(text.split()) or None
