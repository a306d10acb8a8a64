"""Run: a file of tasks in, a directory of records out. Killed at any moment, the same command goes on where it was."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import httpx2

from lowtide.adapters.clock import WallClock
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client, build_http_client, is_openai_url
from lowtide.adapters.shipped import own_prices, shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.batches import NOT_ASKED_FOR
from lowtide.core.errors import ConfigError, Refused
from lowtide.core.jsontext import decode
from lowtide.core.prices import PriceTable
from lowtide.core.routes import NO_PRICES, OPENAI_PRICES, OwnPrices, Prices, Routes
from lowtide.ports import System
from lowtide.steps.sweep import sweep
from lowtide_local.cli.stop import Stop, usage
from lowtide_local.disk import DiskFault
from lowtide_local.engine.engine import Engine
from lowtide_local.engine.worker import Halted, Pace, Worker
from lowtide_local.report.run_report import RunReport

from . import directory, statement
from .assembly import assemble
from .contact import NO_BATCH, Contact, WatchedAnswers, WatchedBatches
from .endpoint import Endpoint, has_batches
from .feed import Feed, refusals
from .notices import RunMetrics
from .onlooker import Onlooker, Progress, Working
from .outputs import report_of, write_outputs
from .reading import lines
from .records import Tick
from .seen import seen

PACE = Pace(assemble_s=2.0, poll_s=0.5, watch_s=0.1)

PROGRESS_S = 0.5
"""Between two counts of the tasks, in seconds."""

RETRY_BATCH_S = 2.0
"""A person waits for a run: items that failed in a batch go into the next one soon."""

POLL_MAX_S = 30.0

_NO_SUCH = ("http_404", "http_405", "not_found", "HTTP 404")
"""Beginnings of causes that speak of the address."""


async def run(
    tasks: Path,
    out: Path,
    endpoint: Endpoint,
    *,
    batch: bool,
    onlooker: Onlooker,
    at_once: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> RunReport:
    """Raises Stop where it cannot begin or go on; then what was done is kept in ``out``. OSError where the records
    cannot be written. ``at_once`` is put around work that awaits nothing for long."""
    clock = WallClock()
    own = _own_prices(endpoint)
    with at_once():
        mark = directory.fingerprint(tasks, endpoint, batch=batch, told=_telling(onlooker, f"looking at {tasks.name}"))
    routes = _routes(batch=batch).at(endpoint.base_url, _prices(endpoint))
    if not is_openai_url(endpoint.base_url):
        routes = routes.without_cache_keys()
    # Nothing is made in DIR before the endpoint has answered; a run that is over needs no endpoint.
    if not directory.check_free(out, mark, clock):
        await _check_endpoint(endpoint, routes, tasks, batch=batch)
    with directory.opened(out, mark, clock) as engine:
        contact = Contact(endpoint.base_url, onlooker.notice, partial(_is_waiting_for_batch, engine))
        async with _http_client(endpoint) as http_client:
            system = replace(_system(engine, endpoint, routes, contact, http_client), own_prices=own)
            if directory.finished_at(engine) is None:
                _tell_prices(system, endpoint, onlooker)
                engine.void_leases()
                directory.lift_rest(engine)
                await _work(system, engine, tasks, contact, onlooker)
                await sweep(system)
                await statement.ask(endpoint, engine)
        with at_once():
            report = _report(system, engine, tasks, out, onlooker)
    return report


def _is_waiting_for_batch(engine: Engine) -> bool:
    """Return whether the provider has a batch of this run, or may have one."""
    return any(row.state not in NOT_ASKED_FOR for row in engine.batches.active())


def _routes(*, batch: bool) -> Routes:
    routes = shipped_routes().without_reply_list()
    patient = routes.model_copy(
        update={
            # No function's end cuts a call short here: a slow answer that is paid for is waited for.
            "tiers": {
                tier: spec.model_copy(update={"call_timeout_s": routes.lanes.flex.call_timeout_s})
                for tier, spec in routes.tiers.items()
            },
            "batching": routes.batching.model_copy(update={"poll_max_s": POLL_MAX_S}),
            "retries": routes.retries.model_copy(update={"batch_base_s": RETRY_BATCH_S}),
        }
    )
    return patient if batch else patient.without_batch()


def _own_prices(endpoint: Endpoint) -> Mapping[str, PriceTable]:
    """Return the price table that the command names, by its path."""
    if endpoint.prices in (None, OPENAI_PRICES, NO_PRICES):
        return {}
    path = str(endpoint.prices)
    try:
        return {path: own_prices(path)}
    except ConfigError as error:
        raise usage(f"--prices: {error}") from None


def _prices(endpoint: Endpoint) -> Prices:
    match endpoint.prices:
        case "openai" | "none" | None as known:
            return known
        case path:
            return OwnPrices(path=path)


def _tell_prices(system: System, endpoint: Endpoint, onlooker: Onlooker) -> None:
    """Say at the start that the receipt will have no dollars, while it can still be helped."""
    if endpoint.prices is None and system.seller(next(iter(system.routes.providers))).source.table == NO_PRICES:
        onlooker.notice(
            f"it is not known at what prices {endpoint.base_url} sells: nothing is priced, and nothing is saved on the "
            "receipt. Where it bills as OpenAI does, give another --out and --prices openai; elsewhere --prices FILE"
        )


def _http_client(endpoint: Endpoint) -> httpx2.AsyncClient:
    try:
        return build_http_client(endpoint.address)
    except ConfigError as error:
        raise usage(str(error)) from None


async def _check_endpoint(endpoint: Endpoint, routes: Routes, tasks: Path, *, batch: bool) -> None:
    async with _http_client(endpoint) as http_client:
        client = build_client(base_url=endpoint.address, api_key=endpoint.api_key, http_client=http_client)
        able = await has_batches(OpenAIBatches(client, WallClock()), endpoint, wanted=batch)
    if batch and not able and (count := _batchable(tasks, routes)):
        hint = "" if endpoint.base_url.endswith("/v1") else " (most base URLs end in /v1: does this one?)"
        raise usage(
            f"{endpoint.base_url} has no Batch API{hint}, and {count} tasks of {tasks.name} are to be batched at half "
            "price: give --no-batch to have them answered on real-time lanes at their price"
        )


def _batchable(tasks: Path, routes: Routes) -> int:
    now, count = WallClock().now(), 0
    with tasks.open("rb") as file:
        for line in lines(file):
            try:
                count += accept(decode(line.content), origin="", sent_at=now, routes=routes).batchable
            except Refused:
                continue
    return count


def _system(
    engine: Engine, endpoint: Endpoint, routes: Routes, contact: Contact, http_client: httpx2.AsyncClient
) -> System:
    run_name = directory.deployment_of(engine)
    system = assemble(
        engine,
        clock=WallClock(),
        routes=routes,
        metrics=RunMetrics(contact.notice, contact.refuse_batches),
        deployment=run_name,
        base_url=endpoint.address,
        api_key=endpoint.api_key,
        http_client=http_client,
    )
    return replace(
        system,
        answers={name: WatchedAnswers(api, contact, run_name) for name, api in system.answers.items()},
        batch_apis={name: WatchedBatches(api, contact) for name, api in system.batch_apis.items()},
    )


async def _work(system: System, engine: Engine, tasks: Path, contact: Contact, onlooker: Onlooker) -> None:
    """Until every task has its end. Raises Stop; and, alone and not in a group, what else went wrong."""
    worker = Worker(system, PACE, lambda name: engine.queue(name).next_visible_at())
    feed = Feed(worker.system, engine, tasks)
    fed = asyncio.Event()

    async def feeding() -> None:
        more = True
        while more:
            more = feed.step()
            await asyncio.sleep(0)
        if feed.refused:
            onlooker.notice(_refused(feed.refused, next(refusals(engine))))
        fed.set()
        worker.no_more()

    def look() -> Progress:
        return seen(system, engine, feed, contact, fed=fed.is_set())

    [probe, *_] = system.batch_apis.values()
    try:
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(contact.watch(probe.supported)),
                group.create_task(_show(look, onlooker)),
            ]
            group.create_task(feeding())
            await worker.run(flush=True)
            for task in beside:
                task.cancel()
    except BaseExceptionGroup as failures:
        cause = _cause(failures)
        if isinstance(cause, Halted):
            directory.rest_until_repeated(engine)
            raise Stop(
                f"{_refusal(cause, contact.base_url)}; nothing is lost: mend it and repeat the command"
            ) from None
        raise cause from None


def _refusal(cause: Halted, base_url: str) -> str:
    """Say what the provider refuses. A 404 to every call mostly means a wrong base URL."""
    reason = str(cause)
    if reason.startswith(NO_BATCH):
        return f"the provider takes no batch ({reason.removeprefix(NO_BATCH)})"
    hint = f"; does {base_url} end as it should (most end in /v1)?" if reason.startswith(_NO_SUCH) else ""
    return f"the provider refuses the account ({reason}){hint}"


def _cause(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first that speaks for itself: one that ends the command on purpose before all others."""
    leaves = list(_leaves(failures))
    return next((leaf for leaf in leaves if isinstance(leaf, Stop | Halted | DiskFault)), leaves[0])


