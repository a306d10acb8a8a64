"""The provider's files: whole, in memory, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from .refusals import ApiError, invalid

KEPT_S = range(3_600, 2_592_001)
"""An hour to thirty days, as for `output_expires_after`. Source: the API reference."""
_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
"""What a file may be uploaded for. Source: openai 3.x, its FilePurpose."""
_LARGEST = 512_000_000
_LARGEST_INPUT = 200_000_000
"""Bytes of any file, and of a batch's input. Source: the API reference and the guide to batches."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    id: str
    filename: str
    purpose: str
    content: bytes
    created_at: datetime
    expires_at: datetime | None = None

    @property
    def body(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": int(self.created_at.timestamp()),
            "expires_at": None if self.expires_at is None else int(self.expires_at.timestamp()),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


class FileStore:
    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}

    def add(self, stored: StoredFile) -> StoredFile:
        self._files[stored.id] = stored
        return stored

    def upload(
        self, file_id: str, filename: str, purpose: str, content: bytes, now: datetime, *, kept_s: int | None
    ) -> StoredFile:
        """Raises ApiError, as the provider does for what is no batch input."""
        if purpose not in _PURPOSES:
            raise invalid(f"'{purpose}' is not one of {', '.join(_PURPOSES)}.", "purpose", "invalid_value")
        largest = _LARGEST_INPUT if purpose == "batch" else _LARGEST
        if len(content) > largest:
            message = f"The file is too large: {len(content)} bytes, and {largest} are allowed."
            raise ApiError(413, message, param="file")
        if purpose == "batch" and not (filename.endswith(".jsonl") and _begins_as_jsonl(content)):
            raise invalid("Invalid file format. Batch API only supports .jsonl files", "file", "invalid_file_format")
        if kept_s is not None and kept_s not in KEPT_S:
            raise invalid("expires_after[seconds] must be from 3600 to 2592000", "expires_after")
        expires_at = None if kept_s is None else now + timedelta(seconds=kept_s)
        return self.add(StoredFile(file_id, filename, purpose, content, now, expires_at))

    def get(self, file_id: str, now: datetime) -> StoredFile:
        """Raises ApiError (404)."""
        stored = self._files.get(file_id)
        if stored is None or (stored.expires_at is not None and now >= stored.expires_at):
            raise ApiError(404, f"No such File object: {file_id}", param="id", code="not_found")
        return stored

    def delete(self, file_id: str, now: datetime) -> dict[str, Any]:
        self.get(file_id, now)
        del self._files[file_id]
        return {"id": file_id, "object": "file", "deleted": True}

    def open(self, now: datetime) -> list[StoredFile]:
        """Newest first."""
        return [file for file in reversed(self._files.values()) if file.expires_at is None or now < file.expires_at]


def _begins_as_jsonl(content: bytes) -> bool:
    """Is the first line JSON? The others are looked at when a batch is made of them."""
    first = next((line for line in content.split(b"\n", 100) if line.strip()), b"")
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return False
    return True


def page(rows: Iterable[tuple[str, dict[str, Any]]], *, after: str | None, limit: int) -> dict[str, Any]:
    """One page of a list of (id, body). Raises ApiError where ``after`` is in it no more."""
    everything: Sequence[tuple[str, dict[str, Any]]] = list(rows)
    start = 0
    if after is not None:
        place = next((place for place, (row_id, _) in enumerate(everything) if row_id == after), None)
        if place is None:
            raise invalid(f"Invalid 'after': nothing found with id '{after}'.", "after")
        start = place + 1
    some = everything[start : start + limit]
    return {
        "object": "list",
        "data": [body for _, body in some],
        "first_id": some[0][0] if some else None,
        "last_id": some[-1][0] if some else None,
        "has_more": start + limit < len(everything),
    }
