"""JSON Schema, as far as structured outputs use it: does a value hold to it, and where does it not.

Strict about what it knows (types, enum, const, anyOf, allOf, objects, arrays, bounds, pattern, multipleOf, $ref with
recursion). What it does not know it does not judge: a keyword of another dialect lets every value pass, as do
``format`` and a pattern that RE2 does not know. Source of the subset: the provider's guide to structured outputs.

A schema comes from a sender, and an answer may be what the sender wanted it to be. So the effort is bounded, and what
it was not enough for is told (``Effort.given_up``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Any

import orjson

from .patterns import Patterns
from .schema_refs import resolved
from .wording import SHOWN_CHARACTERS

DEEPEST = 150
"""Schemas inside each other, references counted: far more than the provider takes, and within Python's stack."""
MOST_STEPS = 100_000
"""Schemas looked at, names compared and lists searched for one answer, beside a step for each of its bytes."""
_BYTES_A_STEP = 16
"""Compared or written in the time of one step."""
_KEYWORDS_A_STEP = 16

Path = tuple[Any, ...]
"""(the path before, a step): put together only where a fault is told."""
Fault = tuple[Path, str]


def _is_number(value: Any) -> bool:
    # bool is an int in Python, and is not one in JSON.
    return type(value) in (int, float)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


@dataclass
class Effort:
    """What judging one answer of ``size`` bytes may still cost, whatever its parts are held to."""

    size: int = 0
    given_up: bool = False
    """It was not enough to find out whether the answer holds."""
    patterns: Patterns = field(default_factory=Patterns)

    def __post_init__(self) -> None:
        self._left = MOST_STEPS + self.size

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _GivenUp


class _GivenUp(Exception):
    """Too deep, or too much."""


def first_fault(value: Any, schema: Any, effort: Effort | None = None) -> str | None:
    """Return where ``value`` breaks ``schema``, by path and keyword and without quoting it. None: it holds, or the
    ``effort`` was not enough and says so. Whatever ``schema`` is, nothing is raised.
    """
    effort = effort or Effort()
    try:
        found = _Judge(schema, effort).fault(value, schema, (), 0)
    except Exception:  # noqa: BLE001 - too deep or too much; or a defect of ours, which must not stop a whole batch
        effort.given_up = True
        return None
    return None if found is None else f"{_told(found[0])} {found[1]}"


