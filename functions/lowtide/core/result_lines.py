"""Lines of a batch's output and error files, read as leniently as they can be understood: they were paid for.

Compatible servers write the fields of a line in their own ways: a status as text, an error as a sentence, a body as a
JSON text. This module undoes that. A line that cannot be read is reported with its place and a reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson

from .leniency import Braces, Objects, blank, objects, value_of
from .outcomes import Response
from .provider_words import code_text

_ANSWERS = ("choices", "output", "data")
"""Fields of an answer's body, one for each endpoint. They tell an answer where the status is missing."""
_STATUS_NAMES = ("status_code", "status", "statusCode", "code")
_WRAPPED = 2
"""Times that a body may be written as a text, or into a list, of its own."""
_STATUS = re.compile(r"\s*(\d{3})(?!\d)")
_STATUSES = range(100, 600)
_OK = 200
_SUCCESS = range(200, 300)
_IDS = ("custom_id", "customId", "customID", "custom-id", "CustomId")
_RESPONSES = ("response", "result", "output")
_PAGES = ("data", "results", "lines", "items")
"""Fields that list the lines, where a whole page of them stands in one object."""
_IN_PLACE = frozenset({"status_code", "body"})
"""Fields of a response. Some servers write them into the line itself."""
_ID = re.compile(rb'"[cC]ustom[_-]?(?:[iI]d|ID)"')
_NAMED = re.compile(rb'"[cC]ustom[_-]?(?:[iI]d|ID)"\s*:\s*(?:"([^"\\]{1,200})"|(\d{1,20}))')
_NAMED_WITHIN = 100_000
"""Bytes of an unreadable line that are searched for its task's id."""
_LONGEST_HELD = 50_000_000
"""Bytes of an object that is written over several lines; a longer one is given up."""
NO_ID = "it names no custom_id"


@dataclass(frozen=True, slots=True)
class ResultLine:
    """A line of a batch's output or error file, as far as it could be read."""

    custom_id: str
    response: Response | None
    error_code: str | None
    error_message: str | None
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """A line that settles nothing. ``line`` is its number from 1, ``reason`` says why and quotes nothing of it, and
    ``custom_id`` is the id that it shows, if any."""

    line: int
    reason: str
    raw: bytes
    custom_id: str | None = None

    @classmethod
    def of(cls, line: int, reason: str, raw: bytes) -> Unread:
        return cls(line, reason, raw, named_in(raw))


def named_in(raw: bytes) -> str | None:
    """Return the ``custom_id`` that a broken line shows, or None."""
    found = _NAMED.search(raw, 0, _NAMED_WITHIN)
    return None if found is None else code_text((found[1] or found[2]).decode("utf-8", errors="replace"))


def parse_result_line(raw: bytes) -> ResultLine | None:
    """Return the first task's line in it, or None where it names no task."""
    strict = _strictly(raw)
    if strict is not None:
        return strict
    return next((line for value in _each(objects(raw).found) if (line := _line(value)) is not None), None)


class ResultReader:
    """Reads a file's lines one after the other. A line with a whole object comes back at once; an object that is
    written over several lines comes back with the last of them."""

    def __init__(self) -> None:
        self.line = 0
        """Number of the line that was fed last, from 1."""
        self._held: list[bytes] = []
        self._held_from = 0
        self._held_bytes = 0
        self._braces = Braces()

    def feed(self, raw: bytes) -> Iterator[ResultLine | Unread]:
        """Read the next line, without its line end. Blank lines are fed too, so that numbers are right."""
        self.line += 1
        if self._held and _ID.search(raw) is None:
            yield from self._hold(raw)
            return
        strict = _strictly(raw)
        if strict is not None:
            yield from self._given_up()
            yield strict
        elif not blank(raw):
            yield from self._leniently(raw)

    def end(self) -> Iterator[Unread]:
        """Return what is left at the end of the file."""
        return self._given_up()

    def _leniently(self, raw: bytes) -> Iterator[ResultLine | Unread]:
        got = objects(raw)
        lines = [_line(value) for value in _each(got.found)]
        if self._held and not any(lines):
            yield from self._hold(raw)
            return
        yield from self._given_up()
        yield from self._told(self.line, raw, got, lines)
        if got.open:
            yield from self._hold(got.rest.encode("utf-8", errors="replace"))

    def _told(
        self, number: int, raw: bytes, got: Objects, lines: Sequence[ResultLine | None]
    ) -> Iterator[ResultLine | Unread]:
        """Return the lines that were found in one text, and at most one Unread for the rest of it."""
        for line in lines:
            if line is not None:
                yield line
        if got.fault is not None and not got.open:
            yield Unread.of(number, got.fault, raw)
        elif not all(lines):
            yield Unread.of(number, NO_ID, raw)

    def _hold(self, raw: bytes) -> Iterator[ResultLine | Unread]:
        """Keep a piece of an object until its braces are closed."""
        if not self._held:
            self._held_from, self._held_bytes, self._braces = self.line, 0, Braces()
        self._held.append(raw)
        self._held_bytes += len(raw) + 1
        self._braces.feed(raw)
        if self._held_bytes > _LONGEST_HELD:
            yield from self._given_up()
        elif not self._braces.open:
            whole, self._held = b"\n".join(self._held), []
            got = replace(objects(whole), open=False)
            yield from self._told(self._held_from, whole, got, [_line(value) for value in _each(got.found)])

    def _given_up(self) -> Iterator[Unread]:
        if self._held:
            held, self._held = b"\n".join(self._held), []
            yield Unread.of(self._held_from, "it ends in the middle of an object", held)


