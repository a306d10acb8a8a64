"""How the operator's verbs print: one JSON document, or plain tables that colour only a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

NUMBERS = frozenset(
    {
        *("messages", "in flight", "delayed", "parts", "batches", "tasks", "attempts", "requests", "age", "ago"),
        *("input tokens", "output, at most", "dollars"),
    }
)
"""Columns that stand under each other on the right."""
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
TWICE = 2
"""A unit is used from twice its length on: 90 minutes say more than 1 hour."""


def print_json(document: Any) -> None:
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


class JsonList:
    """One JSON document with a list that is written as it grows, and never held."""

    def __init__(self, name: str) -> None:
        self._before = f'{{"{name}": ['.encode()

    def add(self, member: bytes) -> None:
        """``member``: one JSON value."""
        sys.stdout.buffer.write(self._before + b"\n" + member)
        self._before = b","

    def end(self, facts: Mapping[str, Any]) -> None:
        """Close the list, and the document with these fields behind it."""
        rest = b"".join(b",\n" + orjson.dumps(name) + b": " + orjson.dumps(value) for name, value in facts.items())
        opening = b"" if self._before == b"," else self._before
        sys.stdout.buffer.write(opening + b"]" + rest + b"}\n")


def console() -> Console:
    return Console(highlight=False)


def table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True, overflow="ellipsis")
    return made


def row(made: Table, *cells: object) -> None:
    made.add_row(*("-" if cell is None else escape(str(cell)) for cell in cells))


def facts(document: Mapping[str, Any]) -> Iterable[str]:
    """A line a field; what is null or not so is left out."""
    width = max(map(len, document))
    for name, value in document.items():
        if value is not None and value is not False:
            yield f"[dim]{name.replace('_', ' '):<{width}}[/]  {escape(str(value))}"


def ago(moment: datetime, now: datetime) -> str:
    seconds = max(0, round((now - moment).total_seconds()))
    for unit_s, name in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if seconds >= TWICE * unit_s:
            return f"{seconds // unit_s} {name}"
    return f"{seconds} s"
