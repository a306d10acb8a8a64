"""The TOML text of routes.toml: its table, and the line of a key, so that a refusal can name the line at fault.

Python's TOML parser raises errors of several kinds, takes quadratic time for a long dotted key and recurses into nested
values. What it could not take is found first, in one pass over the text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from .errors import ConfigError

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
_HEADER = re.compile(r"\s*+\[\[?+([^\[\]]++)\]\]?+\s*+(?:#.*+)?+$")
_KEY = re.compile(r"""\s*+((?:(?:"[^"]*+"|'[^']*+'|[\w-]++)\s*+(?:\.\s*+)?+)++)=""")


def table_of(text: str) -> dict[str, Any]:
    """Return the table of a TOML text. Raises ConfigError, with a line, for a text that is none or that is too much."""
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"routes.toml has {len(text)} characters: keep it below {MOST_CHARACTERS}")
    if (found := _too_much(text)) is not None:
        line, problem = found
        raise ConfigError(f"routes.toml: line {line}: {problem}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        end = f"at line {last_line(text)}, the end of the document"
        told = str(fault).replace("at end of document", end).encode("unicode_escape", "replace").decode()
        raise ConfigError(f"routes.toml is no TOML: {told if len(told) <= _SHOWN else f'…{told[-_SHOWN:]}'}") from None


def line_of(text: str, steps: Sequence[str]) -> int:
    """Return the line, from 1, of the deepest key or table header on the way to ``steps``. Where there is none it is
    the first line beside the way, or the last of the text: something is missing."""
    on_the_way, beside = (0, last_line(text)), (0, last_line(text))
    for number, here in lines_of(text):
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, steps, strict=False)))
        if shared == len(here) > on_the_way[0]:
            on_the_way = shared, number
        elif shared > beside[0]:
            beside = shared, number
    return (on_the_way if on_the_way[0] else beside)[1]


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
