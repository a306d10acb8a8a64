"""A deployment's routes: an overlay on the shipped file, with only what differs.

Tables are laid over tables, entry by entry. Any other value, an array too, replaces what ships. ``remove`` lists
dotted keys that are taken out of the shipped file first; one that is not there removes nothing, so that an overlay
outlives the release that drops an entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .errors import ConfigError
from .routes import Fault, Routes, Unfit
from .toml_lines import KeyLines, steps_of, table_of
from .wording import path, shown

REMOVE = "remove"
"""The one key of an overlay that is no section of the routes."""
_MOST_REMOVALS = 200
_BYTE_ORDER_MARK = "\ufeff"
"""What some editors put before a text of UTF-8."""
MOST_FAULTS = 20
"""What is told of one overlay at a time."""
_SECTIONS = frozenset(Routes.model_fields) - {"version"}

Steps = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LineFault:
    """What is wrong with an overlay, and where: ``line`` counts from 1, ``problem`` names the setting."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that an overlay changes. ``before`` None: the shipped file does not have it. ``after`` None: it is
    removed. ``line`` is the overlay's."""

    line: int
    steps: Steps
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay that has been read, with the routes that come of it, or with what is wrong with it."""

    routes: Routes | None
    faults: tuple[LineFault, ...]
    changes: tuple[Change, ...] = ()
    without_effect: tuple[LineFault, ...] = ()
    """Entries of ``remove`` that the shipped file does not have."""


def overlaid(shipped: str, text: str) -> Routes:
    """Return the shipped routes with ``text`` over them. Raises ConfigError with the line at fault in ``text``."""
    read = read_overlay(shipped, text)
    if read.routes is None:
        first = read.faults[0]
        raise ConfigError(f"routes.toml: line {first.line}: {first.problem}")
    return read.routes


def read_overlay(shipped: str, text: str) -> Overlay:
    """Return everything there is to say about an overlay. Raises ConfigError for a text that is no TOML."""
    text = text.removeprefix(_BYTE_ORDER_MARK)
    table = table_of(text)
    if not text.strip():
        raise ConfigError("routes.toml: line 1: it is empty; a comment alone leaves the shipped routes as they are")
    base, lines = table_of(shipped), _Lines(text)
    removals, faults = _removals(table.pop(REMOVE, []), lines)
    kept, absent = base, []
    for steps in removals:
        if _has(base, steps):
            kept = _without(kept, steps)
        else:
            absent.append(LineFault(lines.of_removal(steps), f"{path(steps)} is not in the shipped routes"))
    laid = _laid_over(kept, table)
    changes = tuple(Change(lines.of(steps), steps, before, after) for steps, before, after in _differences(base, laid))
    try:
        routes = Routes.of(laid)
    except Unfit as unfit:
        faults += [_placed(fault, lines) for fault in unfit.faults[:MOST_FAULTS]]
    if faults:
        return Overlay(None, tuple(sorted(faults, key=lambda fault: fault.line)[:MOST_FAULTS]), changes)
    return Overlay(routes, (), changes, tuple(absent))


def _removals(given: Any, lines: _Lines) -> tuple[list[Steps], list[LineFault]]:
    line = lines.of((REMOVE,))
    if not isinstance(given, list) or len(given) > _MOST_REMOVALS:
        return [], [LineFault(line, f'{REMOVE}: give an array of dotted keys, as ["types.lead_scoring"]')]
    removals: list[Steps] = []
    faults: list[LineFault] = []
    for each in given:
        steps = steps_of(each) if isinstance(each, str) else ()
        if steps and steps[0] in _SECTIONS:
            removals.append(steps)
        elif steps:
            told = f"{REMOVE}: {path(steps)} is in no section; the sections are {', '.join(sorted(_SECTIONS))}"
            faults.append(LineFault(lines.of_removal(steps), told))
        else:
            told = f"{REMOVE}: {shown(each)} is no dotted key; write it as TOML does, as 'models.\"*\"'"
            faults.append(LineFault(line, told))
    return removals, faults


def _placed(fault: Fault, lines: _Lines) -> LineFault:
    problem = f"{path(fault.steps)}: {fault.problem}" if fault.steps else fault.problem
    return LineFault(lines.of(fault.steps), problem)


class _Lines:
    """Where the settings of an overlay are in its text."""

    def __init__(self, text: str) -> None:
        self._keys = KeyLines(text)
        self._removals: dict[Steps, int] | None = None
        self._around: dict[Steps, int] = {}

    def of(self, steps: Steps) -> int:
        """Return the line that brought ``steps`` about: the deepest key on the way, or the removal of what it needs."""
        removals = self._removed()
        for depth in range(len(steps), self._keys.depth(steps), -1):
            if steps[:depth] in removals:
                return removals[steps[:depth]]
        if steps in self._around and self._keys.depth(steps) < len(steps):
            return self._around[steps]
        return self._keys.of(steps)

    def of_removal(self, steps: Steps) -> int:
        """Return the line of an entry of ``remove``."""
        return self._removed().get(steps, self._keys.of((REMOVE,)))

    def _removed(self) -> dict[Steps, int]:
        """The line of each entry of ``remove``, found once."""
        if self._removals is None:
            self._removals = {}
            if self._keys.depth((REMOVE,)):
                for line, entry in islice(self._keys.of_strings((REMOVE,)), _MOST_REMOVALS):
                    steps = steps_of(entry)
                    self._removals.setdefault(steps, line)
                    for depth in range(1, len(steps)):
                        self._around.setdefault(steps[:depth], line)
        return self._removals


def _has(table: Any, steps: Steps) -> bool:
    for step in steps:
        if not isinstance(table, dict) or step not in table:
            return False
        table = table[step]
    return True


def _without(table: dict[str, Any], steps: Steps) -> dict[str, Any]:
    first, *rest = steps
    if first not in table:  # an earlier removal took the whole of it
        return table
    if not rest:
        return {name: value for name, value in table.items() if name != first}
    return table | {first: _without(table[first], tuple(rest))}


def _laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    laid = dict(base)
    for name, value in over.items():
        below = laid.get(name)
        laid[name] = _laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return laid


def _differences(before: Any, after: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any, Any]]:
    """(steps, before, after) of each setting that differs. What is removed is told once, at its root."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            here = (*steps, name)
            if name not in after:
                yield here, before[name], None
            elif isinstance(after[name], dict) and after[name] and name not in before:
                yield from _differences({}, after[name], here)
            else:
                yield from _differences(before.get(name), after[name], here)
    elif before != after or type(before) is not type(after):
        yield steps, before, after
