"""What outlives a process, and who may hold a directory."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lowtide.core.batches import Lease, Start
from lowtide.core.errors import LowtideError
from lowtide.core.parts import Join, Open, PartVerdict
from lowtide.core.receipts import Receipt
from lowtide.core.tasks import Accept, Verdict
from lowtide.ports import Change, Outgoing
from lowtide_local.engine.database import DirectoryInUse, DirectoryUnusable, Durability
from lowtide_local.engine.engine import Engine
from tests.contract.cases import LATER, NOW, SOON, batch, claim_call, claim_part, on, part, task
from tests.contract.conftest import StillClock


def fill(engine: Engine) -> None:
    engine.tasks.apply(on(task().key, Accept(task())), NOW)
    engine.queue("low").send([Outgoing("one")])
    engine.objects.put("parts/p_1", b"line\n")
    engine.ledger.put([("message/1", Receipt(tasks=1, answered=1))])
    engine.meta.set("fingerprint", "abc")


def assert_full(engine: Engine) -> None:
    assert engine.tasks.counts() == {"queued": 1}
    assert [message.body for message in engine.queue("low").receive(9, visibility_s=0)] == ["one"]
    assert engine.objects.get("parts/p_1") == b"line\n"
    assert engine.ledger.total().answered == 1
    assert engine.meta.get("fingerprint") == "abc"


@pytest.mark.parametrize("durability", list(Durability))
def test_everything_is_there_again_when_the_directory_is_opened_again(
    directory: Path, clock: StillClock, durability: Durability
) -> None:
    with Engine.open(directory, clock, durability) as engine:
        fill(engine)
    with Engine.open(directory, clock, durability) as engine:
        assert_full(engine)


def test_everything_committed_survives_a_real_kill(directory: Path, clock: StillClock) -> None:
    program = f"""
import os, signal
from pathlib import Path
from lowtide_local.engine.engine import Engine
from tests.contract.cases import NOW
from tests.contract.conftest import StillClock
from tests.engine.test_durable_state import fill
engine = Engine.open(Path({str(directory)!r}), StillClock(NOW))
fill(engine)
with engine.transaction():
    engine.meta.set("fingerprint", "never committed")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -9
    with Engine.open(directory, clock) as engine:
        assert_full(engine)


def test_a_directory_in_use_is_refused_until_it_is_free(directory: Path, clock: StillClock) -> None:
    with Engine.open(directory, clock), pytest.raises(DirectoryInUse, match="in use"):
        Engine.open(directory, clock)
    Engine.open(directory, clock).close()


def test_a_directory_in_use_by_another_process_is_refused(engine: Engine, directory: Path) -> None:
    program = f"""
from pathlib import Path
from lowtide_local.engine.database import DirectoryInUse
from lowtide_local.engine.engine import Engine
from tests.contract.cases import NOW
from tests.contract.conftest import StillClock
try:
    Engine.open(Path({str(directory)!r}), StillClock(NOW))
except DirectoryInUse:
    raise SystemExit(7)
"""
    other = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[2])
    assert other.returncode == 7


def test_being_refused_leaves_the_others_unfinished_objects_alone(
    engine: Engine, directory: Path, clock: StillClock
) -> None:
    unfinished = directory / "objects" / ".unfinished" / "0"
    unfinished.write_bytes(b"half")
    with pytest.raises(DirectoryInUse):
        Engine.open(directory, clock)
    assert unfinished.exists()


def test_closing_twice_is_closing(engine: Engine) -> None:
    engine.close()
    engine.close()


def test_the_errors_of_a_directory_are_lowtides() -> None:
    assert issubclass(DirectoryInUse, LowtideError)
    assert issubclass(DirectoryUnusable, LowtideError)


def test_another_versions_state_is_refused_and_left_alone(directory: Path, clock: StillClock) -> None:
    with Engine.open(directory, clock) as engine:
        fill(engine)
    stranger = sqlite3.connect(directory / "state.db")
    stranger.execute("PRAGMA user_version = 99")
    stranger.close()
    with pytest.raises(DirectoryUnusable, match="schema 99"):
        Engine.open(directory, clock)
    stranger = sqlite3.connect(directory / "state.db")
    assert stranger.execute("SELECT count(*) FROM rows").fetchone() == (1,)
    stranger.close()