class _Judge:
    """One value against one schema."""

    def __init__(self, root: Any, effort: Effort) -> None:
        self._root = root
        self._effort = effort
        self._targets: dict[str, Any] = {}
        self._members: dict[int, frozenset[bytes]] = {}

    def fault(self, value: Any, schema: Any, at: Path, depth: int) -> Fault | None:
        if not isinstance(schema, dict):
            self._effort.spend(1)
            return (at, "is not allowed") if schema is False else None
        self._effort.spend(1 + len(schema) // _KEYWORDS_A_STEP)
        if depth > DEEPEST:
            raise _GivenUp
        if (kinds := schema.get("type")) is not None and not self._is_of(value, kinds):
            return at, f"is not of type {kinds if isinstance(kinds, str) else ' or '.join(dict.fromkeys(kinds))}"
        if not _ANY_TYPE.isdisjoint(schema):
            found = self._named(value, schema, at, depth) or self._combined(value, schema, at, depth)
            if found is not None:
                return found
        if isinstance(value, str):
            return None if _TEXT.isdisjoint(schema) else self._text(value, schema, at)
        if isinstance(value, dict):
            return self._object(value, schema, at, depth)
        if isinstance(value, list):
            return self._array(value, schema, at, depth)
        if _NUMBER.keys().isdisjoint(schema) or not _is_number(value):
            return None
        return _outside(value, schema, at)

    def _is_of(self, value: Any, kinds: Any) -> bool:
        """A type that is not known lets every value pass."""
        if isinstance(kinds, str):
            holds = _TYPES.get(kinds)
            return holds is None or holds(value)
        if not isinstance(kinds, list):
            return True
        self._effort.spend(len(kinds))
        return (
            any(not isinstance(kind, str) or kind not in _TYPES or _TYPES[kind](value) for kind in kinds) or not kinds
        )

    def _named(self, value: Any, schema: dict[str, Any], at: Path, depth: int) -> Fault | None:
        """``$ref``, ``enum`` and ``const``."""
        if isinstance(ref := schema.get("$ref"), str):
            found = self.fault(value, self._target(ref), at, depth + 1)
            if found is not None:
                return found
        if isinstance(choices := schema.get("enum"), list) and self._canonical(value) not in self._set(choices):
            return at, "is none of its enum"
        if "const" in schema and self._canonical(value) not in self._set([schema["const"]], of=id(schema)):
            return at, "is not its const"
        return None

    def _combined(self, value: Any, schema: dict[str, Any], at: Path, depth: int) -> Fault | None:
        some, one, every = (schema.get(name) for name in ("anyOf", "oneOf", "allOf"))
        if isinstance(some, list) and all(self.fault(value, each, at, depth + 1) is not None for each in some):
            return at, "holds to none of its anyOf"
        if isinstance(one, list) and [self.fault(value, each, at, depth + 1) for each in one].count(None) != 1:
            return at, "does not hold to exactly one of its oneOf"
        for each in every if isinstance(every, list) else ():
            if (found := self.fault(value, each, at, depth + 1)) is not None:
                return found
        return None

    def _object(self, value: dict[str, Any], schema: dict[str, Any], at: Path, depth: int) -> Fault | None:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        required = required if isinstance(required, list) else []
        self._effort.spend(len(required))
        for name in required:
            if isinstance(name, str) and name not in value:
                return at, f"has no {name[:SHOWN_CHARACTERS]}"
        rest = schema.get("additionalProperties", True)
        # Those of patternProperties are not judged, and so not refused either.
        patterns = bool(schema.get("patternProperties"))
        found = None
        for name, inner in value.items():
            if name in properties:
                found = self.fault(inner, properties[name], (at, name), depth + 1)
            elif not patterns:
                # Not named: what the schema does not know of is the model's own text.
                found = self.fault(inner, rest, (at, _UNNAMED), depth + 1)
            if found is not None:
                return found
        return _counted(len(value), schema, ("minProperties", "maxProperties", "properties"), at)

    def _array(self, value: list[Any], schema: dict[str, Any], at: Path, depth: int) -> Fault | None:
        first = schema.get("prefixItems")
        first = first if isinstance(first, list) else []
        for place, inner in enumerate(value):
            each = first[place] if place < len(first) else schema.get("items")
            if (found := self.fault(inner, each, (at, place), depth + 1)) is not None:
                return found
        found = _counted(len(value), schema, ("minItems", "maxItems", "items"), at)
        if found is None and schema.get("uniqueItems") is True and len({*map(self._canonical, value)}) < len(value):
            return at, "has items that are the same"
        return found

    def _text(self, value: str, schema: dict[str, Any], at: Path) -> Fault | None:
        found = _counted(len(value), schema, ("minLength", "maxLength", "characters"), at)
        pattern = schema.get("pattern")
        if found is None and isinstance(pattern, str) and self._effort.patterns.matches(pattern, value) is False:
            return at, "does not match its pattern"
        return found

    def _target(self, ref: str) -> Any:
        if ref not in self._targets:
            self._effort.spend(len(ref) // _BYTES_A_STEP)
            self._targets[ref] = resolved(self._root, ref)
        return self._targets[ref]

    def _set(self, choices: list[Any], of: int | None = None) -> frozenset[bytes]:
        key = id(choices) if of is None else of
        if key not in self._members:
            self._members[key] = frozenset(map(self._canonical, choices))
        return self._members[key]

    def _canonical(self, value: Any) -> bytes:
        """Bytes that are equal for what is equal in JSON: 1 is 1.0, and not true."""
        if isinstance(value, str):
            text = b'"' + value.encode()
        else:
            text = orjson.dumps(_plain(value), option=orjson.OPT_SORT_KEYS)
        self._effort.spend(1 + len(text) // _BYTES_A_STEP)
        return text


_UNNAMED = object()
"""The step to a property that the schema does not name."""


def _told(path: Path) -> str:
    steps: list[Any] = []
    while path:
        path, step = path
        steps.append(step)
    told = "$"
    for step in reversed(steps):
        if step is _UNNAMED:
            told += " has a property beside its own, which"
        else:
            told += f"[{step}]" if isinstance(step, int) else f".{step[:SHOWN_CHARACTERS]}"
    return told


def _plain(value: Any) -> Any:
    """With whole numbers as such, however they are written."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**63:
            return int(value)
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
    return value


def _outside(value: float, schema: dict[str, Any], at: Path) -> Fault | None:
    for name, within in _NUMBER.items():
        bound = schema.get(name)
        if _is_number(bound) and not within(value, bound):
            return at, f"is outside its {name}"
    return None


def _is_multiple(value: float, of: float) -> bool:
    """In decimals, as they are written: 0.3 is a multiple of 0.1."""
    try:
        return of <= 0 or Decimal(str(value)) % Decimal(str(of)) == 0
    except ArithmeticError:  # beyond what decimals are exact for
        return True


def _counted(count: int, schema: dict[str, Any], names: tuple[str, str, str], at: Path) -> Fault | None:
    least, most, what = names
    low, high = schema.get(least, 0), schema.get(most, count)
    if _is_number(low) and count < low:
        return at, f"has fewer {what} than its {least}"
    if _is_number(high) and count > high:
        return at, f"has more {what} than its {most}"
    return None


_ANY_TYPE = frozenset({"$ref", "enum", "const", "anyOf", "oneOf", "allOf"})
_TEXT = frozenset({"minLength", "maxLength", "pattern"})
_NUMBER: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": ge,
    "maximum": le,
    "exclusiveMinimum": gt,
    "exclusiveMaximum": lt,
    "multipleOf": _is_multiple,
}
"""Keywords that a schema mostly does not have, so that a step costs little where it has none."""
