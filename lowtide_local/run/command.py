"""Run: a file of tasks in, a directory of records out. Killed at any moment, the same command goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import httpx2
import orjson

from lowtide.adapters.clock import WallClock
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client
from lowtide.core.acceptance import accept
from lowtide.core.errors import Refused
from lowtide.core.jsontext import decode
from lowtide.core.routes import Routes
from lowtide.core.tasks import TaskState
from lowtide.ports import System
from lowtide_local.cli.stop import Stop, usage
from lowtide_local.engine.database import DirectoryInUse, DirectoryUnusable
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.metrics import RecordedMetrics
from lowtide_local.engine.worker import Halted, Pace, Worker
from lowtide_local.report.run_report import RunReport

from .assembly import assemble, shipped_routes
from .endpoint import Endpoint, has_batches
from .feed import Feed
from .outputs import report_of, write_outputs
from .reconcile import BilledLine

STATE = ".lowtide"
"""The directory inside DIR that holds the run's durable state."""

PACE = Pace(assemble_s=2.0, poll_s=0.5, watch_s=0.1)

RETRY_BATCH_S = 2.0
"""A person waits for a run: items that failed in a batch go into the next one soon."""

POLL_MAX_S = 30.0

ASKING_S = 5.0
"""For the provider's own count of what it billed, which only simulators have."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of tasks while a run goes on. ``fed`` is false while the file is still being read."""

    accepted: int
    answered: int
    dead: int
    fed: bool


Watcher = Callable[[Progress], None]


async def run(tasks: Path, out: Path, endpoint: Endpoint, *, batch: bool, watch: Watcher) -> RunReport:
    """Raises Stop where it cannot begin or go on; then what was done is kept in ``out``."""
    fingerprint = _fingerprint(tasks, endpoint, batch=batch)
    begun = (out / STATE).exists()
    if begun:
        # Refuse what belongs to another run before anything else is asked of anybody.
        _open(out, fingerprint).close()
    routes = _routes(batch=batch)
    await _check_endpoint(endpoint, routes, tasks, batch=batch)
    engine = _open(out, fingerprint)
    try:
        system = assemble(
            engine,
            clock=WallClock(),
            routes=routes,
            metrics=RecordedMetrics(),
            deployment=engine.meta.get("deployment") or "run",
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
        )
        engine.void_leases()
        await _work(system, engine, Feed(system, engine, tasks), watch)
        report = report_of(system, engine, f"lowtide run {tasks.name}", await _billed(endpoint))
        write_outputs(system, engine, out, report)
    finally:
        engine.close()
    return report


def check_input(tasks: Path) -> None:
    """Raises Stop for what is no readable file with something in it."""
    try:
        with tasks.open("rb") as file:
            empty = not any(line.strip() for line in file)
    except OSError as error:
        raise usage(f"cannot read {tasks}: {error.strerror or error}") from None
    if empty:
        raise usage(f"{tasks} is empty: give a file with one task per line")


def _fingerprint(tasks: Path, endpoint: Endpoint, *, batch: bool) -> str:
    digest = sha256()
    with tasks.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return orjson.dumps({"input": digest.hexdigest(), "base_url": endpoint.base_url, "batch": batch}).decode()


def _open(out: Path, fingerprint: str) -> Engine:
    if out.exists() and not out.is_dir():
        raise usage(f"--out {out} is a file; give a directory")
    try:
        (out / STATE).mkdir(parents=True, exist_ok=True)
        engine = Engine.open(out / STATE, WallClock())
    except DirectoryInUse:
        raise Stop(f"{out} is in use by another lowtide run; wait for it, or give another --out") from None
    except DirectoryUnusable as error:
        raise usage(str(error)) from None
    except OSError as error:
        raise usage(f"cannot write to --out {out}: {error.strerror or error}") from None
    before = engine.meta.get("fingerprint")
    if before is None:
        with engine.transaction():
            engine.meta.set("fingerprint", fingerprint)
            engine.meta.set("deployment", f"run-{uuid4().hex[:12]}")
    elif before != fingerprint:
        engine.close()
        differing = _differing(before, fingerprint)
        raise usage(f"{out} holds a run with another {differing}; repeat that command, or give another --out")
    return engine


