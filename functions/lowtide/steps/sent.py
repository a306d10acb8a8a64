"""What a batch sent, at hand while its answers come in: in any order, of hundreds of megabytes.

The index is in memory, a few hundred bytes a line; the lines are in a temporary file, copied there part by part, so
that a line costs a seek on the local disk and never a request of its own.
"""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from lowtide.core.batches import BatchRow
from lowtide.core.manifest import ManifestLine
from lowtide.core.parts import PartLine
from lowtide.core.task import AcceptedTask
from lowtide.ports import System

_VALIDATED = b'"validate_output":true'
"""As pydantic writes the field. Inside a text its quotes would be escaped."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A line that the batch sent, under which attempt of its task."""

    attempt: int
    line: PartLine


class SentLines:
    """By ``custom_id``; iterates over the ids in the order of the batch's file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[str, int] = {}
        self._starts = array("Q")
        self._lengths = array("Q")
        self._attempts = array("Q")

    def add(self, entry: ManifestLine, start: int) -> None:
        """``start``: where the line begins in the file."""
        self._places[entry.custom_id] = len(self._places)
        self._starts.append(start)
        self._lengths.append(entry.length)
        self._attempts.append(entry.attempt)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, custom_id: object) -> bool:
        return custom_id in self._places

    def __getitem__(self, custom_id: str) -> Sent:
        return Sent(self._attempts[self._places[custom_id]], PartLine.model_validate_json(self._raw(custom_id)))

    def validated(self, custom_id: str) -> AcceptedTask | None:
        """The task where its answer is to be validated; most are not, and cost no parsing here."""
        raw = self._raw(custom_id)
        return PartLine.model_validate_json(raw).task if _VALIDATED in raw else None

    def _raw(self, custom_id: str) -> bytes:
        place = self._places[custom_id]
        self._file.seek(self._starts[place])
        return self._file.read(self._lengths[place])

    def length(self, custom_id: str) -> int:
        """Bytes of its line."""
        return self._lengths[self._places[custom_id]]


@contextmanager
def sent_lines(system: System, row: BatchRow) -> Iterator[SentLines]:
    """The lines of a sealed batch. Reads its manifest and each of its parts once."""
    if row.manifest_key is None:
        raise AssertionError("a sealed batch has its manifest")
    parts = {part.part_id: part for part in system.parts.get(row.part_ids) if part is not None}
    begins: dict[str, int] = {}
    with TemporaryFile() as file:
        sent = SentLines(cast("BinaryIO", file))
        for raw in system.objects.lines(row.manifest_key):
            entry = ManifestLine.model_validate_json(raw)
            if entry.part_id not in begins:
                begins[entry.part_id] = file.tell()
                with system.objects.open(parts[entry.part_id].object_key) as content:
                    shutil.copyfileobj(content, file)
            sent.add(entry, begins[entry.part_id] + entry.offset)
        yield sent
