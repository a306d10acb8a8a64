"""Pictures, sounds and files count as what they are, and not as the text of their base64."""

from __future__ import annotations

import json
import random
import struct
import zlib
from base64 import b64encode

import pytest

from lowtide.core.attachments import attached
from lowtide.core.image_sizes import image_size
from lowtide.core.image_tokens import image_tokens
from lowtide.core.lines import estimated_tokens, input_tokens, request_line
from lowtide.core.task import Endpoint


def png(width, height, rest=b""):
    header = struct.pack(">II", width, height) + b"\x08\x02\x00\x00\x00"
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + rest


def jpeg(width, height, *, before=b"", marker=0xC0):
    frame = struct.pack(">BBHBHH", 0xFF, marker, 17, 8, height, width) + b"\x03" + bytes(9)
    return b"\xff\xd8" + before + frame + b"\xff\xda" + bytes(40)


def segment(size, marker=0xE1):
    return struct.pack(">BBH", 0xFF, marker, size + 2) + b"x" * size


def webp(kind, width, height):
    body = {
        b"VP8 ": bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height),
        b"VP8L": b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14),
        b"VP8X": bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
    }[kind]
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", len(body)) + body + bytes(20)


def base64(content):
    return b64encode(content).decode()


PICTURES = [
    png(640, 480),
    b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(20),
    jpeg(640, 480),
    jpeg(640, 480, marker=0xC2),
    jpeg(640, 480, before=segment(65_000) + segment(500, 0xE2) + b"\xff\xff"[:1]),
    jpeg(640, 480, before=segment(7) + segment(8) + b"\xff\x01" + segment(9)),
    *(webp(kind, 640, 480) for kind in (b"VP8 ", b"VP8L", b"VP8X")),
]


@pytest.mark.parametrize("picture", PICTURES, ids=range(len(PICTURES)))
def test_a_picture_tells_its_size_in_its_first_bytes(picture):
    url = "data:image/any;base64," + base64(picture)
    assert image_size(url, url.index(",") + 1) == (640, 480)


@pytest.mark.parametrize("shift", range(12))
def test_a_jpegs_size_is_found_wherever_its_segments_end(shift):
    assert image_size(base64(jpeg(4_000, 3_000, before=segment(60_000 + shift))), 0) == (4_000, 3_000)


# What OpenAI's guide works out, and what was measured in public for the models after it.
@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        ("gpt-4o", (1_024, 1_024), "high", 765),
        ("gpt-4o", (2_048, 4_096), "high", 1_105),
        ("gpt-4o", (4_096, 8_192), "low", 85),
        ("gpt-4o-mini-2024-07-18", (1_024, 1_024), "auto", 2_833 + 4 * 5_667),
        ("o3", (1_024, 1_024), "high", 75 + 4 * 150),
        ("gpt-5", (1_024, 1_024), "high", 70 + 4 * 140),
        ("gpt-5-mini", (1_024, 1_024), "high", 1_659),
        ("gpt-5-mini", (1_800, 2_400), "high", 2_353),
        ("gpt-4.1-nano", (1_024, 1_024), "high", 2_520),
        ("o4-mini", (1_024, 1_024), "high", 1_762),
        ("gpt-5.5", (4_032, 3_024), "auto", 11_868),
        ("gpt-5.5", (4_032, 3_024), "high", 2_942),
        ("gpt-6-luna", (256, 256), "auto", 77),
        ("openai/gpt-6-luna", (1_920, 1_080), "auto", 2_448),
        ("gpt-6.1-sol", (3_840, 2_160), "high", 2_931),
        ("gpt-6.1-sol", (4_032, 3_024), "original", 14_364),
        ("gpt-6-luna", (640, 480), "low", 231),
        ("a-model-of-tomorrow", (640, 480), "auto", 360),
    ],
)
def test_a_picture_counts_by_the_rule_of_its_model(model, size, detail, tokens):
    assert image_tokens(model, size, detail) == tokens


def chat(*parts, model="gpt-6-luna"):
    return {"model": model, "messages": [{"role": "user", "content": list(parts)}]}


def responses(*parts, model="gpt-6-luna"):
    return {"model": model, "input": [{"role": "user", "content": list(parts)}]}


PHOTO = base64(jpeg(4_000, 3_000, before=segment(60_000)) + random.Random(1).randbytes(1_500_000))


def test_a_picture_of_megabytes_counts_as_its_image_tokens_and_not_as_text():
    url = f"data:image/jpeg;base64,{PHOTO}"
    for body in (
        chat(
            {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
        ),
        responses({"type": "input_image", "image_url": url, "detail": "high"}),
    ):
        endpoint = Endpoint.CHAT if "messages" in body else Endpoint.RESPONSES
        line = request_line("id", endpoint, body)
        assert len(line) > 2_000_000
        assert 2_900 < input_tokens(body, len(line)) < 3_100
        assert estimated_tokens(body | {"max_tokens": 500}, len(line)) == input_tokens(body, len(line)) + 500


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (chat({"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}), 308),
        (responses({"type": "input_image", "file_id": "file-1", "detail": "low"}), 308),
        (chat({"type": "image_url", "image_url": "data:image/png;base64," + base64(png(256, 256))}), 77),
        (
            {"model": "m", "input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot",
             "image_url": "data:image/png;base64," + base64(png(1_024, 1_024))}}]},
            1_229,
        ),
        (
            {"model": "m", "input": [{"type": "function_call_output", "output": [
                {"type": "input_image", "image_url": "DATA:image/png;base64," + base64(png(256, 256))}]}]},
            77,
        ),
        (chat({"type": "text", "text": "data:image/png;base64,iVBORw0KGgo="}), 0),
    ],
)  # fmt: skip
def test_a_picture_is_found_wherever_a_request_may_hold_one(body, tokens):
    assert attached(body).tokens == tokens


