"""Token estimates for the pictures, sounds and files in a request, in place of the length of their base64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .image_sizes import decoded, image_size
from .image_tokens import image_tokens

_NAMED = 200
"""Characters at the start of a data URL in which its comma is looked for."""
_AUDIO_TOKENS_A_SECOND = 10
"""Source: OpenAI's guide to the costs of audio: a token for each 100 ms of a user's audio."""
_WAV_HEADER = 44
_SPEECH_BYTES_A_SECOND = 4_000
"""Rate of compressed speech (32 kbit/s). Music has a higher rate, so its estimate is too high."""
_FILE_BYTES_A_TOKEN = 20
"""A rule of thumb without a source: a page of a PDF is about 2,000 tokens as text and picture, and 10 to 200 KB."""
_TEXT_BYTES_A_TOKEN = 4
_HOLDING = frozenset({"image_url", "input_audio", "file", "file_data"})
"""Fields of a part that hold an attachment."""
_TEXTS = ("data:text/", "data:application/json", "data:application/xml")


@dataclass(frozen=True, slots=True)
class Attached:
    """Size of the attachments in a body: ``chars`` of base64, and the ``tokens`` that they count as."""

    chars: int = 0
    tokens: int = 0


def attached(body: dict[str, Any]) -> Attached:
    """Measure the attachments of a request for chat completions or responses. Never raises."""
    model = body.get("model")
    name = model if isinstance(model, str) else ""
    chars = tokens = 0
    for part in _parts(body):
        if not _HOLDING.isdisjoint(part) or part.get("type") == "input_image":
            found = _of(part, name)
            chars, tokens = chars + found.chars, tokens + found.tokens
    return Attached(chars, tokens)


def _parts(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parts of messages and of tool outputs. Attachments stand nowhere else."""
    for field in ("messages", "input"):
        items = body.get(field)
        for item in items if isinstance(items, list) else ():
            if not isinstance(item, dict):
                continue
            for name in ("content", "output"):
                inside = item.get(name)
                if isinstance(inside, dict):  # a screenshot of computer use
                    yield inside
                elif isinstance(inside, list):
                    yield from (part for part in inside if isinstance(part, dict))


def _of(part: dict[str, Any], model: str) -> Attached:
    if "image_url" in part or part.get("type") == "input_image":
        return _picture(part, model)
    if isinstance(sound := part.get("input_audio"), dict) and isinstance(data := sound.get("data"), str):
        return Attached(len(data), _sound(data, sound.get("format")))
    inside = part.get("file")
    file: dict[str, Any] = inside if isinstance(inside, dict) else part
    if isinstance(data := file.get("file_data"), str):
        text = data[:_NAMED].lower().startswith(_TEXTS)
        return Attached(len(data), len(data) * 3 // 4 // (_TEXT_BYTES_A_TOKEN if text else _FILE_BYTES_A_TOKEN))
    return Attached()


def _picture(part: dict[str, Any], model: str) -> Attached:
    given = part.get("image_url")
    inside: dict[str, Any] = given if isinstance(given, dict) else {"url": given, "detail": part.get("detail")}
    url, detail = inside.get("url"), inside.get("detail")
    chars, size = 0, None
    if isinstance(url, str) and url[:5].lower() == "data:":
        chars = len(url)
        comma = url.find(",", 0, _NAMED)
        size = image_size(url, comma + 1) if comma > 0 else None
    return Attached(chars, image_tokens(model, size, detail if isinstance(detail, str) else "auto"))


def _sound(data: str, form: Any) -> int:
    size = len(data) * 3 // 4
    rate = _SPEECH_BYTES_A_SECOND
    if form == "wav" and size > _WAV_HEADER:
        rate = max(rate, _wav_rate(data))
    return -(-size * _AUDIO_TOKENS_A_SECOND // rate)


def _wav_rate(data: str) -> int:
    """Return the bytes per second that the header of a WAV states, or 0 where there is no header."""
    header = decoded(data, 0, 0, _WAV_HEADER)
    return int.from_bytes(header[28:32], "little") if header[:4] == b"RIFF" and header[8:12] == b"WAVE" else 0
