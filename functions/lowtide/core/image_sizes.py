"""The size of a picture, from the beginning of its base64 text. Nothing but a few bytes of it is decoded."""

from __future__ import annotations

from binascii import Error, a2b_base64

_SEGMENTS = 50
"""Segments of a JPEG that are read before its size. Cameras and editors write about a dozen. The bound keeps a
hostile picture cheap."""
_HEADER_BYTES = 30
"""Enough for PNG, GIF and WebP."""
_START_OF_FRAME = frozenset({*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def image_size(text: str, start: int) -> tuple[int, int] | None:
    """Return the width and height in pixels of the picture whose base64 begins at ``start``, or None."""
    header = decoded(text, start, 0, _HEADER_BYTES)
    size = None
    if header.startswith(b"\x89PNG\r\n\x1a\n"):
        size = _big(header[16:20]), _big(header[20:24])
    elif header.startswith((b"GIF87a", b"GIF89a")):
        size = _little(header[6:8]), _little(header[8:10])
    elif header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        size = _webp(header)
    elif header.startswith(b"\xff\xd8"):
        size = _jpeg(text, start)
    return size if size is not None and min(size) > 0 else None


def _webp(header: bytes) -> tuple[int, int] | None:
    match header[12:16]:
        case b"VP8 ":
            return _little(header[26:28]) & 0x3FFF, _little(header[28:30]) & 0x3FFF
        case b"VP8L":
            bits = _little(header[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return _little(header[24:27]) + 1, _little(header[27:30]) + 1
        case _:
            return None


def _jpeg(text: str, start: int) -> tuple[int, int] | None:
    """Find the frame header by jumping from segment to segment."""
    offset = 2
    for _ in range(_SEGMENTS):
        found = decoded(text, start, offset, 9)
        if len(found) < 9 or found[0] != 0xFF:  # noqa: PLR2004 - a frame's marker, length, precision and size
            return None
        if found[1] in _START_OF_FRAME:
            return _big(found[7:9]), _big(found[5:7])
        if found[1] == 0xFF:  # noqa: PLR2004 - a fill byte before a marker
            offset += 1
        elif found[1] in _WITHOUT_LENGTH:
            offset += 2
        else:
            offset += 2 + max(2, _big(found[2:4]))
    return None


def decoded(text: str, start: int, offset: int, count: int) -> bytes:
    """Decode ``count`` bytes at ``offset`` of the base64 from ``start`` on; fewer where it ends or is invalid."""
    skipped = offset % 3
    begin = start + offset // 3 * 4
    piece = text[begin : begin + -(-(skipped + count) // 3) * 4]
    try:
        return a2b_base64(piece + "=" * (-len(piece) % 4))[skipped : skipped + count]
    except (Error, ValueError):
        return b""


def _big(piece: bytes) -> int:
    return int.from_bytes(piece, "big")


def _little(piece: bytes) -> int:
    return int.from_bytes(piece, "little")
