"""Dialects: result files as some compatible servers write them."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import orjson

Line = dict[str, Any]


class Dialect(StrEnum):
    """Ways to write a result file. Ways to write a line apply first, then ways to write the file, in this order."""

    STATUS_TEXT = "status_text"
    """``status_code`` as a text: ``"200"``."""
    STATUS_FLOAT = "status_float"
    NO_STATUS = "no_status"
    """A ``response`` without ``status_code``."""
    ERROR_TEXT = "error_text"
    """``error`` as a sentence, and no response where that failed."""
    ERROR_LIST = "error_list"
    STRING_BODY = "string_body"
    """``body`` as a JSON text."""
    STRING_RESPONSE = "string_response"
    """``response`` as a JSON text."""
    ARRAY = "array"
    """One JSON array."""
    PRETTY = "pretty"
    """Objects over several lines each."""
    ONE_LINE = "one_line"
    """All objects on one line."""
    TRAILING_COMMAS = "trailing_commas"
    RAW_TABS = "raw_tabs"
    """Raw tabs in place of the spaces inside texts."""
    RAW_NEWLINES = "raw_newlines"
    """Raw line breaks in place of the spaces inside texts."""
    STRAY_LINES = "stray_lines"
    """One line more at the start, which is no JSON, and one at the end, which is about no task."""
    CRLF = "crlf"
    CR = "cr"
    BOM = "bom"
    UTF_16 = "utf_16"
    GZIP = "gzip"
    HTML = "html"
    """A web page in place of the file."""


def written(lines: Sequence[bytes], dialects: Sequence[Dialect]) -> bytes:
    """Return the file of these lines."""
    spoken = [each for each in Dialect if each in dialects]
    if spoken:
        values = [orjson.loads(line) for line in lines]
        for dialect in spoken:
            values = [_OF_A_LINE[dialect](value) if dialect in _OF_A_LINE else value for value in values]
        lines = [orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE) for value in values]
    content = b"".join(lines)
    for dialect in spoken:
        if dialect in _OF_A_FILE:
            content = _OF_A_FILE[dialect](content)
    return content


def _with_status(line: Line, of: Callable[[Any], Any]) -> Line:
    response = line["response"]
    if response is None:
        return line
    return line | {"response": response | {"status_code": of(response["status_code"])}}


def _without_status(line: Line) -> Line:
    response = line["response"]
    if response is None:
        return line
    return line | {"response": {name: value for name, value in response.items() if name != "status_code"}}


def _failed(line: Line, of: Callable[[str], Any]) -> Line:
    response, error = line["response"], line["error"]
    if error is None and response is not None and isinstance(response["body"], dict):
        error = response["body"].get("error")
    return line if error is None else line | {"response": None, "error": of(str(error["message"]))}


def _string_body(line: Line) -> Line:
    response = line["response"]
    if response is None:
        return line
    return line | {"response": response | {"body": orjson.dumps(response["body"]).decode()}}


def _string_response(line: Line) -> Line:
    return line | {"response": line["response"] and orjson.dumps(line["response"]).decode()}


_OF_A_LINE: Mapping[Dialect, Callable[[Line], Line]] = {
    Dialect.STATUS_TEXT: lambda line: _with_status(line, str),
    Dialect.STATUS_FLOAT: lambda line: _with_status(line, float),
    Dialect.NO_STATUS: _without_status,
    Dialect.ERROR_TEXT: lambda line: _failed(line, str),
    Dialect.ERROR_LIST: lambda line: _failed(line, lambda message: [{"message": message}]),
    Dialect.STRING_BODY: _string_body,
    Dialect.STRING_RESPONSE: _string_response,
}
_OF_A_FILE: Mapping[Dialect, Callable[[bytes], bytes]] = {
    Dialect.ARRAY: lambda content: b"[" + b",".join(content.rstrip(b"\n").split(b"\n")) + b"]",
    Dialect.PRETTY: lambda content: b"\n".join(
        orjson.dumps(orjson.loads(line), option=orjson.OPT_INDENT_2) for line in content.split(b"\n") if line
    ),
    Dialect.ONE_LINE: lambda content: content.replace(b"\n", b" "),
    Dialect.TRAILING_COMMAS: lambda content: content.replace(b"\n", b",\n"),
    Dialect.RAW_TABS: lambda content: content.replace(b" ", b"\t"),
    Dialect.RAW_NEWLINES: lambda content: content.replace(b" ", b"\n"),
    Dialect.STRAY_LINES: lambda content: b"oops\n" + content + b'{"custom_id": "nobody-1", "response": null}\n',
    Dialect.CRLF: lambda content: content.replace(b"\n", b"\r\n"),
    Dialect.CR: lambda content: content.replace(b"\n", b"\r"),
    Dialect.BOM: lambda content: b"\xef\xbb\xbf" + content,
    Dialect.UTF_16: lambda content: content.decode().encode("utf-16"),
    Dialect.GZIP: lambda content: gzip.compress(content, mtime=0),
    Dialect.HTML: lambda _content: b"<!doctype html>\n<title>Sign in</title>\n<p>Please sign in.\n",
}
