"""Objects in one S3 bucket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from lowtide.core.errors import LowtideError, NotFound

from .backoff import tries

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BLOCK_BYTES = 2 * 1024 * 1024
"""What ``lines`` holds at a time, two or three times over, beside one line. A 200 MB file is 100 requests."""
_DELETE_AT_ONCE = 1000
"""Keys in one DeleteObjects (S3's limit)."""
_TRIES = 4
"""Of one read: the SDK repeats a request, but not a body that broke off."""
_CHUNK_BYTES = 5 * 1024 * 1024
"""Of a large object in one request: the least that S3 takes."""
# As shipped, boto3 would hold ten chunks of an upload and 25 MB of a download.
_TRANSFER = TransferConfig(
    max_concurrency=4, multipart_threshold=_CHUNK_BYTES, multipart_chunksize=_CHUNK_BYTES, max_io_queue=16
)
_TRANSFER.max_in_memory_upload_chunks = 2
_MISSING = frozenset({"NoSuchKey", "404"})
_BEYOND_THE_END = "InvalidRange"


class S3Objects:
    """A ports.Objects. Needs s3:ListBucket, without which S3 answers 403 for an object that is not there."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    @property
    def bucket(self) -> str:
        return self._bucket

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """From where the handle stands to its end; it stays open. A large one goes in parts, and appears whole."""
        if isinstance(data, bytes):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
        else:
            self._client.upload_fileobj(cast("Any", _KeptOpen(data)), self._bucket, key, Config=_TRANSFER)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        data, _ = self._read(key, offset, length)
        return data

    def lines(self, key: str) -> Iterator[bytes]:
        """In blocks with a request each: a reader that takes minutes over a block loses no connection.

        Raises LowtideError where the object was replaced while it was being read.
        """
        offset, rest = 0, b""
        block, etag = self._read(key, 0, BLOCK_BYTES)
        while block:
            offset += len(block)
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
            if len(block) < BLOCK_BYTES:
                break
            block, _ = self._read(key, offset, BLOCK_BYTES, etag)
        if rest:
            yield rest

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """A temporary file without a name: gone when it is closed, or when the process dies."""
        with tempfile.TemporaryFile() as file:
            try:
                self._client.download_fileobj(self._bucket, key, file, Config=_TRANSFER)
            except ClientError as error:
                raise self._explained(error, key) from error
            file.seek(0)
            yield cast("BinaryIO", file)

    def delete(self, keys: Sequence[str]) -> None:
        for at in range(0, len(keys), _DELETE_AT_ONCE):
            doomed = {"Objects": [{"Key": key} for key in keys[at : at + _DELETE_AT_ONCE]], "Quiet": True}
            left = self._client.delete_objects(Bucket=self._bucket, Delete=cast("Any", doomed)).get("Errors")
            if left:
                raise LowtideError(f"S3 kept {len(left)} objects, {left[0]['Key']} for {left[0]['Code']}; delete again")

    def keys(self, prefix: str) -> Iterator[str]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield entry["Key"]

    def _read(self, key: str, offset: int, length: int | None, etag: str | None = None) -> tuple[bytes, str | None]:
        """The bytes that there are of that range, and the tag of the object's present content."""
        request: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
        if etag is not None:
            request["IfMatch"] = etag
        if offset or length is not None:
            # A range cannot be empty: for nothing, ask for one byte.
            last = "" if length is None else offset + max(length, 1) - 1
            request["Range"] = f"bytes={offset}-{last}"
        fault: Exception | None = None
        for _ in tries(_TRIES):
            try:
                answer = self._client.get_object(**request)
                data = answer["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] == _BEYOND_THE_END:
                    return b"", None
                raise self._explained(error, key) from error
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError) as error:
                fault = error
            else:
                return data if length is None else data[:length], answer["ETag"]
        raise LowtideError(f"reading {key} broke off {_TRIES} times: {fault}; read it again") from fault

    def _explained(self, error: ClientError, key: str) -> Exception:
        match error.response["Error"]["Code"]:
            case code if code in _MISSING:
                return NotFound(f"no object {key} in bucket {self._bucket}")
            case "PreconditionFailed":
                return LowtideError(f"{key} was replaced while it was being read; read it again from the start")
            case _:
                return error


class _KeptOpen:
    """A handle that S3's uploader reads and cannot close: closing is for whoever opened it."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle

    def read(self, size: int = -1) -> bytes:
        return self._handle.read(size)
