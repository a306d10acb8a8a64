"""Recognises files that do not hold one JSON task per line, from their beginning.

A file is refused only where not one of its first lines may be a task; where some are wrong, each of those is refused by
itself while the run goes on.
"""

from __future__ import annotations

import csv
import json
import re
from typing import Any

from .shapes import AS_TASKS, holding, shape

HEAD_BYTES = 262_144
"""Size of the beginning that is looked at."""
LINES = 20
"""Number of non-blank lines that are looked at."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip: unpack it first (gunzip -c FILE > NEW.jsonl)"),
    (b"PK\x03\x04", "a zip archive or an Office document: unpack it, or export it, first"),
    (b"BZh", "bzip2: unpack it first (bunzip2 -c FILE > NEW.jsonl)"),
    (b"\xfd7zXZ\x00", "xz: unpack it first (xz -dc FILE > NEW.jsonl)"),
    (b"\x28\xb5\x2f\xfd", "Zstandard: unpack it first (zstd -dc FILE > NEW.jsonl)"),
    (b"\x04\x22\x4d\x18", "LZ4: unpack it first (lz4 -dc FILE > NEW.jsonl)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (b"PAR1", f"Parquet: {AS_TASKS}"),
    (b"ARROW1", f"Arrow: {AS_TASKS}"),
    (b"Obj\x01", f"Avro: {AS_TASKS}"),
    (b"ORC", f"ORC: {AS_TASKS}"),
    (b"SQLite format 3\x00", f"an SQLite database: {AS_TASKS}"),
    (b"%PDF-", f"a PDF document: {AS_TASKS}"),
    (b"\x93NUMPY", f"a NumPy array: {AS_TASKS}"),
    (b"\x89PNG", "a picture: give a file of tasks"),
    (b"\xff\xd8\xff", "a picture: give a file of tasks"),
)
_WIDE = "UTF-16 or UTF-32: write it as UTF-8 (iconv -f UTF-16 -t UTF-8 FILE > NEW.jsonl)"
_EIGHT_BIT = "text that is no UTF-8, perhaps Latin-1: convert it (iconv -f LATIN1 -t UTF-8 FILE > NEW.jsonl)"
_ARRAY = "a JSON array: write each of its members on a line of its own (jq -c '.[]' FILE > NEW.jsonl)"
_PRETTY = "JSON that runs over several lines: write each task on one line (jq -c . FILE > NEW.jsonl)"
_NO_JSON = f"text that is no JSON: {AS_TASKS}"
_BLANK = " \t\r\n\f\v"
"""Blanks around a line. Unicode's blanks and ASCII's separators are not among them: they break a line of JSON."""

_LIST_INSIDE = re.compile(r'\{\s*"(\w+)"\s*:\s*\[')
_BARE_KEY = re.compile(r"\{\s*[A-Za-z_$][\w$]*\s*:")
_TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")
_TABLE = re.compile(r"\[{1,2}[\w.\-\"' ]+\]{1,2}\s*(#.*)?")
_ASSIGNED = re.compile(r"[\w.\-]+\s*=\s*\S")
_YAML = re.compile(r"(- +)?[\"']?[A-Za-z_][\w-]*[\"']?:(\s|$)|- \S|%YAML")


def looks_like(head: bytes, *, whole: bool) -> str | None:
    """Say what the file looks like and what to do; None where it may hold tasks, or nothing can be told.

    ``head`` is its beginning, at most ``HEAD_BYTES``; ``whole`` says that there is no more.
    """
    if (binary := _binary(head)) is not None:
        return binary
    text = _text(head)
    if text is None:
        return _eight_bit(head)
    text = text.removeprefix("\ufeff")
    if not text.strip(_BLANK):
        return None
    if (
        "\n" not in text
        and (pieces := [each for each in text.split("\r") if each.strip(_BLANK)])[1:]
        and _json(pieces[0])
    ):
        return "lines that end in a carriage return alone: convert them (tr '\\r' '\\n' < FILE > NEW.jsonl)"
    text = text.lstrip(_BLANK)
    if (nested := _nested(text)) is not None:
        return nested
    lines = text.split("\n")
    partial = "" if whole else lines.pop().strip(_BLANK)
    sample = [each for line in lines if (each := line.strip(_BLANK))][:LINES]
    said = [_line(line) for line in sample]
    if None in said:
        return None
    return _document(text) or _first(sample, said) or _partial(partial)


def _binary(head: bytes) -> str | None:
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        return _WIDE
    start = head[:64].lstrip(b"\x00")
    if start[1:2] == b"\x00" and start[:1] in b'{["\r\n 0123456789':
        return _WIDE
    first = head.lstrip().split(b"\n", 1)[0]
    # A line of zeros further down may be one broken line among good ones.
    return f"a binary file: {AS_TASKS}" if b"\x00" in first else None


def _text(head: bytes) -> str | None:
    """Decode the text, without a character that the end of ``head`` cuts in two; None where it is no UTF-8."""
    try:
        return head.decode("utf-8")
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data" and error.end == len(head)
        if cut:
            return head[: error.start].decode("utf-8")
        # Other lines may be sound.
        first = next((line for line in head.split(b"\n")[:LINES] if _decodes(line) and line.strip()), None)
        return None if first is None else head.decode("utf-8", errors="replace")


def _decodes(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _eight_bit(head: bytes) -> str:
    first = head.lstrip().split(b"\n", 1)[0].decode("latin-1")
    return _EIGHT_BIT if first.startswith(("{", "[")) else f"a binary file, or {_EIGHT_BIT}"


def _nested(text: str) -> str | None:
    """Recognise a value over several lines, or a list of all tasks. Single lines of them may look like tasks."""
    first, _, rest = text.partition("\n")
    first = first.strip(_BLANK)
    if first == "[" or (first.startswith("[") and not _TABLE.fullmatch(first) and _json(first) is None):
        return _ARRAY
    if isinstance(_json(first), list) and not rest.strip(_BLANK):
        return _ARRAY
    if first.startswith("{") and _json(first) is None and _value_ends(text) > len(first):
        return _PRETTY
    return None


def _value_ends(text: str) -> int:
    """Return where the JSON value at the beginning of ``text`` ends; 0 where there is no whole value."""
    try:
        return json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError):
        return 0


def _document(text: str) -> str | None:
    """Recognise a file by its first characters."""
    if text.startswith("version https://git-lfs"):
        return "a Git LFS pointer, in place of the file: fetch it (git lfs pull)"
    if "/annex/objects/" in text.split("\n", 1)[0]:
        return "a git-annex pointer, in place of the file: fetch it (git annex get FILE)"
    if text.startswith("<"):
        kind = "HTML: is it a page of a login or of an error?" if _is_html(text) else "XML:"
        return f"{kind} {AS_TASKS}"
    if text.startswith("\x1e"):
        return "a JSON text sequence (RFC 7464): remove its record separators (tr -d '\\036' < FILE > NEW.jsonl)"
    if re.match(r"(event|data|id|retry): ?\S", text) and "data:" in text[:4096]:
        return f"a stream of server-sent events: {AS_TASKS}"
    return None


def _is_html(text: str) -> bool:
    return re.match(r"<(!doctype\s+html|html|head|body)\b", text, re.IGNORECASE) is not None


def _first(sample: list[str], said: list[str | None]) -> str | None:
    """Say what the first line is. Where it is no JSON, the lines together tell more."""
    if not said:
        return None
    return _prose(sample) if said[0] == _NO_JSON else said[0]


def _partial(line: str) -> str | None:
    """Judge a first line that is longer than what was read."""
    if not line:
        return None
    if (inside := _LIST_INSIDE.match(line)) and inside[1] != "messages":
        return holding(inside[1])
    if line.startswith(("{'", "{ '")):
        return _python()
    return None if line.startswith("{") else _NO_JSON


def _line(line: str) -> str | None:
    """Say what a line is, or None where it may be a task."""
    value = _json(line)
    match value:
        case None:
            return "JSON null on each line: " + AS_TASKS if line == "null" else _no_json(line)
        case dict():
            return shape(value)
        case list():
            return f"a JSON array on each line: {AS_TASKS}"
        case str() if isinstance(_json(value), dict):
            return "JSON inside JSON strings: decode each line once (jq -r . FILE > NEW.jsonl)"
        case _:
            return f"a JSON string or number on each line: {AS_TASKS}"


def _no_json(line: str) -> str:
    if line.endswith(",") and isinstance(_json(line.rstrip(", ")), dict):
        return "JSON objects with a comma after each: remove the commas (sed 's/, *$//' FILE > NEW.jsonl)"
    if line[:1] != "{":
        return _NO_JSON
    if re.match(r"\{\s*'", line):
        return _python()
    if isinstance(_json(_TRAILING_COMMA.sub("", line)), dict):
        return "JSON with a comma before a closing bracket: remove it"
    if _BARE_KEY.match(line) or re.match(r"\{\s*/[/*]", line):
        return "JSON5 or JavaScript: write keys and strings in double quotes, without comments"
    if line[-1] in "{[,":
        return _PRETTY
    try:
        _, end = json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError) as fault:
        said = fault.msg if isinstance(fault, json.JSONDecodeError) else "nested too deeply"
        return f"JSON that is broken or cut off ({said}): write one whole JSON object per line"
    return f"several JSON values on one line (after {end} characters): write one per line (jq -c . FILE > NEW.jsonl)"


def _prose(sample: list[str]) -> str:
    """Say what kind of text these lines are."""
    first = sample[0]
    for delimiter, name in (("\t", "TSV"), (",", "CSV"), (";", "CSV with semicolons"), ("|", "a table")):
        if len(sample) > 1 and len(columns := _columns(sample, delimiter)) == 1 and columns.pop() > 1:
            return f"{name}: {AS_TASKS}"
    if _TABLE.fullmatch(first) or _ASSIGNED.match(first):
        return f"TOML or another file of settings: {AS_TASKS}"
    if first == "---" or _YAML.match(first):
        return f"YAML: {AS_TASKS}"
    return _NO_JSON


def _columns(sample: list[str], delimiter: str) -> set[int]:
    try:
        return {len(row) for row in csv.reader(sample, delimiter=delimiter)}
    except csv.Error:
        return set()


def _python() -> str:
    return "Python's way to print a dict: write each task with json.dumps"


def _json(text: str) -> Any:
    """Return the value of a JSON text; None also where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
