"""What bench.memory measures, a phase to a process: feed, assemble, answer, collect, on the embedded engine.

The provider is a directory: it copies the input file it is given, and streams its answers from disk.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from random import Random
from typing import BinaryIO

import orjson

from lowtide.adapters.clock import WallClock
from lowtide.adapters.shipped import shipped_prices, shipped_routes
from lowtide.core.acceptance import accept
from lowtide.core.batches import BatchState, ProviderBatch, ProviderStatus
from lowtide.core.task import AcceptedTask, Endpoint
from lowtide.ports import SubmissionKey, System
from lowtide.steps.carry import send_tasks
from lowtide.steps.turns import assemble, collect_due
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from lowtide_local.run.assembly import on_engine

STATUS = Path("/proc/self/status")
"""Linux tells the present and the highest resident size of this very program there."""
SEED = 7
FED_AT_ONCE = 500


def resident_bytes(*, highest: bool) -> int:
    """Elsewhere getrusage knows the highest alone; macOS counts it in bytes."""
    if STATUS.exists():
        name = "VmHWM:" if highest else "VmRSS:"
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Quiet:
    """A ports.Metrics that keeps nothing."""

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        pass

    def measure(self, name: str, value: float, **dimensions: str) -> None:
        pass

    def log(self, event: str, **fields: object) -> None:
        pass


class DirectoryBatches:
    """A ports.BatchApi over a directory: ``input.jsonl`` came, ``output.jsonl`` and ``error.jsonl`` go."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def prepare(self, key: SubmissionKey, lines: BinaryIO) -> str | None:
        del key
        with (self._directory / "input.jsonl").open("wb") as file:
            shutil.copyfileobj(lines, file)
        return "input.jsonl"

    async def create(self, key: SubmissionKey, endpoint: Endpoint, input_ref: str | None) -> ProviderBatch:
        del key, endpoint
        return ProviderBatch(id="batch_1", status=ProviderStatus.IN_PROGRESS, input_ref=input_ref)

    async def find(self, key: SubmissionKey, input_ref: str | None) -> ProviderBatch | None:
        del key, input_ref
        return None

    async def get(self, provider_batch_id: str) -> ProviderBatch | None:
        refs = {"input_ref": "input.jsonl", "output_ref": "output.jsonl", "error_ref": "error.jsonl"}
        return ProviderBatch(id=provider_batch_id, status=ProviderStatus.COMPLETED, **refs)

    async def results(self, batch: ProviderBatch) -> AsyncIterator[bytes]:
        for ref in batch.result_refs:
            with (self._directory / str(ref)).open("rb") as file:
                for line in file:
                    yield line.removesuffix(b"\n")

    async def cancel(self, provider_batch_id: str) -> None:
        pass

    async def clean(self, refs: Sequence[str]) -> None:
        pass

    async def supported(self) -> bool:
        return True


def system_on(engine: Engine, directory: Path) -> System:
    """One batch takes it all: limits a little above the provider's own, so that the measured case is the worst one."""
    routes = shipped_routes().without_reply_list()
    providers = {name: spec.model_copy(update={"max_bytes": 300_000_000}) for name, spec in routes.providers.items()}
    batching = routes.batching.model_copy(update={"max_bytes": 300_000_000, "max_tokens": 1_000_000_000})
    routes = routes.model_copy(update={"providers": providers, "batching": batching})
    return on_engine(
        engine,
        deployment="bench",
        routes=routes,
        prices=shipped_prices(),
        clock=WallClock(),
        answers={},
        batch_apis=dict.fromkeys(routes.providers, DirectoryBatches(directory)),
        metrics=Quiet(),
    )


def feed(system: System, tasks: int, task_bytes: int) -> None:
    """Accepted tasks onto LOW, packed as ingest packs them."""
    made = _tasks(system, tasks, task_bytes)
    while some := list(islice(made, FED_AT_ONCE)):
        send_tasks(system, some)


def _tasks(system: System, tasks: int, task_bytes: int) -> Iterator[AcceptedTask]:
    now = system.clock.now()
    dice = Random(SEED)
    for number in range(tasks):
        text = dice.randbytes(task_bytes // 2).hex()
        body = {"model": "gpt-6.1-terra", "messages": [{"role": "user", "content": text}], "max_completion_tokens": 500}
        request = {"url": "/v1/chat/completions", "body": body}
        message = {"task_id": f"task-{number}", "type": "content_generation", "request": request}
        yield accept(message, origin=f"feed {number}", sent_at=now, routes=system.routes)


def answer(directory: Path, output_bytes: int) -> None:
    """Output of that size in another order than the input's; one in fifty failed, one in a hundred is missing."""
    dice = Random(SEED)
    with (directory / "input.jsonl").open("rb") as lines:
        names = [orjson.loads(line)["custom_id"] for line in lines]
    dice.shuffle(names)
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    with (directory / "output.jsonl").open("wb") as output, (directory / "error.jsonl").open("wb") as error:
        for number, name in enumerate(names):
            body: dict[str, object] = {"error": {"code": "server_error", "message": "x" * 1000}}
            status, file = 500, error
            if number % 100 == 1:
                continue
            if number % 50:
                text = dice.randbytes(output_bytes // len(names) // 2).hex()
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                body = {"id": name, "model": "gpt-6.1-terra", "choices": [choice], "usage": usage}
                status, file = 200, output
            response = {"status_code": status, "request_id": name, "body": body}
            line = {"id": f"line_{number}", "custom_id": name, "response": response, "error": None}
            file.write(orjson.dumps(line) + b"\n")


async def collect(system: System, turn_s: float | None) -> int:
    """Turns until the batch is done, each of ``turn_s`` where that is given. Returns how many."""
    turns = 1
    while True:
        stop_at = None if turn_s is None else system.clock.now() + timedelta(seconds=turn_s)
        if await collect_due(system, stop_at=stop_at) == 1:
            return turns
        turns += 1


def main() -> None:
    """``phase directory tasks task_bytes output_bytes turn_s``: one JSON line with what it took, in bytes."""
    baseline = resident_bytes(highest=False)
    phase, directory, *numbers = sys.argv[1:]
    tasks, task_bytes, output_bytes, turn_s = map(int, numbers)
    report: dict[str, object] = {}
    with Engine.open(Path(directory), WallClock(), Durability.RELAXED) as engine:
        system = system_on(engine, Path(directory))
        match phase:
            case "feed":
                feed(system, tasks, task_bytes)
            case "assemble":
                report["tasks"] = asyncio.run(assemble(system, flush=True)).drained.tasks
                [batch] = system.batches.active()
                report["batch"] = {"requests": batch.requests, "bytes": batch.bytes}
                if batch.state is not BatchState.RUNNING:
                    raise AssertionError(f"the batch is {batch.state}")
            case "answer":
                answer(Path(directory), output_bytes)
                report["bytes"] = (Path(directory) / "output.jsonl").stat().st_size
            case "collect":
                report["turns"] = asyncio.run(collect(system, turn_s or None))
                report["tasks"] = engine.tasks.counts()
            case _:
                raise SystemExit(f"no phase {phase}")
    report |= {"baseline": baseline, "peak": resident_bytes(highest=True)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