def test_sound_counts_by_its_length_and_files_by_their_size():
    seconds = 90
    header = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 24_000, 48_000, 2, 16) + b"data"
    wav = base64(header + bytes(4 + 48_000 * seconds))
    mp3 = base64(bytes(4_000 * seconds))
    for data, form in ((wav, "wav"), (mp3, "mp3")):
        found = attached(chat({"type": "input_audio", "input_audio": {"data": data, "format": form}}))
        assert found.chars == len(data)
        assert 10 * seconds <= found.tokens <= 10 * seconds + 1
    pdf = "data:application/pdf;base64," + base64(bytes(1_000_000))
    text = "data:text/plain;base64," + base64(b"word " * 20_000)
    as_chat, as_input = (
        chat({"type": "file", "file": {"file_data": pdf}}),
        responses({"type": "input_file", "file_data": pdf}),
    )
    assert attached(as_chat) == attached(as_input)
    assert attached(as_chat).tokens == pytest.approx(50_000, rel=0.01)
    assert attached(responses({"type": "input_file", "file_data": text})).tokens == pytest.approx(25_000, rel=0.01)


HOSTILE = [
    None,
    5,
    [],
    {"url": 5},
    {"url": None, "detail": []},
    "data:",
    "data:,",
    "data:image/png;base64",
    "data:image/png;base64,",
    "data:image/png;base64,####",
    "data:image/png;base64," + "\u2028" * 100,
    "data:" + "x" * 10_000 + ",iVBORw0KGgo=",
    "data:image/png;base64," + base64(png(0, 5)),
    "data:image/png;base64," + base64(png(2**32 - 1, 2**32 - 1)),
    "data:image/png;base64," + base64(png(2**32 - 1, 1)),
    "data:image/jpeg;base64," + base64(b"\xff\xd8" + b"\xff" * 100_000),
    "data:image/jpeg;base64," + base64(b"\xff\xd8" + b"\xff\xe1\x00\x00" * 10_000),
    "data:image/jpeg;base64," + base64(b"\xff\xd8\xff\xe1\xff\xff"),
    "data:image/webp;base64," + base64(b"RIFF\x00\x00\x00\x00WEBPVP8?" + bytes(30)),
]


@pytest.mark.parametrize("model", [None, 5, "", "gpt-4o", "gpt-5-mini", "gpt-5.5", "gpt-6-luna"])
def test_whatever_stands_in_place_of_a_picture_counts_as_something_bounded(model):
    for value in HOSTILE:
        for part in (
            {"type": "image_url", "image_url": value},
            {"type": "input_image", "image_url": value, "detail": value},
            {"type": "input_audio", "input_audio": value},
            {"type": "input_audio", "input_audio": {"data": value, "format": "wav"}},
            {"type": "file", "file": value},
            {"type": "file", "file": {"file_data": value}},
            {"type": "input_file", "file_data": value},
        ):
            found = attached({"model": model, "messages": [{"role": "user", "content": [part, value]}, value]})
            assert 0 <= found.tokens <= 100_000
            assert input_tokens({"model": model, "input": [part, {"output": part}]}, 10) >= 0


def test_bodies_of_any_shape_are_gone_through():
    dice = random.Random(23)
    words = ["image_url", "url", "type", "content", "output", "file", "file_data", "input_audio", "data", "detail"]

    def value(depth):
        kind = dice.randrange(7 if depth else 4)
        if kind == 0:
            return dice.choice([None, True, 5, -1.5])
        if kind < 4:
            return dice.choice(["data:image/png;base64," + base64(dice.randbytes(40)), "high", "input_image", "x"])
        if kind == 4:
            return [value(depth - 1) for _ in range(dice.randrange(4))]
        return {dice.choice(words): value(depth - 1) for _ in range(dice.randrange(4))}

    for _ in range(5_000):
        body = {"model": "gpt-4o", dice.choice(["messages", "input"]): value(5)}
        assert input_tokens(body, len(json.dumps(body))) >= 0


def test_no_more_than_a_few_bytes_of_a_picture_are_decoded(monkeypatch):
    """Counted and not timed: however many segments a picture claims to have, and however long it is."""
    import lowtide.core.image_sizes as sizes  # noqa: PLC0415

    decoded, plain = [], sizes.a2b_base64

    def counted(piece):
        decoded.append(len(piece))
        return plain(piece)

    monkeypatch.setattr(sizes, "a2b_base64", counted)
    sizes.image_size(PHOTO, 0)
    assert sum(decoded) < 200
    decoded.clear()
    sizes.image_size(base64(b"\xff\xd8" + b"\xff\xe2\x00\x02" * 250_000), 0)
    assert sum(decoded) < 2_000
