"""Request lines out, result lines in. Bytes only: written by a serializer, split on ``\\n`` by whoever reads them."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from .outcomes import Response
from .task import Endpoint

_BYTES_PER_TOKEN = 4
"""A rule of thumb for English text; estimates bind nothing but the fill of a batch."""
_DIGITS = 18
"""What surely fits in 64 bits."""


def request_line(custom_id: str, endpoint: Endpoint, body: dict[str, Any]) -> bytes:
    """One line of a batch's input, ``\\n`` included. ASCII escapes keep U+2028 from readers that split on it."""
    line = {"custom_id": custom_id, "method": "POST", "url": endpoint.value, "body": body}
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


@dataclass(frozen=True, slots=True)
class ResultLine:
    """A line of a batch's output or error file, as far as it could be read."""

    custom_id: str
    response: Response | None
    error_code: str | None
    error_message: str | None
    error_type: str | None = None


def parse_result_line(raw: bytes) -> ResultLine | None:
    """Lenient, because what was paid for must not be lost to a stray byte. None: it names no task."""
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            line = _mended(raw)
        except (ValueError, RecursionError):
            return None
    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
        return None
    error = line.get("error")
    error = error if isinstance(error, dict) else {}
    return ResultLine(
        custom_id=line["custom_id"],
        response=_response(line.get("response")),
        error_code=_text(error.get("code")) or _text(error.get("type")),
        error_message=_text(error.get("message")),
        error_type=_text(error.get("type")),
    )


def _mended(raw: bytes) -> Any:
    """What a record can hold of JSON that is not quite: stray bytes and halves of surrogate pairs become question
    marks, numbers that are none become null. Raises ValueError or RecursionError."""
    value = json.loads(
        raw.decode("utf-8", errors="replace"), parse_constant=_finite, parse_float=_finite, parse_int=_whole
    )
    return orjson.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace"))


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> float | None:
    """Beyond 64 bits an integer is kept as near as a float comes."""
    return int(text) if len(text) <= _DIGITS else _finite(text)


def _response(value: Any) -> Response | None:
    if not isinstance(value, dict):
        return None
    status = value.get("status_code")
    if isinstance(status, bool) or not isinstance(status, int):
        return None
    body = value.get("body")
    if isinstance(body, str):  # compatible servers send the body as a JSON string
        with suppress(orjson.JSONDecodeError):
            body = orjson.loads(body)
    return Response(status=status, body=body, request_id=_text(value.get("request_id")))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def embedding_inputs(body: dict[str, Any]) -> int:
    """How many inputs an embeddings request holds: a text or a list of token numbers is one."""
    given = body.get("input")
    return len(given) if isinstance(given, list) and not (given and isinstance(given[0], int)) else 1


def _given_tokens(given: Any) -> int | None:
    """An embedding's input may be tokens already, in one list or several: then they are counted, not guessed."""
    rows = given if isinstance(given, list) and given and isinstance(given[0], list) else [given]
    if not all(isinstance(row, list) and row and isinstance(row[0], int) for row in rows):
        return None
    return sum(len(row) for row in rows)


def estimated_tokens(body: dict[str, Any], size: int) -> int:
    """What a request will count against an enqueued-token limit: its input, and the output that it allows."""
    if (tokens := _given_tokens(body.get("input"))) is not None:
        return tokens
    limits = (body.get(name) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"))
    allowed = next((limit for limit in limits if isinstance(limit, int)), 0)
    return size // _BYTES_PER_TOKEN + allowed
