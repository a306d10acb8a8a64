"""The TOML text of routes.toml: its table, and the line of a key, so that a refusal can name the line at fault.

Python's TOML parser raises errors of several kinds, takes quadratic time for a long dotted key and recurses into nested
values. What it could not take is found first, in one pass over the text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

from .errors import ConfigError
from .wording import path

MOST_CHARACTERS = 131_072
"""Eight times the shipped file; parsed and refused in a quarter of a second."""
MOST_DIGITS = 1_000
MOST_LEVELS = 50
"""Arrays and tables inside each other."""
_LONGEST_KEY = 1_000
"""Characters. The parser takes quadratic time for a long dotted key: a millisecond for one of these."""
_SHOWN = 160
"""Characters of what the parser says: it may quote a key of any length."""

_TEXT = re.compile(
    r'''"""(?:[^"\\]|\\.|"{1,2}(?!"))*+(?:"{3,5}|\Z)'''
    r"""|'''(?:[^']|'{1,2}(?!'))*+(?:'{3,5}|\Z)"""
    r"""|"(?:[^"\\\n]|\\.)*+"?"""
    r"""|'[^'\n]*+'?"""
    r"""|\#[^\n]*+""",
    re.DOTALL,
)
"""A string or a comment."""
_LONG_KEY = re.compile(r'(?<![\w"-])(?:[\w"-]++[ \t]*+\.[ \t]*+){16}')
_LONG_NUMBER = re.compile(rf"[\w+.-]{{{MOST_DIGITS},}}")
_BRACKET = re.compile(r"[\[\]{}]")
_QUOTED = r""""(?:[^"\\]|\\.)*+"|'[^']*+'"""
_HEADER = re.compile(rf"""\s*+\[\[?+((?:{_QUOTED}|[^\[\]"'])++)\]\]?+\s*+(?:#.*+)?+$""")
_KEY = re.compile(rf"""\s*+((?:(?:{_QUOTED}|[\w-]++)\s*+(?:\.\s*+)?+)++)=""")
_STRING_OR_END = re.compile(rf"{_TEXT.pattern}|\]", re.DOTALL)
_INTEGERS = range(-(2**63), 2**63)
"""What TOML asks of every parser, and what JSON's hold."""


def table_of(text: str) -> dict[str, Any]:
    """Return the table of a TOML text. Raises ConfigError, with a line, for a text that is none or that is too much."""
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"routes.toml has {len(text)} characters: keep it below {MOST_CHARACTERS}")
    if (found := _too_much(text)) is not None:
        line, problem = found
        raise ConfigError(f"routes.toml: line {line}: {problem}")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        end = f"at line {last_line(text)}, the end of the document"
        told = str(fault).replace("at end of document", end).encode("unicode_escape", "replace").decode()
        raise ConfigError(f"routes.toml is no TOML: {told if len(told) <= _SHOWN else f'…{told[-_SHOWN:]}'}") from None
    if (steps := _beyond(table)) is not None:
        raise ConfigError(
            f"routes.toml: line {line_of(text, steps)}: {path(steps)}: an integer beyond 64 bits: make it smaller"
        )
    return table


def line_of(text: str, steps: Sequence[str]) -> int:
    """Return the line, from 1, of the deepest key or table header on the way to ``steps``. Where there is none it is
    the first line beside the way, or the last of the text: something is missing."""
    return KeyLines(text).of(steps)


class KeyLines:
    """The lines of a text's keys and headers, found in one pass however many are asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._last = last_line(text)
        self._first: dict[tuple[str, ...], int] = {}
        self._first_below: dict[tuple[str, ...], int] = {}
        for number, steps in lines_of(text):
            self._first.setdefault(steps, number)
            for depth in range(1, len(steps)):
                self._first_below.setdefault(steps[:depth], number)

    def of(self, steps: Sequence[str]) -> int:
        """Return what ``line_of`` does."""
        if depth := self.depth(steps):
            return self._first[tuple(steps[:depth])]
        ways = (self._first_below.get(tuple(steps[:depth])) for depth in range(len(steps), 0, -1))
        return next((line for line in ways if line is not None), self._last)

    def depth(self, steps: Sequence[str]) -> int:
        """Return how many of the steps the deepest key or header on their way has; 0 where there is none."""
        return next((depth for depth in range(len(steps), 0, -1) if tuple(steps[:depth]) in self._first), 0)

    def of_strings(self, steps: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield (line, value) of each string in the array of strings that the key ``steps`` has."""
        line = self.of(steps)
        start = sum(len(each) + 1 for each in self._text.split("\n")[: line - 1])
        at = self._text.find("=", start)
        for found in _STRING_OR_END.finditer(self._text, max(at, start)):
            if found[0] == "]":
                return
            if found[0][0] != "#":
                line += self._text.count("\n", start, found.start())
                start = found.start()
                yield line, tomllib.loads(f"is = {found[0]}")["is"]


def _beyond(value: Any, steps: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The steps to an integer of more than 64 bits; those of the array that holds it."""
    match value:
        case dict():
            ways = (_beyond(each, (*steps, name)) for name, each in value.items())
        case list():
            ways = (_beyond(each, steps) for each in value)
        case int() if value not in _INTEGERS:
            return steps
        case _:
            return None
    return next((way for way in ways if way is not None), None)


def last_line(text: str) -> int:
    return text.count("\n", 0, len(text.rstrip())) + 1


def lines_of(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line, path) of every key at the beginning of a line, and of every header."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(_without_inner_lines(text).split("\n"), 1):
        if header := _HEADER.match(line):
            table = _steps(f"[{header[1]}]")
            yield number, table
        elif key := _KEY.match(line):
            yield number, (*table, *_steps(f"{key[1]} = {{}}"))


def steps_of(key: str) -> tuple[str, ...]:
    """Return the steps of a dotted key as TOML writes it; none where it is no such key."""
    if len(key) > _LONGEST_KEY or "\n" in key or "=" in key:
        return ()
    return _steps(f"{key} = {{}}")


def _steps(toml: str) -> tuple[str, ...]:
    """The dotted path that one header or one key opens."""
    try:
        table: Any = tomllib.loads(toml)
    except tomllib.TOMLDecodeError:
        return ()
    steps = []
    while isinstance(table, dict) and table:
        name, table = next(iter(table.items()))
        steps.append(name)
    return tuple(steps)


def _without_inner_lines(text: str) -> str:
    """Texts of several lines are emptied: a line of a template may look like a key."""
    return _TEXT.sub(lambda found: "\n" * lines if (lines := found[0].count("\n")) else found[0], text)


def _too_much(text: str) -> tuple[int, str] | None:
    """(line, problem) of the first thing that the parser is not to be given."""
    bare = _TEXT.sub(lambda found: '""' + "\n" * found[0].count("\n") if found[0][0] != "#" else "", text)
    places = [
        (found.start(), problem)
        for pattern, problem in (
            (_LONG_KEY, "a key of more than 16 parts: nest no tables that deeply"),
            (_LONG_NUMBER, f"a number or a name of {MOST_DIGITS} characters or more: shorten it"),
        )
        if (found := pattern.search(bare)) is not None
    ]
    level = 0
    for bracket in _BRACKET.finditer(bare):
        level += 1 if bracket[0] in "[{" else -1
        if level > MOST_LEVELS:
            places.append((bracket.start(), f"nested beyond {MOST_LEVELS} levels: flatten it"))
            break
    if not places:
        return None
    place, problem = min(places)
    return bare.count("\n", 0, place) + 1, problem
