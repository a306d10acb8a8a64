"""Do the books hold: every accepted task one record, the ledger their sum, every billed line accounted for."""

from __future__ import annotations

from lowtide.core.tasks import SETTLED, TaskState
from lowtide_local.run.reconcile import BilledLine, checks
from lowtide_local.run.records import figures
from tests.sweep.world import Life, World


def faults(world: World) -> list[str]:
    """When all work has ended: what does not hold, in a line each."""

    async def look(life: Life) -> list[str]:
        world.provider.progress()
        billed = [BilledLine.of(line) for line in world.provider.billing()["data"]]
        receipt = figures(life.system, life.engine).receipt
        found = [
            f"{check.name}: {check.detail}"
            for check in checks(life.system, life.engine, receipt, billed)
            if not check.held
        ]
        ended = (*SETTLED, TaskState.TOMBSTONE)
        found += [f"{row.task_id} is {row.state}" for row in life.engine.tasks.scan() if row.state not in ended]
        found += [f"{file['filename']} is left at the provider" for file in world.provider.state()["files"]]
        return found

    return world.live(look)
