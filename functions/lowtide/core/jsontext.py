"""JSON as it comes in and as it is compared: strict about everything that could not be passed on unchanged."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

from .errors import Refused
from .refusals import RefusalCode

# What Python has beyond JSON is not to slip through as if it were JSON.
_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def decode(text: str | bytes) -> Any:
    """The value of a JSON text. Raises Refused (``invalid_json``).

    Stricter than most parsers, because the value is passed on and hashed: a name twice in one object, NaN and
    Infinity, numbers beyond 64 bits and broken Unicode are refused, where others would quietly change them.
    """
    try:
        read = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(read, object_pairs_hook=_object, parse_constant=_constant)
        canonical(value)
    except json.JSONDecodeError as fault:
        place = f"{fault.msg.removesuffix(' at')} at line {fault.lineno}, column {fault.colno}"
        raise Refused(RefusalCode.INVALID_JSON, f"not JSON: {place}; send one JSON object") from None
    except UnicodeDecodeError:
        raise Refused(RefusalCode.INVALID_JSON, "not JSON: the text is not UTF-8; encode it as UTF-8") from None
    except RecursionError:
        raise Refused(RefusalCode.INVALID_JSON, "not JSON that can be carried: nested too deeply; flatten it") from None
    except ValueError as fault:
        raise Refused(RefusalCode.INVALID_JSON, f"not JSON that can be carried: {fault}") from None
    return value


def canonical(value: Any) -> bytes:
    """UTF-8 with sorted keys and no whitespace: equal for equal values, however they were written.

    Raises ValueError for what would not survive the journey: no JSON value at all, NaN, numbers beyond 64 bits,
    broken Unicode, nesting beyond 254 levels.
    """
    try:
        text = orjson.dumps(value, option=_CANONICAL)
    except TypeError as fault:
        raise ValueError(f"{fault}; send plain JSON values") from None
    if orjson.loads(text) != value:  # orjson writes NaN and Infinity as null
        raise ValueError("NaN and Infinity are no JSON; send null or a number")
    return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{json.dumps(twice[:40])} is given twice in one object; keep one")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; send null or a number")
