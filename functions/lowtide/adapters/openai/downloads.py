r"""A provider's file, line by line, and not one line before the whole file is here.

A download of hundreds of megabytes is known to break half-way. It goes to a temporary file first, is checked against
its length, and begins again where it broke: lines that were lost in silence would be bought a second time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from tempfile import TemporaryFile
from typing import BinaryIO

import httpx2
import orjson
from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from lowtide.core.errors import Unreachable

from .wire import refusal, unreachable

TRIES = 3
_CHUNK = 1 << 20
"""Bytes."""


async def lines_of(client: AsyncOpenAI, file_id: str) -> AsyncIterator[bytes]:
    r"""The file's lines without their ``\n``, split on that byte only; blank ones are left out.

    Raises ProviderRefused, or Unreachable where it broke at every try.
    """
    with TemporaryFile() as whole:
        await _fetch(client, file_id, whole)
        whole.seek(0)
        for line in whole:
            if stripped := line.strip(b"\r\n"):
                yield stripped


async def _fetch(client: AsyncOpenAI, file_id: str, into: BinaryIO) -> None:
    broken: Unreachable | None = None
    for _ in range(TRIES):
        into.seek(0)
        into.truncate()
        try:
            fault = await _download(client, file_id, into)
        except APIStatusError as error:
            raise refusal(error) from None
        except (APIConnectionError, httpx2.HTTPError) as error:
            broken = unreachable(error)
            continue
        if fault is None:
            return
        broken = Unreachable(f"the download of {file_id} {fault}")
    raise broken or AssertionError("there is at least one try")


async def _download(client: AsyncOpenAI, file_id: str, into: BinaryIO) -> str | None:
    """What is wrong with what came, or None where it is whole."""
    async with client.files.with_streaming_response.content(file_id) as streamed:
        response = streamed.http_response
        async for chunk in response.aiter_bytes(_CHUNK):
            into.write(chunk)
        length = response.headers.get("content-length")
        if length is None:
            return None if _ends_whole(into) else "ends in half a line"
        # A compressed body is measured as it was sent: read, it has another length.
        compressed = response.headers.get("content-encoding", "identity") != "identity"
        got = response.num_bytes_downloaded if compressed else into.tell()
        return None if got == int(length) else f"brought {got} bytes of {length}"


def _ends_whole(file: BinaryIO) -> bool:
    """Is the last line whole? It is all there is to go by where the server did not say how much would come."""
    end = file.seek(0, 2)
    size = min(end, _CHUNK)
    while True:
        file.seek(end - size)
        tail = file.read(size).rstrip()
        if b"\n" in tail or size == end:
            break
        size = min(end, size * 2)
    try:
        orjson.loads(tail.rpartition(b"\n")[2] or b"null")
    except orjson.JSONDecodeError:
        return False
    return True
