"""The lines of a batch's file on their way into their order: sort keys in memory, lines on disk."""

from __future__ import annotations

from array import array
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO, Self


class LinesInOrder:
    """``add`` every line with its key and its manifest entry, then ``write`` them sorted by key; equal keys keep the
    order in which they were added. Takes some 150 bytes of memory a line."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._keys: list[bytes] = []
        self._starts = array("Q")
        self._widths = array("Q")
        self._entry_widths = array("Q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

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
