from __future__ import annotations

import io
from typing import Any

import pytest
from aws_cases import Calls
from botocore.exceptions import IncompleteReadError

from lowtide.adapters.aws import backoff, objects
from lowtide.adapters.aws.objects import S3Objects
from lowtide.core.errors import LowtideError, NotFound
from tests.contract.aws import BUCKET


@pytest.fixture
def bucket(aws) -> S3Objects:
    return S3Objects(aws.s3, BUCKET)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(objects, "BLOCK_BYTES", 8)


def test_an_object_is_put_from_bytes_and_from_a_handle_and_replaced(bucket):
    bucket.put("k", b"one")
    assert bucket.get("k") == b"one"
    bucket.put("k", io.BytesIO(b"two"))
    assert bucket.get("k") == b"two"


def test_a_large_handle_goes_up_in_parts_and_stays_open(bucket, aws, tmp_path):
    content = b"0123456789abcdef" * 1024 * 1024
    path = tmp_path / "large"
    path.write_bytes(content)
    calls = Calls(aws.s3)
    with path.open("rb") as handle:
        bucket.put("large", handle)
        assert not handle.closed
    assert "CompleteMultipartUpload" in calls.names
    with bucket.open("large") as back:
        assert back.read() == content


def test_a_small_handle_stays_open_too(bucket):
    handle = io.BytesIO(b"small")
    bucket.put("small", handle)
    assert not handle.closed


def test_a_range_is_read_and_what_lies_beyond_the_end_is_empty(bucket):
    bucket.put("k", b"0123456789")
    assert bucket.get("k", offset=2, length=3) == b"234"
    assert bucket.get("k", offset=7) == b"789"
    assert bucket.get("k", offset=7, length=100) == b"789"
    assert bucket.get("k", offset=3, length=0) == b""
    assert bucket.get("k", offset=10, length=5) == b""


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"one\ntwo", [b"one", b"two"]),
        (b"one\n\ntwo\n", [b"one", b"", b"two"]),
        (b"12345678", [b"12345678"]),
        (b"1234567\n", [b"1234567"]),
        (b"a line of many blocks, which goes on\nb\n", [b"a line of many blocks, which goes on", b"b"]),
        ("raw \u2028 and \r and \x85\nnext".encode(), ["raw \u2028 and \r and \x85".encode(), b"next"]),
    ],
)
def test_lines_are_split_on_newline_bytes_only_wherever_blocks_end(bucket, small_blocks, content, lines):
    bucket.put("k", content)
    assert list(bucket.lines("k")) == lines


def test_lines_are_read_a_block_at_a_time(bucket, aws, small_blocks):
    bucket.put("k", b"1234567\n" * 10)
    calls = Calls(aws.s3)
    first = next(bucket.lines("k"))
    assert (first, calls.names) == (b"1234567", ["GetObject"])


def test_lines_of_an_object_that_is_replaced_meanwhile_are_an_error_and_never_a_mixture(bucket, small_blocks):
    bucket.put("k", b"old old\n" * 3)
    lines = bucket.lines("k")
    assert next(lines) == b"old old"
    bucket.put("k", b"new new\n" * 3)
    with pytest.raises(LowtideError, match="replaced"):
        list(lines)


def test_what_is_not_there_is_not_found(bucket):
    with pytest.raises(NotFound, match="nothing"):
        bucket.get("nothing")
    with pytest.raises(NotFound, match="nothing"):
        bucket.get("nothing", offset=1, length=2)
    with pytest.raises(NotFound, match="nothing"):
        next(bucket.lines("nothing"))
    with pytest.raises(NotFound, match="nothing"), bucket.open("nothing"):
        pass


def test_an_open_object_is_a_real_file_that_is_gone_afterwards(bucket):
    bucket.put("k", b"content")
    with bucket.open("k") as handle:
        assert handle.fileno() > 0
        assert handle.read() == b"content"
    assert handle.closed


def test_deleting_is_idempotent_and_takes_any_number(bucket, aws):
    for n in range(5):
        bucket.put(f"k{n}", b"x")
    calls = Calls(aws.s3)
    bucket.delete([f"k{n}" for n in range(1001)])
    bucket.delete(["k0"])
    bucket.delete([])
    assert list(bucket.keys("")) == []
    assert calls.names == ["DeleteObjects"] * 3 + ["ListObjectsV2"]


def test_keys_are_those_under_a_prefix_on_every_page(bucket, aws):
    for n in range(3):
        bucket.put(f"parts/{n}", b"x")
    bucket.put("results/0", b"x")
    assert list(bucket.keys("parts/")) == ["parts/0", "parts/1", "parts/2"]


class Breaking:
    """A client whose bodies break off a number of times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def get_object(self, **request: Any) -> Any:
        return {"Body": self, "ETag": "tag"}

    def read(self) -> bytes:
        if self.times:
            self.times -= 1
            raise IncompleteReadError(actual_bytes=1, expected_bytes=2)
        return b"whole"


def test_a_body_that_breaks_off_is_read_again(monkeypatch):
    monkeypatch.setattr(backoff.time, "sleep", lambda seconds: None)
    assert S3Objects(Breaking(3), BUCKET).get("k") == b"whole"
    with pytest.raises(LowtideError, match="broke off"):
        S3Objects(Breaking(4), BUCKET).get("k")
