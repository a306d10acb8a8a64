"""A file that is given on a command line, or - for standard input."""

from __future__ import annotations

import io
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from lowtide_local.run.formats import HEAD_BYTES

from .stop import usage


def reader(file: Path, held: ExitStack) -> io.BufferedReader:
    """The file, open for as long as ``held`` is, with room to look at its beginning. Raises Stop."""
    try:
        if str(file) != "-":
            opened = io.BufferedReader(cast("Any", file.open("rb", buffering=0)), HEAD_BYTES)
            held.callback(opened.close)
            return opened
        given = sys.stdin.buffer
        return given if isinstance(given, io.BufferedReader) else io.BufferedReader(cast("Any", given), HEAD_BYTES)
    except OSError as error:
        raise usage(f"cannot read {named(file)}: {error.strerror or error}; give a file, or -") from None


def named(file: Path) -> str:
    return "standard input" if str(file) == "-" else str(file)
