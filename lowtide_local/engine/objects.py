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
from lowtide_local.disk import DiskFault, claim_directory, create, make_directory, problem_of, refused

from .database import Durability

_UNFINISHED = ".unfinished"
"""Where a put writes before it renames. No key leads here: no segment of a key begins with a dot."""


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Raises DiskFault where the disk refuses what is done at ``path``."""
    try:
        yield
    except OSError as error:
        if refused(error):
            raise DiskFault(path, problem_of(error)) from error
        raise


class FileObjects:
    """A ports.Objects under ``root``. A reader keeps the object that it opened when another takes its place."""

    def __init__(self, root: Path, durability: Durability) -> None:
        self._root = root
        self._durability = durability
        self._numbers = count()
        claim_directory(root)
        # What a process that died was writing; the engine's lock says that it is dead.
        unfinished = root / _UNFINISHED
        if unfinished.is_symlink():
            unfinished.unlink()
        shutil.rmtree(unfinished, ignore_errors=True)
        claim_directory(unfinished)

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """From where the handle stands to its end; it stays open. Raises DiskFault where the disk takes no more."""
        path = self._path(key)
        with _kept(path):
            self._put(path, data)

    def _put(self, path: Path, data: bytes | BinaryIO) -> None:
        unfinished = self._root / _UNFINISHED / str(next(self._numbers))
        with create(unfinished) as file:
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
        except OSError as error:
            raise DiskFault(self._path(key), problem_of(error)) from error
        with file:
            yield file

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            path = self._path(key)
            with _kept(path):
                path.unlink(missing_ok=True)

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
        """Makes it and those above it under the root, and each new one's name durable in its parent."""
        if path != self._root:
            self._directory(path.parent)
        if path.is_symlink():
            raise DiskFault(path, "a symbolic link is in the place of a directory; remove it")
        if not path.is_dir():
            make_directory(path)
            self._sync(path.parent)

    def _sync(self, directory: Path) -> None:
        if self._durability is Durability.FULL:
            handle = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
