"""Where in a TOML text a key stands, so that a refused file can be told its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

_HEADER = re.compile(r"^\s*\[([^\[\]]+)\]\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:"[^"]*"|'[^']*'|[\w.-]|\s*\.\s*)+?)\s*=""")


def line_of(text: str, steps: Sequence[str]) -> int | None:
    """The line, from 1, of the deepest key or table header on the way to ``steps``; None where there is none."""
    found: int | None = None
    table: tuple[str, ...] = ()
    depth = fences = 0
    for number, line in enumerate(text.splitlines(), 1):
        inside = fences % 2 == 1
        fences += line.count('"""') + line.count("'''")
        if inside:
            continue
        if header := _HEADER.match(line):
            table = _steps(f"[{header[1]}]")
            here = table
        elif key := _KEY.match(line):
            here = (*table, *_steps(f"{key[1]} = {{}}"))
        else:
            continue
        if len(here) > depth and tuple(steps[: len(here)]) == here:
            found, depth = number, len(here)
    return found


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
