"""Spool: what does not fit into memory, in a temporary file that is gone at the end of its ``with``."""

from __future__ import annotations

from tempfile import TemporaryFile
from types import TracebackType
from typing import Self


class Spooled:
    """The base of what keeps its content in ``_file``."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
