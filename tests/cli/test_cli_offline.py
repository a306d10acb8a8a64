"""The network goes away while a batch is at the provider, as where a laptop sleeps."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
from commands import (
    QUICK,
    batch_line,
    finish,
    patched,
    receipt,
    records,
    start,
    task,
    wait_for_line,
    write_tasks,
)
from doors import before

from lowtide.core.errors import Unreachable
from lowtide_local.cli.stop import ExitCode, Stop
from lowtide_local.run import contact
from lowtide_local.run.contact import SILENCE_S, SILENCE_WITH_BATCH_S, Contact

IMPATIENT = patched(
    "import lowtide_local.run.contact as contact, lowtide_local.cli.progress as progress\n"
    "contact.SILENCE_S, contact.PROBE_S, progress.EVERY_S = 1.0, 0.1, 0.1"
)
"""The command, which tells of a batch as soon as the provider has named it."""


def test_with_a_batch_open_the_run_waits_until_the_provider_is_back(simulator, tmp_path):
    provider = simulator(QUICK.replace("min_s = 0.1", "min_s = 3").replace("max_s = 0.3", "max_s = 3"))
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])
    with before(provider.root) as (port, _):
        url = f"http://127.0.0.1:{port}/v1"
        process = start("run", tasks, "--out", tmp_path / "out", "--base-url", url, program=IMPATIENT)
        wait_for_line(process, "batch batch_")
    told = wait_for_line(process, "cannot reach")
    assert "trying for 24 h, because a batch is open there" in told
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(4 * 1.0)  # without a batch it would have ended after the first of these seconds
    with before(provider.root, port=port):
        ended = finish(process)
    assert ended.code == 0
    assert f"{url} answers again" in ended.err
    assert set(records(tmp_path / "out")) == {"a", "b"}
    assert receipt(tmp_path / "out")["repaid"] == 0


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def now(monkeypatch):
    """Each look at the clock is ten seconds after the one before."""
    clock = SimpleNamespace(s=0.0)

    def monotonic():
        clock.s += 10.0
        return clock.s

    monkeypatch.setattr(contact.time, "monotonic", monotonic)
    monkeypatch.setattr(contact, "PROBE_S", 0.0)
    return clock


async def gone():
    raise Unreachable("no route to host")


@pytest.mark.anyio
@pytest.mark.parametrize(("batch_open", "at_most_s"), [(False, SILENCE_S), (True, SILENCE_WITH_BATCH_S)])
async def test_silence_ends_a_run_after_a_minute_and_with_a_batch_open_after_a_day(now, batch_open, at_most_s):
    told = []
    watched = Contact("http://provider/v1", told.append, lambda: batch_open)
    watched.missed("connection refused")
    with pytest.raises(Stop, match="repeat the command when it is back") as stopped:
        await watched.watch(gone)
    assert at_most_s < now.s <= at_most_s + 100.0
    assert stopped.value.code is ExitCode.FAILURE
    assert [line.startswith("cannot reach http://provider/v1 (connection refused)") for line in told] == [True]


@pytest.mark.anyio
async def test_when_the_last_batch_is_over_a_minute_of_silence_ends_the_run(now):
    watched = Contact("http://provider/v1", lambda _: None, lambda: now.s < 5_000.0)
    watched.missed("connection refused")
    with pytest.raises(Stop, match="no contact with http://provider/v1 for"):
        await watched.watch(gone)
    assert 5_000.0 <= now.s < 5_100.0
