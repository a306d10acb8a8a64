from __future__ import annotations

import io

import pytest

from lowtide.core.errors import NotFound
from lowtide.ports import Objects
from tests.contract.conftest import Store

KEY = "parts/p_1.jsonl"


@pytest.fixture
def objects(store: Store) -> Objects:
    return store.objects


@pytest.mark.parametrize("data", [b"", b"one", b"one\n", b"\x00\xff\r\n", b"x" * 200_000])
def test_what_was_put_is_got(objects: Objects, data: bytes) -> None:
    objects.put(KEY, data)
    assert objects.get(KEY) == data


def test_a_put_replaces_the_whole_object(objects: Objects) -> None:
    objects.put(KEY, b"a long first version")
    objects.put(KEY, b"second")
    assert objects.get(KEY) == b"second"


def test_a_put_repeated_leaves_one_object(objects: Objects) -> None:
    objects.put(KEY, b"one")
    objects.put(KEY, b"one")
    assert list(objects.keys("")) == [KEY]


def test_a_handle_is_read_from_where_it_stands_and_left_open(objects: Objects) -> None:
    handle = io.BytesIO(b"skipped kept")
    handle.seek(8)
    objects.put(KEY, handle)
    assert objects.get(KEY) == b"kept"
    assert not handle.closed


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (4, None, b"456789"),
        (0, 4, b"0123"),
        (4, 3, b"456"),
        (8, 100, b"89"),
        (9, 1, b"9"),
        (3, 0, b""),
        (10, None, b""),
        (10, 5, b""),
        (50, 5, b""),
    ],
)
def test_a_range_is_read_by_bytes(objects: Objects, offset: int, length: int | None, expected: bytes) -> None:
    objects.put(KEY, b"0123456789")
    assert objects.get(KEY, offset=offset, length=length) == expected


def test_a_line_found_by_its_place_is_that_line(objects: Objects) -> None:
    lines = [b'{"a":1}', '{"text":"é\u2028"}'.encode(), b'{"b":2}']
    objects.put(KEY, b"".join(line + b"\n" for line in lines))
    assert objects.get(KEY, offset=len(lines[0]) + 1, length=len(lines[1])) == lines[1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"one", [b"one"]),
        (b"one\n", [b"one"]),
        (b"one\ntwo", [b"one", b"two"]),
        (b"one\n\ntwo\n", [b"one", b"", b"two"]),
        (b"one\r\ntwo\r\n", [b"one\r", b"two\r"]),
        ("a\u2028b\u2029c\x85d\x0be\x0cf\nnext\n".encode(), ["a\u2028b\u2029c\x85d\x0be\x0cf".encode(), b"next"]),
        (b"\xff\xfe\n\x00\n", [b"\xff\xfe", b"\x00"]),
    ],
)
def test_lines_end_at_the_newline_byte_and_nowhere_else(objects: Objects, data: bytes, expected: list[bytes]) -> None:
    objects.put(KEY, data)
    assert list(objects.lines(KEY)) == expected


def test_a_line_larger_than_any_buffer_comes_whole(objects: Objects) -> None:
    long = b"y" * 9_000_000
    objects.put(KEY, b"short\n" + long + b"\nlast\n")
    assert list(objects.lines(KEY)) == [b"short", long, b"last"]


def test_open_gives_a_real_file_to_upload_from(objects: Objects) -> None:
    objects.put(KEY, b"one\ntwo\n")
    with objects.open(KEY) as handle:
        assert handle.fileno() > 0
        assert handle.read(4) == b"one\n"
        handle.seek(0)
        assert handle.read() == b"one\ntwo\n"
    assert handle.closed


def test_what_is_not_there_is_not_found(objects: Objects) -> None:
    with pytest.raises(NotFound, match="parts/none"):
        objects.get("parts/none")
    with pytest.raises(NotFound):
        objects.get("parts/none", offset=3, length=4)
    with pytest.raises(NotFound):
        list(objects.lines("parts/none"))
    with pytest.raises(NotFound), objects.open("parts/none"):
        pass


def test_a_prefix_of_keys_is_no_object(objects: Objects) -> None:
    objects.put(KEY, b"one")
    with pytest.raises(NotFound):
        objects.get("parts")


def test_deleting_is_idempotent_and_touches_only_what_was_named(objects: Objects) -> None:
    objects.put("parts/a", b"1")
    objects.put("parts/b", b"2")
    objects.delete(["parts/a", "parts/none"])
    objects.delete(["parts/a"])
    objects.delete([])
    assert list(objects.keys("")) == ["parts/b"]
    with pytest.raises(NotFound):
        objects.get("parts/a")


def test_keys_are_those_that_begin_with_the_prefix_sorted_whole(objects: Objects) -> None:
    for key in ("parts/b", "parts/a/1", "parts/a-1", "partsx", "batches/z", "results/é"):
        objects.put(key, b"")
    assert list(objects.keys("parts/")) == ["parts/a-1", "parts/a/1", "parts/b"]
    assert list(objects.keys("parts")) == ["parts/a-1", "parts/a/1", "parts/b", "partsx"]
    assert list(objects.keys("parts/a/")) == ["parts/a/1"]
    assert list(objects.keys("none/")) == []
    assert list(objects.keys("")) == ["batches/z", "parts/a-1", "parts/a/1", "parts/b", "partsx", "results/é"]
