"""Hundreds of garbled files through the whole of drain, seal, submit and collect, on the embedded engine."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import pytest

from lowtide.core.batches import TERMINAL, ProviderBatch, ProviderStatus
from lowtide.core.errors import AccountRefused
from lowtide.core.receipts import Receipt
from lowtide.core.records import Status
from lowtide.core.task import custom_id
from lowtide.core.tasks import SETTLED
from lowtide.core.tiers import Tier
from lowtide.ports import Outgoing
from lowtide_local.run.records import settled
from tests.garbled.files import answer, line_of, output_file
from tests.sweep.world import Life, World, task

COLLECTED = 400
CHUNKS = 4
FEW_HALTS = 2
"""Files in a hundred that speak of the account: not one line is answered, and one is refused without a reason. Other
batches wait then, so that more than a hundred turns are needed."""
SEED = os.environ.get("GARBLED_SEED", "20260306")
ENDS = sorted(TERMINAL - {ProviderStatus.FAILED})


class Garbling:
    """A ports.BatchApi whose batches end at once, with a garbled file; once ``honest``, with an answer to every line.

    Late and foreign lines among them: of attempts and tasks of batches before it.
    """

    def __init__(self, dice: Random) -> None:
        self.honest = False
        self.told = 0
        self._dice = dice
        self._inputs: list[list[str]] = []
        self._made: dict[str, ProviderBatch] = {}

    @property
    def sent(self) -> set[str]:
        """Every ``custom_id`` of every batch."""
        return {each for ids in self._inputs for each in ids}

    async def prepare(self, key, lines) -> str:
        lines.seek(0)
        self._inputs.append([json.loads(line)["custom_id"] for line in lines])
        return str(len(self._inputs) - 1)

    async def create(self, key, endpoint, input_ref) -> ProviderBatch:
        status = ProviderStatus.COMPLETED if self.honest else self._dice.choice(ENDS)
        made = ProviderBatch(id=f"batch_{input_ref}", status=status, input_ref=input_ref)
        self._made[made.id] = made
        return made

    async def find(self, key, input_ref) -> None:
        return None

    async def get(self, provider_batch_id) -> ProviderBatch | None:
        return self._made.get(provider_batch_id)

    async def results(self, batch: ProviderBatch) -> AsyncIterator[bytes]:
        number = int(batch.input_ref or 0)
        ids = self._inputs[number]
        if self.honest:
            for each in ids:
                yield json.dumps(line_of(each, 200, answer(each))).encode()
            return
        self.told += 1
        earlier = [each for sent in self._inputs[max(0, number - 3) : number] for each in sent]
        strangers = [each for each in earlier if each not in ids] or ["nobody"]
        for line in output_file(self._dice, ids, strangers).lines:
            yield line

    async def clean(self, refs) -> None:
        pass


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_hundred_garbled_files_in_a_row_leave_each_task_with_one_record_of_its_own(tmp_path, chunk):
    world = World(tmp_path)
    dice = Random(f"{SEED} {chunk}")
    api = Garbling(dice)
    names = []
    halts: list[Exception] = []

    async def turn(life: Life) -> None:
        life.accept()
        await life.assemble()
        try:
            await life.collect()
        except* AccountRefused as refused:
            halts.extend(refused.exceptions)
        await life.pass_time(600)

    async def story(life: Life) -> None:
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        for number in range(2 * COLLECTED // CHUNKS):
            if api.told >= COLLECTED // CHUNKS:
                break
            fresh = [f"t{number}-{place}" for place in range(dice.randint(1, 5))]
            names.extend(fresh)
            life.system.intake.send([Outgoing(json.dumps(task(name, "content_generation"))) for name in fresh])
            await turn(life)
        assert api.told >= COLLECTED // CHUNKS
        assert len(halts) <= FEW_HALTS
        api.honest = True
        await life.finish()
        while life.waiting(Tier.NORMAL):  # what waited too long for the account is rescued from its part
            await life.answer(Tier.NORMAL)
            await life.pass_time(60)
        audit(life)

    def audit(life: Life) -> None:
        rows = {row.task_id: row for row in life.engine.tasks.scan()}
        assert rows.keys() == set(names), f"GARBLED_SEED={SEED}"
        assert {row.state for row in rows.values()} <= SETTLED
        found = list(settled(life.system, life.engine))
        assert sorted(document.record.task_id for _, document in found) == sorted(names)
        for row, document in found:
            body = document.record.response.body if document.record.response is not None else None
            whose = body.get("id") if isinstance(body, dict) else None
            if isinstance(whose, str) and whose.removeprefix("for ") in api.sent:
                assert whose == f"for {custom_id('default', row.task_id, row.attempt)}", f"GARBLED_SEED={SEED}"
        receipts = Receipt.sum(
            Receipt.of(document.record, repaid=row.repaid, premium_usd=document.premium_usd) for row, document in found
        )
        assert life.engine.ledger.total() == receipts
        ends = [row.state for row in rows.values()]
        assert {Status.ANSWERED.value, Status.DEAD.value} == set(ends)
        assert max(row.attempt for row in rows.values()) > 1

    world.live(story)
