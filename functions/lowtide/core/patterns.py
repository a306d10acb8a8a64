"""Patterns that senders bring, searched by RE2: in time that grows with pattern and text, and never faster than that.

A pattern of JSON Schema is one of ECMA-262 and is searched for anywhere in the text. What RE2 does not know (looking
ahead or behind, references to groups, more than 1,000 repeats) is not judged, and neither is what would take too long.
"""

from __future__ import annotations

import re

import re2  # type: ignore[import-untyped]

LONGEST_PATTERN = 2_000
"""Characters."""
MOST_MEMORY = 1 << 19
"""Bytes that a compiled pattern and its states may take: 20,000 instructions. RE2 keeps the last 128 patterns."""
MOST_WORK = 50_000_000
"""Instructions times bytes that are searched for one answer. At the slowest, RE2 takes 7 ns for each: a third of a
second (measured). Most patterns take a thousandth of that."""
_COMPILING = 60
"""What an instruction costs to compile, in the same unit (measured: 0.4 µs)."""

_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|s|.)", re.DOTALL)
_LONG_REPEAT = re.compile(r"\{(?:[0-9]*,)?[0-9]{5,}\}|\{[0-9]{5,},")
"""RE2 refuses more than 1,000 repeats, and takes a number that it cannot hold for so many characters."""
_SPACE = r"\s\v\x{feff}\p{Z}"
"""ECMA's white space, of which RE2 knows only what is in ASCII."""


class Patterns:
    """The patterns of one schema, with what the search for them in one answer may cost."""

    def __init__(self) -> None:
        self._left = MOST_WORK
        self._compiled: dict[str, re2._Regexp | None] = {}

    def matches(self, pattern: str, text: str) -> bool | None:
        """Is the pattern found in the text. None: not judged."""
        if pattern not in self._compiled:
            self._compiled[pattern] = self._compile(pattern)
        compiled = self._compiled[pattern]
        if compiled is None:
            return None
        data = text.encode()
        work = compiled.programsize * (len(data) + 1)
        if work > self._left:
            return None
        self._left -= work
        return compiled.search(data) is not None

    def _compile(self, pattern: str) -> re2._Regexp | None:
        if len(pattern) > LONGEST_PATTERN or self._left <= 0 or _LONG_REPEAT.search(pattern):
            return None
        options = re2.Options()
        options.max_mem = MOST_MEMORY
        options.never_capture = True
        options.log_errors = False
        try:
            compiled = re2.compile(_as_re2(pattern).encode(), options)
        except (re2.error, UnicodeEncodeError):
            self._left -= MOST_WORK // 50
            return None
        self._left -= _COMPILING * compiled.programsize
        return compiled


def _as_re2(pattern: str) -> str:
    r"""The same pattern as RE2 writes it: ``\u0041`` is ``\x{0041}``, and ``\s`` has ECMA's spaces."""

    def written(found: re.Match[str]) -> str:
        what = found[1]
        if what == "s":
            inside = _inside_class(pattern, found.start())
            return _SPACE if inside else f"[{_SPACE}]"
        return f"\\x{{{what[1:]}}}" if what[0] == "u" and len(what) > 1 else found[0]

    return _ESCAPE.sub(written, pattern)


def _inside_class(pattern: str, place: int) -> bool:
    """Is the place between brackets, which do not nest in ECMA-262."""
    bare = _ESCAPE.sub("..", pattern[:place])
    return bare.rfind("[") > bare.rfind("]")
