"""JSON as it comes in and as it is compared: strict about everything that could not be passed on unchanged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from .errors import Refused
from .refusals import RefusalCode

# What Python has beyond JSON is not to slip through as if it were JSON.
_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


DEEPEST = 100
"""Levels of nesting that are carried: pydantic writes 255 and reads back only 200, some of which are our own."""


class Twice(dict[str, Any]):
    """An object in which ``name`` was given twice. Its text does not say which of the two values is meant."""

    name: str


def decode(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises Refused (``invalid_json``) where it is none.

    What is JSON and yet cannot be passed on unchanged is found by ``canonical``, task by task: one such task in a pack
    must not take the others with it.
    """
    try:
        read = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(read, object_pairs_hook=_object)
    except json.JSONDecodeError as fault:
        place = f"{fault.msg.removesuffix(' at')} at line {fault.lineno}, column {fault.colno}"
        raise Refused(RefusalCode.INVALID_JSON, f"not JSON: {place}; send one JSON object") from None
    except UnicodeDecodeError:
        raise Refused(RefusalCode.INVALID_JSON, "not JSON: the text is not UTF-8; encode it as UTF-8") from None
    except RecursionError:
        raise Refused(RefusalCode.INVALID_JSON, "not JSON that can be carried: nested too deeply; flatten it") from None
    except ValueError:  # the one that is left: Python reads no whole number of more than so many digits
        problem = f"it holds a number of more than {sys.get_int_max_str_digits()} digits; send it as a text"
        raise Refused(RefusalCode.INVALID_JSON, f"not JSON that can be carried: {problem}") from None


def canonical(value: Any) -> bytes:
    """UTF-8 with sorted keys and no whitespace: equal for equal values, however they were written.

    Raises ValueError for what would not survive the journey: no JSON value at all, NaN, numbers beyond 64 bits,
    broken Unicode, a name twice in one object, nesting beyond 100 levels.
    """
    _check_sound(value)
    return sorted_text(value)


def sorted_text(value: Any) -> bytes:
    """As ``canonical``, of a value in which that has found nothing wrong: a large one is not looked through again."""
    try:
        return orjson.dumps(value, option=_CANONICAL)
    except TypeError as fault:
        raise ValueError(f"{fault}; send plain JSON values") from None


def carriable(value: Any) -> Any:
    """The value, or where it would not survive the journey its JSON text: for a dead letter, which must be written."""
    try:
        canonical(value)
    except ValueError:
        try:
            return json.dumps(value)
        except (RecursionError, TypeError, ValueError):
            return "(nested too deeply to be shown)"
    return value


def layers(value: Any) -> Iterator[list[Any]]:
    """The value, then what is directly inside it, then what is inside that, … without recursion, as far as asked."""
    layer = [value]
    while layer:
        yield layer
        inside = (each.values() if isinstance(each, dict) else each for each in layer if isinstance(each, dict | list))
        layer = [inner for each in inside for inner in each]


def _check_sound(value: Any) -> None:
    layer, depth = [value], 0
    while layer:
        if depth > DEEPEST:
            raise ValueError(f"it is nested beyond {DEEPEST} levels; flatten it")
        inside: list[Any] = []
        for each in layer:
            if isinstance(each, str):
                continue
            if isinstance(each, dict):
                if isinstance(each, Twice):
                    told = json.dumps(each.name[:40])
                    raise ValueError(f"{told} is given twice in one object; keep one")  # noqa: TRY004 - a JSON object
                inside += each.values()
            elif isinstance(each, list):
                inside += each
            elif isinstance(each, float) and each - each != 0:  # orjson writes it as null
                raise ValueError("NaN and Infinity are no JSON; send null or a number")
            elif each is not None and not isinstance(each, int | float):
                raise ValueError(f"it holds a {type(each).__name__}; send plain JSON values")
        layer, depth = inside, depth + 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    twice = Twice(value)
    twice.name = _repeated(name for name, _ in pairs)
    return twice


def _repeated(names: Iterable[str]) -> str:
    """The first name that comes a second time; each is looked up once, so that a hostile object costs no more."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("no name comes twice")