def _differing(before: str, now: str) -> str:
    names = {"input": "input file", "base_url": "--base-url", "batch": "--no-batch"}
    first, second = orjson.loads(before), orjson.loads(now)
    return " and ".join(names[key] for key in second if first.get(key) != second[key])


def _routes(*, batch: bool) -> Routes:
    routes = shipped_routes().without_reply_list()
    patient = routes.model_copy(
        update={
            "batching": routes.batching.model_copy(update={"poll_max_s": POLL_MAX_S}),
            "retries": routes.retries.model_copy(update={"batch_base_s": RETRY_BATCH_S}),
        }
    )
    return patient if batch else patient.without_batch()


async def _check_endpoint(endpoint: Endpoint, routes: Routes, tasks: Path, *, batch: bool) -> None:
    client = build_client(base_url=endpoint.base_url, api_key=endpoint.api_key)
    try:
        able = await has_batches(OpenAIBatches(client, WallClock()), endpoint.base_url)
    finally:
        await client.close()
    if batch and not able and (count := _batchable(tasks, routes)):
        raise usage(
            f"{endpoint.base_url} has no Batch API, and {count} tasks of {tasks.name} are to be batched at half price: "
            "give --no-batch to have them answered on real-time lanes at their price"
        )


def _batchable(tasks: Path, routes: Routes) -> int:
    now, count = WallClock().now(), 0
    with tasks.open("rb") as file:
        for line in file:
            try:
                count += accept(decode(line), origin="", sent_at=now, routes=routes).batchable
            except Refused:
                continue
    return count


async def _work(system: System, engine: Engine, feed: Feed, watch: Watcher) -> None:
    worker = Worker(system, PACE, lambda name: engine.queue(name).next_visible_at())
    feed = Feed(worker.system, engine, feed.path)
    state = {"fed": False}

    async def feeding() -> None:
        while feed.step():
            await asyncio.sleep(0)
        state["fed"] = True
        worker.no_more()

    try:
        async with _watching(engine, state, watch), asyncio.TaskGroup() as group:
            group.create_task(feeding())
            group.create_task(worker.run(flush=True))
    except* Halted as halted:
        reason = _first(halted)
        raise Stop(
            f"the provider refuses the account ({reason}); nothing is lost: mend it and repeat the command"
        ) from None


@asynccontextmanager
async def _watching(engine: Engine, state: dict[str, bool], watch: Watcher) -> AsyncIterator[None]:
    async def report() -> None:
        while True:
            watch(_progress(engine, fed=state["fed"]))
            await asyncio.sleep(0.5)

    reporter = asyncio.create_task(report())
    try:
        yield
        watch(_progress(engine, fed=True))
    finally:
        reporter.cancel()


def _progress(engine: Engine, *, fed: bool) -> Progress:
    counts = engine.tasks.counts()
    return Progress(
        accepted=sum(counts.values()),
        answered=counts.get(TaskState.ANSWERED, 0),
        dead=counts.get(TaskState.DEAD, 0),
        fed=fed,
    )


def _first(group: BaseExceptionGroup[Halted]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


async def _billed(endpoint: Endpoint) -> list[BilledLine] | None:
    """The simulated provider can be asked what it billed; others cannot, and answer with something else."""
    url = endpoint.base_url.removesuffix("/v1") + "/simulator/billing"
    try:
        async with httpx2.AsyncClient(timeout=ASKING_S) as client:
            reply = await client.get(url)
        statement = orjson.loads(reply.content) if reply.status_code == 200 else None  # noqa: PLR2004 - HTTP's OK
    except (httpx2.HTTPError, orjson.JSONDecodeError):
        return None
    if not isinstance(statement, dict) or not isinstance(statement.get("data"), list):
        return None
    return [BilledLine(ours=str(line.get("id")), batched=line.get("kind") == "batch") for line in statement["data"]]