def _leaves(failure: BaseException) -> list[BaseException]:
    if isinstance(failure, BaseExceptionGroup):
        return [leaf for each in failure.exceptions for leaf in _leaves(each)]
    return [failure]


async def _show(look: Callable[[], Progress], onlooker: Onlooker) -> NoReturn:
    while True:
        onlooker.progress(look())
        await asyncio.sleep(PROGRESS_S)


def _refused(count: int, first: Mapping[str, Any]) -> str:
    lines = (
        "1 line is no valid task and was refused:" if count == 1 else f"{count} lines are no valid tasks; the first:"
    )
    return f"{lines} line {first['line']}, {first['error']['code']}: {first['error']['message']}"


def _report(system: System, engine: Engine, tasks: Path, out: Path, onlooker: Onlooker) -> RunReport:
    """Write the records and note that the run is over. A run that was over before keeps its time."""
    rows = sum(engine.tasks.counts().values())

    def tell(what: str, whole: int = rows) -> Tick:
        tick = count(1)
        told = _telling(onlooker, what)
        return lambda: told(next(tick), whole)

    # A name need not be UTF-8, and a report is.
    title = f"lowtide run {os.fsencode(tasks.name).decode(errors='replace')}"
    # Once for the figures, once for the checks.
    report = report_of(system, engine, title, statement.billed(engine), tell("adding up", 2 * rows))
    report = replace(report, finished_at=directory.finished_at(engine) or report.finished_at)
    write_outputs(system, engine, out, report, lambda name: tell(f"writing {name}"))
    directory.finish(engine, report.finished_at)
    return report


def _telling(onlooker: Onlooker, what: str) -> Callable[[int, int], None]:
    """Report work on files, as often as progress on tasks."""
    told_at = 0.0

    def told(done: int, whole: int) -> None:
        nonlocal told_at
        if (now := time.monotonic()) - told_at >= PROGRESS_S:
            told_at = now
            onlooker.progress(Progress(fed=True, working=Working(what, done, whole)))

    return told
