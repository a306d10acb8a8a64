"""DIR: whose run it holds, whether that run is over, and what stands in its way."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import orjson

from lowtide.core.batches import BatchState
from lowtide.core.routes import NO_PRICES, OPENAI_PRICES
from lowtide.core.tasks import TaskState
from lowtide.ports import Clock
from lowtide_local.cli.stop import Stop, usage
from lowtide_local.disk import DiskFault, NotOurs, make_directory, temporary, told
from lowtide_local.engine.database import DirectoryInUse, DirectoryUnusable
from lowtide_local.engine.engine import Engine

from .endpoint import Endpoint
from .reading import DATABASE, STATE

GO_ON = "What was done is kept: repeat the command when that is mended"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE})

_NAMES = {"input": "input file", "base_url": "--base-url", "batch": "--no-batch", "prices": "--prices"}
_RESTING = (BatchState.SEALED, BatchState.UPLOADING, BatchState.SUBMITTING)


def fingerprint(
    tasks: Path, endpoint: Endpoint, *, batch: bool, told: Callable[[int, int], None] = lambda _done, _whole: None
) -> str:
    """What makes two commands the same run. ``told`` hears how many bytes of how many are read."""
    with tasks.open("rb") as file:
        digest, whole = sha256(), tasks.stat().st_size
        while block := file.read(1 << 20):
            digest.update(block)
            told(file.tell(), whole)
    mark = {"input": digest.hexdigest(), "base_url": endpoint.base_url, "batch": batch}
    # A run of an earlier release has none.
    return orjson.dumps(mark | _prices_of(endpoint)).decode()


def _prices_of(endpoint: Endpoint) -> dict[str, str]:
    """A table of one's own is told by what it holds: one that was changed is another."""
    if endpoint.prices is None:
        return {}
    if endpoint.prices in (OPENAI_PRICES, NO_PRICES):
        return {"prices": endpoint.prices}
    return {"prices": sha256(Path(endpoint.prices).read_bytes()).hexdigest()}


@contextmanager
def opened(out: Path, mark: str, clock: Clock) -> Iterator[Engine]:
    """The engine in ``out``, for the run whose fingerprint is ``mark``. Raises Stop where it is not to be had, and
    where its state can no longer be written."""
    with _as_stop(out):
        engine = _open(out, mark, clock)
        try:
            yield engine
        finally:
            engine.close()


def check_free(out: Path, mark: str, clock: Clock) -> bool:
    """Has this very run left its records in ``out``? Makes nothing. Raises Stop where another run holds it."""
    try:
        if out.exists() and not out.is_dir():
            raise usage(f"--out {out} is a file; give a directory")
        if not (out / STATE / DATABASE).exists():
            return False
    except OSError as error:
        raise _unwritable(out, error) from None
    with opened(out, mark, clock) as engine:
        return finished_at(engine) is not None


def finished_at(engine: Engine) -> datetime | None:
    """When the run left its records; None while it has not."""
    moment = engine.meta.get("finished")
    return None if moment is None else datetime.fromisoformat(moment)


def finish(engine: Engine, at: datetime) -> None:
    engine.meta.set("finished", at.isoformat())


def deployment_of(engine: Engine) -> str:
    """The name that everything of this run carries at the provider."""
    name = engine.meta.get("deployment")
    if name is None:
        raise AssertionError("an opened run has its name")
    return name


def rest_until_repeated(engine: Engine) -> None:
    """The account was refused. Whoever repeats the command has mended that: nothing should wait any longer then."""
    with engine.transaction():
        engine.meta.set("lift", "now")


def lift_rest(engine: Engine) -> None:
    with engine.transaction():
        if engine.meta.get("lift") != "now":
            return
        engine.tasks.amend(TaskState.QUEUED, {"not_before": None})
        for state in _RESTING:
            engine.batches.amend(state, {"not_before": None})
        engine.meta.set("lift", "done")


def _open(out: Path, mark: str, clock: Clock) -> Engine:
    try:
        with _beginning(out):
            make_directory(out)
            engine = Engine.open(out / STATE, clock)
    except DirectoryInUse:
        raise Stop(f"{out} is in use by another lowtide run; wait for it, or give another --out") from None
    except (DirectoryUnusable, NotOurs) as error:
        raise usage(str(error)) from None
    try:
        _claim(engine, out, mark)
    except BaseException:
        engine.close()
        raise
    return engine


def _unwritable(out: Path, error: OSError) -> Stop:
    return usage(f"cannot write to --out {out}: {error.strerror or error}")


def _claim(engine: Engine, out: Path, mark: str) -> None:
    before = engine.meta.get("fingerprint")
    if before is None:
        with engine.transaction():
            engine.meta.set("fingerprint", mark)
            engine.meta.set("deployment", f"run-{uuid4().hex[:12]}")
    elif before != mark:
        differing = _differing(before, mark)
        if differing == ["base_url"] and _bought_nothing(engine):
            # The address was wrong, and has been mended.
            with engine.transaction():
                engine.meta.set("fingerprint", mark)
            return
        named = " and ".join(_NAMES[key] for key in differing)
        raise usage(f"{out} holds a run with another {named}; repeat that command, or give another --out")


def _differing(before: str, now: str) -> list[str]:
    first, second = orjson.loads(before), orjson.loads(now)
    return [key for key in _NAMES if first.get(key) != second.get(key)]


def _bought_nothing(engine: Engine) -> bool:
    """Has no provider taken anything of this run: no file, no batch, no call that may have been answered?"""
    untouched = (BatchState.SEALED, BatchState.UPLOADING)
    if any(row.state not in untouched or row.input_ref is not None for row in engine.batches.scan()):
        return False
    return all(row.state in (TaskState.QUEUED, TaskState.STAGED) and not row.repaid for row in engine.tasks.scan())


@contextmanager
def _beginning(out: Path) -> Iterator[None]:
    """Where DIR cannot be made the command is at fault, unless the disk is merely full."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise _unwritable(out, error) from None


@contextmanager
def _as_stop(out: Path) -> Iterator[None]:
    try:
        yield
    except DiskFault as fault:
        raise Stop(f"{fault}. {GO_ON}") from None
    except OSError as error:
        raise Stop(f"{told(error, unnamed=temporary())}. {GO_ON}") from None
    except sqlite3.Error as error:
        raise Stop(f"cannot keep state in {out / STATE}: {error}; repeat the command when that is mended") from None
