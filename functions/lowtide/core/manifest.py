"""The manifest of a batch: which line of which part each ``custom_id`` stands for. Written once, beside the file."""

from __future__ import annotations

from .model import Stored


class ManifestLine(Stored):
    """``offset`` and ``length`` are bytes in the part's object."""

    custom_id: str
    attempt: int
    part_id: str
    offset: int
    length: int
