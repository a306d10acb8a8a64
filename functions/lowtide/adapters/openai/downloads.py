r"""A provider's file, line by line, and not one line before the whole file is here.

A download of hundreds of megabytes is known to break half-way. It goes to a temporary file first, goes on where it
broke if the server can do that and begins again if not, and is checked against its length: lines that were lost in
silence would be bought a second time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from tempfile import TemporaryFile
from typing import BinaryIO

import httpx2

from lowtide.core.errors import BrokenOff, ProviderRefused, Unreachable
from lowtide.core.leniency import objects
from lowtide.core.masking import KEY

from . import unpacking
from .client import Client
from .ranges import OVERLAP, UNKNOWN_TO, asking, is_plain, total_of
from .wire import keys_of, path_of, refusal, unreachable

TRIES = 3
"""In a row that brought less than ``_PROGRESS`` of the rest."""
_PROGRESS = 1 << 20
"""Bytes."""
_TAIL = 1 << 20
"""Bytes."""


async def lines_of(client: Client, file_id: str, *, partial: bool = False) -> AsyncIterator[bytes]:
    r"""The file's lines without their ``\n``, split on that byte only, blank ones too.

    Raises ProviderRefused; BrokenOff where it began and broke at every try; Unreachable where it did not begin.
    ``partial``: of one that breaks, the lines that came are brought first.
    """
    with TemporaryFile() as whole:
        broken: BrokenOff | None = None
        fetch = _Fetch(client, file_id, whole)
        try:
            await fetch.to_the_end()
        except BrokenOff as error:
            if not partial:
                raise
            broken = error
        for line in unpacking.lines(whole, partial=partial):
            yield _without(line, fetch.keys)
        if broken is not None:
            raise broken


def _without(line: bytes, keys: Iterable[bytes]) -> bytes:
    """Return the line without the key that its file was fetched with, even where a prompt of another's held it."""
    for key in keys:
        line = line.replace(key, KEY.encode())
    return line


class _Misfit(Exception):
    """What came is not the rest of what is here."""


class _Fetch:
    def __init__(self, client: Client, file_id: str, into: BinaryIO) -> None:
        self._client = client
        self._file_id = file_id
        self._into = into
        self._began = False
        self._ranges = True
        """Until the server has shown that it has none, or that they are not to be trusted."""
        self._plain = False
        self._etag: str | None = None
        self._total: int | None = None
        self.keys: tuple[bytes, ...] = ()
        """That the file was asked for with."""

    async def to_the_end(self) -> None:
        """Raises ProviderRefused, Unreachable or BrokenOff."""
        tries = TRIES
        while True:
            here = self._here()
            resumes = self._ranges and self._plain and here > OVERLAP
            try:
                fault = await (self._rest(here) if resumes else self._whole())
            except (_Misfit, ProviderRefused, httpx2.HTTPError) as error:
                broken = self._broken(error, resuming=resumes)
            else:
                if fault is None:
                    return
                broken = Unreachable(f"the download of {self._file_id} {fault}")
            came_further = resumes and self._ranges and self._here() - here >= _PROGRESS
            tries = TRIES if came_further else tries - 1
            if not tries:
                raise BrokenOff(str(broken)) if self._began else broken

    def _broken(self, error: _Misfit | ProviderRefused | httpx2.HTTPError, *, resuming: bool) -> Unreachable:
        """Raises ProviderRefused where it is the file that is refused."""
        match error:
            case _Misfit():
                self._ranges = False
                return Unreachable(f"the download of {self._file_id} went on with something else")
            case ProviderRefused():
                if not resuming or error.status not in UNKNOWN_TO:
                    raise error from None
                self._ranges = False
                return Unreachable(f"the provider does not give the rest of {self._file_id}")
            case _:
                return unreachable(error)

    @asynccontextmanager
    async def _asked(self, headers: Mapping[str, str] | None = None) -> AsyncIterator[httpx2.Response]:
        """Give the answer to a request for the file, before its body is read. Raises ProviderRefused."""
        path = f"{path_of('files', self._file_id)}/content"
        async with self._client.stream(path, headers={"Accept": "application/binary", **(headers or {})}) as response:
            self.keys = tuple(key.encode() for key in keys_of(response.request))
            if not response.is_success:
                await response.aread()
                raise refusal(response)
            yield response

    async def _whole(self) -> str | None:
        """What is wrong with what came, or None where it is whole."""
        async with self._asked() as response:
            return await self._from_the_start(response)

    async def _rest(self, here: int) -> str | None:
        """As ``_whole``. Raises _Misfit."""
        if here == self._total:
            return None  # it broke after its last byte
        start = here - OVERLAP
        async with self._asked(asking(start, self._etag)) as response:
            if response.status_code == HTTPStatus.OK and "content-range" not in response.headers:
                self._ranges = False
                return await self._from_the_start(response)
            total = total_of(response, start)
            if total is None or self._total not in (None, total):
                raise _Misfit
            self._total = total
            await self._append(response, start)
        return self._measured(self._here())

    async def _from_the_start(self, response: httpx2.Response) -> str | None:
        self._began = True
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            return "brought a part that nobody asked for"
        self._into.seek(0)
        self._into.truncate()
        length = response.headers.get("content-length")
        self._plain = is_plain(response)
        self._etag = response.headers.get("etag")
        self._total = int(length) if self._plain and length is not None else None
        async for chunk in response.aiter_bytes():
            self._into.write(chunk)
        if length is None:
            return None if _ends_whole(self._into) else "ends in half a line"
        if self._plain:
            return self._measured(self._here())
        # A compressed body is measured as it was sent: read, it has another length.
        got = response.num_bytes_downloaded
        return None if got == int(length) else f"brought {got} bytes of {length}"

    async def _append(self, response: httpx2.Response, start: int) -> None:
        """Writes what comes after the overlap, once that has come and is what is here already. Raises _Misfit."""
        self._into.seek(start)
        known, again = self._into.read(OVERLAP), b""
        async for chunk in response.aiter_bytes():
            if len(again) == OVERLAP:
                self._into.write(chunk)
                continue
            missing = OVERLAP - len(again)
            again += chunk[:missing]
            if not known.startswith(again):
                raise _Misfit
            self._into.write(chunk[missing:])

    def _measured(self, got: int) -> str | None:
        if self._total is not None and got > self._total:
            raise _Misfit
        return None if got == self._total else f"brought {got} bytes of {self._total}"

    def _here(self) -> int:
        return self._into.seek(0, 2)


def _ends_whole(file: BinaryIO) -> bool:
    """Does it not end in the middle of an object? It is all there is to go by where the server did not say how much
    would come."""
    if unpacking.is_packed(file):
        return True
    end = file.seek(0, 2)
    size = min(end, _TAIL)
    while True:
        file.seek(end - size)
        tail = file.read(size).rstrip()
        if b"\n" in tail or size == end:
            break
        size = min(end, size * 2)
    return not objects(tail.rpartition(b"\n")[2]).open
