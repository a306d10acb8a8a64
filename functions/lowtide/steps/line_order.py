"""The lines of a batch's file on their way into their order: sort keys in memory, lines on disk."""

from __future__ import annotations

from array import array
from typing import BinaryIO

from .spool import Spooled


class LinesInOrder(Spooled):
    """``add`` every line with its key and its manifest entry, then ``write`` them sorted by key; equal keys keep the
    order in which they were added. Takes some 150 bytes of memory a line."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: list[bytes] = []
        self._starts = array("Q")
        self._widths = array("Q")
        self._entry_widths = array("Q")

    def add(self, key: bytes, line: bytes, entry: bytes) -> None:
        """``line`` and ``entry`` end in a newline."""
        self._keys.append(key)
        self._starts.append(self._file.tell())
        self._widths.append(len(line))
        self._entry_widths.append(len(entry))
        self._file.write(line)
        self._file.write(entry)

    def write(self, lines: BinaryIO, manifest: BinaryIO) -> None:
        """Both in the same order: the number of a line is the number of its entry."""
        for place in sorted(range(len(self._keys)), key=self._keys.__getitem__):
            self._file.seek(self._starts[place])
            lines.write(self._file.read(self._widths[place]))
            manifest.write(self._file.read(self._entry_widths[place]))
