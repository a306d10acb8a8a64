"""The disk under a run: files that are this user's alone, and what to do where it takes no more.

What lies there holds prompts and answers. A name is never followed through a symbolic link that somebody else may have
put in its place, and modes do not depend on the umask.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lowtide.core.errors import LowtideError

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

_REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or have the quota raised",
    errno.EROFS: "mount it for writing",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs, or raise the system's limit on open files",
    errno.EACCES: "see its owner and mode",
    errno.EPERM: "see its owner and mode",
    errno.EIO: "see whether the disk is well",
}
_OF_A_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO})
"""Those that only a file can meet, and no socket."""


class DiskFault(BaseException):
    """The disk does not keep what the pipeline has to keep.

    No step may take it for an error of its own and go on, or a call would be made, and paid, again and again. It ends
    the process as a crash does, and what is durable goes on from there. The text names the path and the remedy.
    """

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class NotOurs(LowtideError):
    """What lies at a path is no file or directory of this user's own."""


def refused(error: OSError) -> bool:
    """Does the disk refuse, whatever was to be written?"""
    return error.errno in _REMEDIES


def problem_of(error: OSError) -> str:
    """What is wrong, and what to do about it."""
    what = error.strerror or str(error)
    remedy = None if error.errno is None else _REMEDIES.get(error.errno)
    return what if remedy is None else f"{what}; {remedy}"


def told(error: OSError, *, unnamed: str) -> str:
    """Return the path, what is wrong with it, and what to do. ``unnamed`` stands for the path where a disk refused and
    the error names none. Errors that a socket may have met get no path."""
    if error.filename is not None:
        return f"{error.filename}: {problem_of(error)}"
    return f"{unnamed}: {problem_of(error)}" if error.errno in _OF_A_DISK else problem_of(error)


def temporary() -> str:
    """Name the directory of temporary files, which have no name themselves."""
    try:
        return f"{tempfile.gettempdir()}, which holds temporary files (TMPDIR names another)"
    except OSError:  # Python looks for a directory that takes a file, and none did
        return "the directory of temporary files (TMPDIR names another)"


def fault_in(error: BaseException) -> str | None:
    """Return what the disk refused, if that is the error, or the first of a group, however deep."""
    match error:
        case DiskFault():
            return str(error)
        case OSError() if refused(error):
            return told(error, unnamed=temporary())
        case BaseExceptionGroup():
            return next((found for each in error.exceptions if (found := fault_in(each)) is not None), None)
        case _:
            return None


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An OSError names ``path``: one from a write through an open file names nothing."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def make_directory(path: Path) -> None:
    """Make a directory that is this user's alone; those above it are made as ever. One that is there stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(DIRECTORY_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(DIRECTORY_MODE)  # the umask may have removed bits


def claim_directory(path: Path) -> None:
    """The same for a directory that holds state: closed to others if it was open, never a link, never another user's.

    Raises NotOurs.
    """
    if path.is_symlink():
        raise NotOurs(f"{path} is a symbolic link; remove it, or use another directory")
    make_directory(path)
    found = path.stat(follow_symlinks=False)
    if found.st_uid != os.geteuid():
        if os.geteuid() != 0:
            raise NotOurs(f"{path} belongs to another user; use another directory")
        return
    if stat.S_IMODE(found.st_mode) != DIRECTORY_MODE:
        path.chmod(DIRECTORY_MODE)


def create(path: Path) -> BinaryIO:
    """Open a new file for writing, in place of whatever has that name; a link is removed, not followed."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    os.fchmod(handle, FILE_MODE)
    return os.fdopen(handle, "wb")


def open_kept(path: Path) -> BinaryIO:
    """Open a file that stays, for reading and writing; make it if it is not there. Raises NotOurs for anything but a
    file, and for a file that has a second name elsewhere."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            what = "a symbolic link" if error.errno == errno.ELOOP else "a directory"
            raise NotOurs(f"{path} is {what}; remove it, or use another directory") from None
        raise
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(handle)
        if stat.S_ISREG(found.st_mode):
            raise NotOurs(f"{path} has a second name (a hard link); put a copy in its place, or use another directory")
        raise NotOurs(f"{path} is no file; remove it, or use another directory")
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != FILE_MODE:
        os.fchmod(handle, FILE_MODE)
    return os.fdopen(handle, "r+b", buffering=0)
