"""Lenient JSON: every object that a text holds, as far as it can be understood.

Only what a strict parser refuses comes here. Values are changed as little as a record allows: stray bytes and halves of
surrogate pairs become question marks, numbers that are none become null, control characters stay. Reading takes linear
time in the size of the text.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import orjson

_BETWEEN = re.compile("[\\s,\\[\\]\x00\x1e\ufeff]*")
"""Whatever may stand between two objects: an array's brackets and commas, padding, a byte-order mark, and the record
separator of RFC 7464."""
_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4}|)')
"""An escape. The last branch matches a backslash that begins no escape."""
_STRUCTURE = re.compile(rb'\\.|["{}]', re.DOTALL)
_DIGITS = 18
"""Digits that surely fit in 64 bits."""
_TOO_DEEP = "it is nested too deeply"
_TOO_SMALL = "its objects are too small to be results"
_SMALLEST_RESULT = 16
"""Bytes. A text whose objects are smaller than this on the average, and more than ``_FEW``, is read no further."""
_FEW = 1_000


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects that were read. ``fault`` says why the reading stopped before the end of the text, or is None.
    ``rest`` was not read. ``open``: the rest ends in the middle of an object, which more text may complete."""

    found: list[dict[str, Any]]
    fault: str | None = None
    rest: str = ""
    open: bool = False


class Braces:
    """Follows where objects open and close in bytes that come piece by piece. Braces inside of texts do not count."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._escaped = False
        """The last byte of the piece escapes the first byte of the next one."""

    @property
    def open(self) -> bool:
        return self._depth > 0 or self._in_text

    def feed(self, piece: bytes) -> int:
        """Return how many of these bytes end with the last outermost object that closes in them; 0 where none does."""
        closed = 0
        for found in _STRUCTURE.finditer(piece, int(self._escaped)):
            match found[0]:
                case b'"':
                    self._in_text = not self._in_text
                case b"{" if not self._in_text:
                    self._depth += 1
                case b"}" if not self._in_text and self._depth > 0:
                    self._depth -= 1
                    closed = closed if self._depth else found.end()
        trailing = len(piece) - len(piece.rstrip(b"\\"))
        self._escaped = (trailing - (self._escaped and trailing == len(piece))) % 2 == 1
        return closed


def blank(raw: bytes) -> bool:
    """Tell whether a line holds nothing to be read."""
    return not raw.strip(b" \t\r\n\0\x1e,[]\xef\xbb\xbf")


def objects(raw: bytes) -> Objects:
    """Read every outermost object of a text. Never raises."""
    return _objects(raw.decode("utf-8", errors="replace"), quoted=True)


def value_of(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return _storable(_DECODER.decode(text))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def _objects(text: str, *, quoted: bool) -> Objects:
    found: list[dict[str, Any]] = []
    at = _past(text, 0)
    if quoted and text.startswith('"', at):
        return _unquoted(text, at)
    mended = False
    while at < len(text):
        start = text.find("{", at)
        if start < 0:
            return Objects(found, "there is no JSON object", text[at:])
        try:
            value, end = _DECODER.raw_decode(text, start)
            found.append(_storable(value))
        except json.JSONDecodeError as fault:
            if not mended and fault.msg.startswith("Invalid \\"):
                text, at, mended = _ESCAPE.sub(_whole_escape, text[start:]), 0, True
                continue
            cut = fault.pos >= len(text.rstrip()) or fault.msg.startswith("Unterminated string")
            why = "it ends in the middle of an object" if cut else f"{fault.msg.removesuffix(' at')}"
            return Objects(found, why, text[start:], open=cut)
        except (RecursionError, ValueError):
            return Objects(found, _TOO_DEEP, text[start:])
        at = _past(text, end)
        if len(found) > _FEW and at < _SMALLEST_RESULT * len(found):
            return Objects(found, _TOO_SMALL, text[at:])
    return Objects(found)


def _unquoted(text: str, at: int) -> Objects:
    """Read a line that is a JSON text of its JSON, as some servers write it."""
    try:
        inner, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError:
        return Objects([], "it is a text that does not end", text[at:])
    if text[_past(text, end) :]:
        return Objects([], "it is a text with something after it", text[at:])
    return _objects(str(inner), quoted=False)


def _past(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return at if found is None else found.end()


def _whole_escape(found: re.Match[str]) -> str:
    return found[0] if found[1] else "\\\\"


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> float | None:
    """Return an integer, or the nearest float where it does not fit in 64 bits."""
    return int(text) if len(text) <= _DIGITS else _finite(text)


_DECODER = json.JSONDecoder(strict=False, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
"""A decoder that takes raw control characters inside of texts."""


def _storable(value: Any) -> Any:
    """Return the value as a record can hold it. Raises ValueError or RecursionError."""
    return orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace"))
