"""What a run costs the disk: counted, because seconds depend on the machine."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

from commands import receipt, task, write_tasks

from lowtide.adapters.clock import WallClock
from lowtide_local.engine.database import Database
from lowtide_local.run.command import run
from lowtide_local.run.endpoint import Endpoint
from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.testing import on_a_socket

KINDS = ("live_chat_response", "email_draft", "meeting_summary", "content_generation", "data_enrichment")
TASKS = 600
LOOKS_AROUND = (
    "SELECT count(",
    "SELECT min(visible_at)",
    "SELECT id, tenant FROM messages",
    "SELECT state, count(*) FROM rows",
    "SELECT body FROM rows WHERE kind = ? AND active",
    "BEGIN",
    "COMMIT",
)
"""What is asked as often as time passes: how deep a queue is, what is visible, how the batches stand. (A transaction's
ends are counted as commits.)"""


class Nobody:
    def progress(self, progress):
        pass

    def notice(self, text):
        pass


def test_a_run_costs_the_disk_less_than_two_transactions_and_eight_statements_a_task(tmp_path, monkeypatch):
    """Measured for 600 tasks: 1.2 and 6.9. The commits include the shared pace's write a second."""
    commits, statements = [], []
    transaction, execute = Database.transaction, Database.execute

    @contextmanager
    def counted(database):
        if not database._depth:
            commits.append(1)
        with transaction(database):
            yield

    def noted(database, statement, parameters=()):
        if not statement.startswith(LOOKS_AROUND):
            statements.append(statement)
        return execute(database, statement, parameters)

    monkeypatch.setattr(Database, "transaction", counted)
    monkeypatch.setattr(Database, "execute", noted)
    tasks = write_tasks(
        tmp_path / "tasks.jsonl", [task(f"t{n}", KINDS[n % len(KINDS)], prompt=f"Number {n}.") for n in range(TASKS)]
    )
    with on_a_socket(SimulatedProvider(Scenario(), WallClock())) as url:
        asyncio.run(run(tasks, tmp_path / "out", Endpoint(url, ""), batch=True, onlooker=Nobody()))
    assert receipt(tmp_path / "out")["answered"] == TASKS
    assert len(commits) < 2 * TASKS
    assert len(statements) < 8 * TASKS
