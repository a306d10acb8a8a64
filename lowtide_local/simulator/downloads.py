"""How a file's content is sent: whole or from a byte on, to its end or not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from .refusals import ApiError

_FROM = re.compile(r"bytes=(\d+)-")
"""The one kind of range that resumes a download; other kinds are ignored, as HTTP allows."""


class Ranges(StrEnum):
    """What the provider makes of ``Range`` when a download is resumed."""

    SERVED = "served"
    IGNORED = "ignored"
    """The whole file, 200."""
    REFUSED = "refused"
    """416."""
    MISLABELLED = "mislabelled"
    """A 206 that is from the start, and says so."""
    SHIFTED = "shifted"
    """A 206 that says what was asked for and brings as many bytes from the start."""


class Break(StrEnum):
    """How a download that breaks half-way does."""

    RESET = "reset"
    """The connection breaks; the length was told."""
    TRUNCATED = "truncated"
    """It ends as if that were all; no length was told."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An answer to ``GET /files/{id}/content``. ``broken`` is None where all of ``content`` is to be sent."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    broken: Break | None


class Downloads:
    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._breaks: dict[str, tuple[Break, int]] = {}
        self._refusals: dict[str, tuple[int, datetime | None]] = {}
        self.sent: Counter[str] = Counter()
        """Bytes of content by file, those of broken downloads too."""

    def will_break(self, file_id: str, how: Break, times: int) -> None:
        self._breaks[file_id] = (how, times)

    def will_refuse(self, file_id: str, status: int, until: datetime | None) -> None:
        """None: for good."""
        self._refusals[file_id] = (status, until)

    def deliver(self, file_id: str, content: bytes, asked: Mapping[str, str], now: datetime) -> Delivery:
        """``asked`` are the request's headers in lower case. Raises ApiError where it is refused (416 and others)."""
        refused, until = self._refusals.get(file_id, (None, None))
        if refused is not None and (until is None or now < until):
            raise ApiError(refused, f"No such File object: {file_id}", param="id")
        etag = f'"{sha256(content).hexdigest()[:16]}"'
        headers = {"etag": etag}
        status, body = 200, content
        start = _start(asked, etag)
        if start is not None and self._ranges is not Ranges.IGNORED:
            if self._ranges is Ranges.REFUSED or start >= len(content):
                raise ApiError(416, "Requested range not satisfiable.", code="invalid_range")
            first = 0 if self._ranges is Ranges.MISLABELLED else start
            headers["content-range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            status, body = 206, content[: len(content) - start] if self._ranges is Ranges.SHIFTED else content[first:]
        broken = self._breaks_now(file_id)
        self.sent[file_id] += len(body) if broken is None else len(body) // 2
        return Delivery(status, headers, body, broken)

    def _breaks_now(self, file_id: str) -> Break | None:
        how, left = self._breaks.get(file_id, (Break.RESET, 0))
        self._breaks[file_id] = (how, max(0, left - 1))
        return how if left else None


def _start(asked: Mapping[str, str], etag: str) -> int | None:
    """The byte to begin with, where one is asked for and its condition holds."""
    told = _FROM.fullmatch(asked.get("range", ""))
    return int(told[1]) if told is not None and asked.get("if-range", etag) == etag else None