def test_a_file_that_is_no_database_is_refused(directory: Path, clock: StillClock) -> None:
    directory.mkdir()
    (directory / "state.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DirectoryUnusable, match="use another directory"):
        Engine.open(directory, clock)


def test_a_transaction_holds_rows_messages_and_cursor_together(engine: Engine) -> None:
    with engine.transaction():
        fill(engine)
    assert_full(engine)


@contextmanager
def failing(engine: Engine) -> Iterator[None]:
    """A transaction that fails at its end."""
    with pytest.raises(RuntimeError), engine.transaction():  # noqa: PT012  # failing late is the point
        yield
        raise RuntimeError


def test_a_transaction_that_fails_leaves_nothing(engine: Engine) -> None:
    with failing(engine):
        fill(engine)
    assert engine.tasks.counts() == {}
    assert engine.queue("low").depth().visible == 0
    assert engine.ledger.total() == Receipt()
    assert engine.meta.get("fingerprint") is None


def test_an_inner_transaction_that_fails_takes_only_its_own_writes_along(engine: Engine) -> None:
    with engine.transaction():
        engine.meta.set("outer", "1")
        with failing(engine):
            engine.meta.set("inner", "1")
        engine.meta.set("outer", "2")
    assert (engine.meta.get("outer"), engine.meta.get("inner")) == ("2", None)


def test_an_outer_transaction_that_fails_takes_the_inner_ones_along(engine: Engine) -> None:
    with failing(engine), engine.transaction():
        engine.meta.set("inner", "1")
    assert engine.meta.get("inner") is None


def test_a_kill_inside_a_transaction_leaves_none_of_it_and_frees_the_directory(
    directory: Path, clock: StillClock
) -> None:
    engine = Engine.open(directory, clock)
    fill(engine)
    with pytest.raises(KeyboardInterrupt), engine.transaction():  # noqa: PT012  # the kill is the point
        engine.meta.set("fingerprint", "never committed")
        engine.kill()
        raise KeyboardInterrupt
    with Engine.open(directory, clock) as again:
        assert_full(again)


def test_a_killed_engine_takes_nothing_more(engine: Engine) -> None:
    engine.kill()
    with pytest.raises(sqlite3.ProgrammingError):
        engine.queue("low").send([Outgoing("one")])
    with pytest.raises(sqlite3.ProgrammingError):
        engine.meta.get("fingerprint")


def test_meta_forgets_nothing_and_replaces(engine: Engine) -> None:
    assert engine.meta.get("cursor") is None
    engine.meta.set("cursor", "1")
    engine.meta.set("cursor", "2")
    assert engine.meta.get("cursor") == "2"


def test_voiding_frees_what_the_dead_process_held(engine: Engine, clock: StillClock) -> None:
    called, staged = task(1), task(2)
    engine.tasks.apply(on(called.key, claim_call(called, until=LATER)) + on(staged.key, claim_part(staged)), NOW)
    engine.parts.apply(on("p_1", Open(part(lease_until=LATER))), NOW)
    engine.batches.apply(on("b_1", Start(batch()), Lease("the dead", LATER)), NOW)
    engine.queue("low").send([Outgoing("in hand"), Outgoing("delayed", delay_s=600)])
    engine.queue("low").receive(1, visibility_s=3600)
    clock.advance(1)

    engine.void_leases()

    now = clock.now()
    [taken] = engine.tasks.apply([Change(called.key, claim_call(called, "call-2", LATER))], now)
    assert taken.row is not None
    assert (taken.verdict, taken.row.attempt, taken.row.repaid) == (Verdict.APPLIED, 2, 1)
    [untouched] = engine.tasks.get([staged.key])
    assert untouched is not None
    assert untouched.rev == 1
    [joined] = engine.parts.apply([Change("p_1", Join("b_1"))], now)
    assert joined.verdict is PartVerdict.APPLIED
    [leased] = engine.batches.apply([Change("b_1", Lease("the living", LATER))], now)
    assert leased.changed
    [again] = engine.queue("low").receive(9, visibility_s=30)
    assert (again.body, again.receives) == ("in hand", 2)


def test_an_outdated_guess_does_not_survive_voiding(engine: Engine) -> None:
    """Voiding writes past the transitions, but under a new revision like every write."""
    called = task(1)
    [claimed] = engine.tasks.apply(on(called.key, claim_call(called, until=LATER)), NOW)
    engine.void_leases()
    [taken] = engine.tasks.apply([Change(called.key, claim_call(called, "call-2", LATER), seen=claimed.row)], SOON)
    assert taken.verdict is Verdict.APPLIED


def test_meta_scans_what_begins_with_a_prefix_in_the_order_of_names(engine: Engine) -> None:
    for name in ("refused/2", "refused/10", "refused", "refuse/9", "refused/1", "s"):
        engine.meta.set(name, name)
    assert list(engine.meta.scan("refused/")) == ["refused/1", "refused/10", "refused/2"]
    assert list(engine.meta.scan("none/")) == []
