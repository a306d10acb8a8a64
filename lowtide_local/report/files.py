"""Files that are there whole or not at all: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from lowtide_local.disk import create, named

UNICODE_LINE_ENDS = {mark.encode(): rf"\u{ord(mark):04x}".encode() for mark in "\u0085\u2028\u2029"}
"""Those that JSON lets stand unescaped inside a string."""


def write_by_rename(path: Path, data: bytes) -> None:
    """Replaces ``path`` with ``data``, for this user alone. Raises OSError with the path; then the old file, if any, is
    untouched and nothing is left."""
    _replace(path, lambda file: file.write(data))


def write_json(path: Path, document: Any) -> None:
    """One JSON document, indented, by rename."""
    write_by_rename(path, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """One JSON line per row, by rename and in bounded memory; returns how many. ``bytes`` are a line already.

    What Unicode takes for a line end is written as an escape: a reader that splits on it would break a row in two.
    """
    written = 0

    def write(file: BinaryIO) -> None:
        nonlocal written
        for row in rows:
            file.write(_line(row if isinstance(row, bytes) else orjson.dumps(row)))
            written += 1

    _replace(path, write)
    return written


def _line(line: bytes) -> bytes:
    for raw, escaped in UNICODE_LINE_ENDS.items():
        line = line.replace(raw, escaped)
    return line + b"\n"


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    # One writer per path, so the name is fixed: what a killed writer left is overwritten by the next one.
    beside = path.with_name(f".{path.name}.partial")
    try:
        with named(path), create(beside) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):  # a directory of that name, say, which is the error that is told
            beside.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Makes the rename itself durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
