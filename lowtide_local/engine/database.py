"""One SQLite file, one connection, one process.

A transaction is the unit of durability: what was committed is there after ``kill -9``. Transactions nest, so that
several ports can write as one (a feeder's rows, messages and cursor).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from enum import Enum
from pathlib import Path
from threading import RLock

from lowtide.core.errors import LowtideError
from lowtide_local.disk import DiskFault, named, open_kept

try:
    import fcntl
except ImportError:
    raise LowtideError(
        "lowtide keeps its state under a file lock that this system does not have: use Linux or macOS, "
        "or Linux inside Windows (WSL)"
    ) from None

SCHEMA_VERSION = 3
"""One more with every change to ``_SCHEMA``; kept in the file as SQLite's ``user_version``."""

_SCHEMA = """
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: part of the message's id for life
    queue TEXT NOT NULL,
    sent_to TEXT NOT NULL,                 -- the queue where it began: part of its id as well
    visible_at INTEGER NOT NULL,           -- moments are milliseconds since 1970
    sent_at INTEGER NOT NULL,
    receives INTEGER NOT NULL DEFAULT 0,
    received_at INTEGER,
    tenant TEXT NOT NULL,
    attributes TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX messages_by_visibility ON messages (queue, visible_at, id);
CREATE INDEX messages_by_tenant ON messages (queue, tenant, visible_at, id);
CREATE TABLE ledger (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of creation
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    rev INTEGER NOT NULL,
    active INTEGER NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (kind, key)
);
CREATE INDEX rows_in_order ON rows (kind, seq);
CREATE INDEX rows_active ON rows (kind, seq) WHERE active;
CREATE INDEX rows_by_state ON rows (kind, state);
"""


_PRIMARY = 0xFF
"""SQLite's error codes have their kind in these bits."""
_LOOK = "see that the disk is well and has room, that its files may be written, and grow (ulimit -f)"
_REFUSED = {
    sqlite3.SQLITE_FULL: "make room there",
    sqlite3.SQLITE_IOERR: _LOOK,
    sqlite3.SQLITE_READONLY: _LOOK,
    sqlite3.SQLITE_CANTOPEN: _LOOK,
    sqlite3.SQLITE_PERM: _LOOK,
}


class Durability(Enum):
    """What a commit survives. Either way the death of the process loses nothing that was committed."""

    FULL = "FULL"
    """The machine's death too: synced to the disk before a commit returns."""
    RELAXED = "OFF"
    """The process's only: for what can be made again, as a demonstration or a test."""


class DirectoryInUse(LowtideError):
    """Another live process works here."""


class DirectoryUnusable(LowtideError):
    """What lies here is not this version's state."""


class Database:
    """Opens or makes the file at ``path``, and holds ``path`` + ``.lock`` until it is closed.

    Raises DirectoryInUse, DirectoryUnusable, NotOurs or OSError; and DiskFault, as every call does, where the disk
    refuses.
    """

    def __init__(self, path: Path, durability: Durability) -> None:
        self._path = path
        self._turn = RLock()
        self._depth = 0
        self._open = True
        with ExitStack() as opened:
            opened.enter_context(_locked(path.with_name(path.name + ".lock")))
            _make_private(path)
            self._connection = opened.enter_context(closing(self._connect()))
            self._prepare(path, durability)
            self._held = opened.pop_all()

    def _connect(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise self._fault(error) or error from error

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        with self._turn:
            try:
                return self._connection.execute(statement, parameters)
            except sqlite3.OperationalError as error:
                raise self._fault(error) or error from error

    def execute_many(self, statement: str, parameters: list[tuple[object, ...]]) -> int:
        """Returns how many rows changed."""
        with self._turn:
            try:
                return self._connection.executemany(statement, parameters).rowcount
            except sqlite3.OperationalError as error:
                raise self._fault(error) or error from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Inside another one it joins it: what it wrote goes when either fails.

        Never wait (``await``) inside: other coroutines of this thread would join as well.
        """
        with self._turn:
            name = f"level_{self._depth}"
            self.execute(f"SAVEPOINT {name}" if self._depth else "BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                # A kill has rolled back already, and so has SQLite where the disk refused.
                if self._open and self._connection.in_transaction:
                    self.execute(f"ROLLBACK TO {name}" if self._depth else "ROLLBACK")
                raise
            self._depth -= 1
            self.execute(f"RELEASE {name}" if self._depth else "COMMIT")

    def close(self) -> None:
        """Idempotent. An open transaction is rolled back."""
        self._open = False
        self._held.close()

    def _fault(self, error: sqlite3.OperationalError) -> DiskFault | None:
        """Is it the disk that refuses? SQLite says little more of it than that."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # Python's own errors have none
        remedy = _REFUSED.get(code & _PRIMARY)
        return None if remedy is None else DiskFault(self._path, f"{error}; {remedy}")

    def _prepare(self, path: Path, durability: Durability) -> None:
        try:
            self.execute("PRAGMA journal_mode = WAL")
            self.execute(f"PRAGMA synchronous = {durability.value}")
            [version] = self.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            raise DirectoryUnusable(f"{path} is not lowtide's: {error}; use another directory") from error
        if version == 0:
            self._create()
        elif version != SCHEMA_VERSION:
            raise DirectoryUnusable(
                f"{path} was made by another version of lowtide (schema {version}, this one's is {SCHEMA_VERSION}); "
                "finish it with that version or use another directory"
            )

    def _create(self) -> None:
        with self.transaction():
            for statement in _SCHEMA.split(";\n"):
                self.execute(statement)
            self.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _make_private(path: Path) -> None:
    """SQLite gives the files that it makes beside this one its mode. Raises NotOurs for a link in the place of any."""
    for suffix in ("-wal", "-shm", "-journal"):
        beside = path.with_name(path.name + suffix)
        if os.path.lexists(beside):
            open_kept(beside).close()
    open_kept(path).close()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The lock goes with the process, however that ends. The file stays: removing it would race."""
    with open_kept(path) as file:
        try:
            with named(path):  # not every file system has locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryInUse(
                f"{path.parent} is in use by another lowtide process; wait for it or stop it"
            ) from error
        yield
