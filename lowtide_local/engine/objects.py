"""Objects as files: the key is the path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO

from lowtide.core.errors import NotFound

from .database import Durability

_UNFINISHED = ".unfinished"
"""Where a put writes before it renames. No key leads here: no segment of a key begins with a dot."""


class FileObjects:
    """A ports.Objects under ``root``. A reader keeps the object that it opened when another takes its place."""

    def __init__(self, root: Path, durability: Durability) -> None:
        self._root = root
        self._durability = durability
        self._numbers = count()
        # What a process that died was writing; the engine's lock says that it is dead.
        shutil.rmtree(root / _UNFINISHED, ignore_errors=True)
        (root / _UNFINISHED).mkdir(parents=True)

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """From where the handle stands to its end; it stays open."""
        path = self._path(key)
        unfinished = self._root / _UNFINISHED / str(next(self._numbers))
        with unfinished.open("wb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                shutil.copyfileobj(data, file)
            if self._durability is Durability.FULL:
                file.flush()
                os.fsync(file.fileno())
        self._directory(path.parent)
        unfinished.replace(path)
        self._sync(path.parent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        with self.open(key) as file:
            file.seek(offset)
            return file.read() if length is None else file.read(length)

    def lines(self, key: str) -> Iterator[bytes]:
        with self.open(key) as file:
            for line in file:
                yield line.removesuffix(b"\n")

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        try:
            file = self._path(key).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFound(f"no object {key} in {self._root}") from error
        with file:
            yield file

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        """As they are at this moment, sorted as S3 sorts them: by the bytes of the whole key."""
        directory = prefix.rpartition("/")[0]
        start = self._path(directory) if directory else self._root
        found = (path.relative_to(self._root).as_posix() for path in start.rglob("*") if path.is_file())
        yield from sorted(key for key in found if key.startswith(prefix) and not key.startswith("."))

    def _path(self, key: str) -> Path:
        segments = key.split("/")
        if any(not segment or segment.startswith(".") or "\\" in segment or "\0" in segment for segment in segments):
            raise ValueError(f"{key!r} is no key: segments between slashes, none of them empty or begun with a dot")
        return self._root.joinpath(*segments)

    def _directory(self, path: Path) -> None:
        """Makes it, and each new one's name durable in its parent."""
        if not path.is_dir():
            self._directory(path.parent)
            path.mkdir(exist_ok=True)
            self._sync(path.parent)

    def _sync(self, directory: Path) -> None:
        if self._durability is Durability.FULL:
            handle = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
