r"""Lines of UTF-8 out of a downloaded result file, however its server wrote it.

OpenAI writes UTF-8 with ``\n``. Compatible servers pack the file (gzip without a Content-Encoding), write UTF-16, or
end lines with ``\r`` alone. Anything else comes as it is.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO

from lowtide.core.errors import BrokenOff
from lowtide.core.leniency import Braces

_CHUNK = 1 << 20
_PIECE = 8 << 20
"""Bytes of a line that comes whole. A longer one comes in pieces, cut between two objects, to bound memory."""
_LONGEST = 64 << 20
"""Bytes in which an object has to close. What is longer is no answer, and comes in pieces that nothing can read."""
_GZIP = b"\x1f\x8b"
_MOST_UNPACKED = 1_500_000_000
"""Bytes that a function's disk takes beside the download; several times the largest file that OpenAI writes."""
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"{\0", "utf-16-le"),
    (b"[\0", "utf-16-le"),
    (b"\0{", "utf-16-be"),
    (b"\0[", "utf-16-be"),
)
"""Encodings by a file's first bytes. The UTF-32 mark begins like the UTF-16 one, and so comes first."""


def is_packed(file: IO[bytes]) -> bool:
    """Tell whether a file is no UTF-8, so that its last bytes say nothing of its last line."""
    head = _head(file)
    return head.startswith(_GZIP) or any(head.startswith(mark) for mark, _ in _ENCODINGS)


def lines(file: IO[bytes], *, partial: bool = False) -> Iterator[bytes]:
    r"""Return every line without its ``\n`` and ``\r``, blank ones too. Raises BrokenOff where a packed file does not
    unpack to its end; with ``partial``, after the lines that could be unpacked."""
    if not _head(file).startswith(_GZIP):
        yield from _text_lines(file)
        return
    with TemporaryFile() as unpacked:
        fault = _unpack(file, unpacked)
        if fault is None or partial:
            yield from _text_lines(unpacked)
        if fault is not None:
            raise BrokenOff(fault)


def _text_lines(file: IO[bytes]) -> Iterator[bytes]:
    head = _head(file)
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), None)
    if encoding is None and not _ends_lines_with_cr(file):
        yield from _pieces(file)
        return
    with TemporaryFile() as rewritten:
        decoder = codecs.getincrementaldecoder(encoding or "utf-8")("replace")
        for chunk in _chunks(file):
            rewritten.write(decoder.decode(chunk).replace("\r", "\n").encode("utf-8", "replace"))
        yield from _pieces(rewritten)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    held, braces = b"", Braces()
    while piece := file.readline(_PIECE):
        if len(piece) < _PIECE or piece.endswith(b"\n"):
            yield (held + piece).strip(b"\r\n")
            held, braces = b"", Braces()
        elif closed := braces.feed(piece):
            yield held + piece[:closed]
            held = piece[closed:]
        elif len(held) + len(piece) > _LONGEST:
            yield held + piece
            held, braces = b"", Braces()
        else:
            held += piece
    if held:
        yield held


def _ends_lines_with_cr(file: IO[bytes]) -> bool:
    r"""Tell whether a file has a ``\r`` and not one ``\n``. Nearly every file has a ``\n`` in its first chunk."""
    cr = False
    for chunk in _chunks(file):
        if b"\n" in chunk:
            return False
        cr = cr or b"\r" in chunk
    return cr


def _unpack(file: IO[bytes], into: IO[bytes]) -> str | None:
    """Unpack as much as can be unpacked; return what is wrong with the rest, or None."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        for chunk in _chunks(file):
            rest = chunk
            while rest:
                into.write(unpacker.decompress(rest, _CHUNK))
                if into.tell() > _MOST_UNPACKED:
                    return f"the result file unpacks to more than {_MOST_UNPACKED} bytes"
                rest = unpacker.unconsumed_tail
                if unpacker.eof and (rest := unpacker.unused_data):
                    unpacker = zlib.decompressobj(wbits=31)  # one member after the other is one file
    except zlib.error:
        return "the result file is packed with gzip and does not unpack to its end"
    return None if unpacker.eof else "the result file is packed with gzip and ends in the middle"


def _head(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(4)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK):
        yield chunk
