"""HTTP ranges: asking for the rest of a file, and whether it is the rest that comes (RFC 9110, section 14).

OpenAI does not document that its files have them, and compatible servers differ. So nothing that comes in reply is
taken for the rest of a file unless all of it fits.
"""

from __future__ import annotations

import re
from http import HTTPStatus

import httpx2

from .headers import is_header

OVERLAP = 1 << 10
"""Bytes that are asked for a second time: where they differ, the server goes on somewhere else than it says."""

UNKNOWN_TO = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.PRECONDITION_FAILED,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)
"""How a server refuses the range and not the file."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


def asking(start: int, etag: str | None) -> dict[str, str]:
    """Headers that ask for a file from ``start`` on, where it is still the one with this ``etag``."""
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    # A weak one does not vouch for every byte, and may not be sent here; one that is no ASCII no header can carry.
    return headers if etag is None or etag.startswith("W/") or not is_header(etag) else headers | {"If-Range": etag}


def is_plain(response: httpx2.Response) -> bool:
    """Are its bytes the file's own, so that their number is a place in it?"""
    return response.headers.get("content-encoding", "identity") == "identity"


def total_of(response: httpx2.Response, start: int) -> int | None:
    """How long the file is, where this is all of it from ``start`` on; None where it is anything else."""
    told = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code != HTTPStatus.PARTIAL_CONTENT or told is None or not is_plain(response):
        return None
    first, last, total = map(int, told.groups())
    return total if (first, last) == (start, total - 1) else None