def _strictly(raw: bytes) -> ResultLine | None:
    try:
        return _line(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return None


def _each(values: Iterable[Any]) -> Iterator[Any]:
    """Return the values, and in place of a page of lines the lines that it lists."""
    for value in values:
        pages: list[Any] = []
        if isinstance(value, dict) and not any(name in value for name in _IDS):
            pages = [page for name in _PAGES if isinstance(page := value.get(name), list) and page]
        yield from pages[0] if pages else [value]


def _line(value: Any) -> ResultLine | None:
    """Return the line, or None where it names no task."""
    if not isinstance(value, dict):
        return None
    custom_id = next((value[name] for name in _IDS if value.get(name) is not None), None)
    if not isinstance(custom_id, str):
        if isinstance(custom_id, bool) or not isinstance(custom_id, int | float):
            return None
        custom_id = str(int(custom_id)) if custom_id == int(custom_id) else str(custom_id)
    found = (_alone(value.get(name)) for name in _RESPONSES)
    response = next((each for each in found if each and isinstance(each, dict)), None)
    if response is None and not _IN_PLACE.isdisjoint(value):
        # The response's fields stand in the line itself.
        response = {name: value[name] for name in ("status_code", "request_id", "body") if name in value}
    code, message, kind = _error(value.get("error"))
    if isinstance(response, dict):
        read = _response(response)
        told = code is not None or message is not None
        if read is None and not told:
            body = _body(response)
            beside = response if "message" in response else None
            code, message, kind = _error(_at(body, "error") or response.get("error") or beside)
        if read is not None and not read.body and told:
            # The sentence stands beside an empty response: it is the response's.
            read = None if read.status in _SUCCESS else _saying(read, code, message, kind)
        return ResultLine(custom_id, read, code, message, kind)
    return ResultLine(custom_id, None, code, message, kind)


def _response(response: dict[str, Any]) -> Response | None:
    """Return the response, or None where it has no status and is no answer either."""
    body = _body(response)
    status = next((found for name in _STATUS_NAMES if (found := _status(response.get(name))) is not None), None)
    if status is None:
        # The body itself in place of the response, or a response without its status.
        body = response if body is None else body
        if not _answers(body):
            return None
        status = _OK
    return Response(status=status, body=body, request_id=_text(response.get("request_id")))


def _body(response: dict[str, Any]) -> Any:
    """Return the body, however it is wrapped: as a JSON text, also of a JSON text, or as a list of one."""
    body = response.get("body")
    if body is None and not isinstance(response.get("data"), list):
        body = response.get("data")
    for _ in range(_WRAPPED):
        if isinstance(body, str) and body.startswith('"'):
            with suppress(ValueError):
                body = value_of(body)
        body = _alone(body)
    return body


def _saying(response: Response, code: str | None, message: str | None, kind: str | None) -> Response:
    error = {"code": code, "message": message} | ({} if kind is None else {"type": kind})
    return replace(response, body={"error": error})


def _status(value: Any) -> int | None:
    """Return the status of 200, 200.0, ``"200"`` or ``"200 OK"``; None for anything else."""
    match value:
        case bool():
            return None
        case int() | float() if value in _STATUSES:
            return int(value)
        case str() if (found := _STATUS.match(value)) is not None:
            return _status(int(found[1]))
        case _:
            return None


def _answers(body: Any) -> bool:
    return isinstance(body, dict) and not body.get("error") and any(body.get(name) for name in _ANSWERS)


def _error(value: Any) -> tuple[str | None, str | None, str | None]:
    """Return code, message and type of an error that is an object, a sentence, or a list of either."""
    value = _given(value)
    while isinstance(value, list) and value:
        value = _given(value[0])
    match value:
        case None | "" | False | []:
            return None, None, None
        case dict():
            code = next((value[name] for name in ("code", "type", "status", "status_code") if value.get(name)), None)
            told = next((value[name] for name in ("message", "detail", "msg", "error") if value.get(name)), None)
            return _said(code), _said(told), _text(value.get("type"))
        case _:
            return None, _said(value), None


def _said(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return "(nested too deeply to be shown)"


def _given(value: Any) -> Any:
    """Return the value, or what it spells out where it is the JSON text of an object or an array."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with suppress(ValueError):
            return value_of(value)
    return value


def _alone(value: Any) -> Any:
    """Return what a list of one holds, or the value itself."""
    value = _given(value)
    return _given(value[0]) if isinstance(value, list) and len(value) == 1 else value


def _at(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
