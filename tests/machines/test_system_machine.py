"""Random days of the whole system, beside a model that only knows who was accepted and how each may end.

The deployed steps on the embedded engine, against a simulated provider; each rule is a life of the process, and some
lives end at a call.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lowtide.core.receipts import Receipt
from lowtide.core.tasks import SETTLED
from lowtide.core.tiers import Tier
from lowtide.steps.cancel import cancel_tasks
from lowtide_local.engine.crashes import Crash, CrashPlan, Side
from lowtide_local.engine.worker import REAL_TIME
from lowtide_local.run.records import settled
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from tests.sweep.world import Life, World, later, task

WEATHER = Scenario(
    batch=BatchWeather(
        min_s=300,
        max_s=300,
        list_lag_s=30,
        shuffled=True,
        mishaps=(
            Mishap(kind=MishapKind.REPLY_LOST, batches=(1, 4)),
            Mishap(kind=MishapKind.EXPIRES, batches=(2,)),
            Mishap(kind=MishapKind.TOKEN_LIMIT, batches=(3,)),
            Mishap(kind=MishapKind.DUPLICATE_LINE),
        ),
    )
)
KINDS = st.sampled_from(["content_generation", "content_generation", "email_draft", "meeting_summary"])
TEXTS = st.sampled_from(["Hello.", "[sim:refuse]", "[sim:500-once]", "[sim:missing-once]", "[sim:500]"])
MAY_END = {"[sim:refuse]": "dead", "[sim:500]": "dead"}
"""Anything else is answered."""
NAMES = st.integers(0, 5).map("t{}".format)
CRASHES = st.none() | st.builds(CrashPlan, st.integers(1, 25), st.sampled_from(Side))


class SystemMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(mkdtemp())
        self.world = World(self.directory, WEATHER)
        self.accepted: dict[str, set[str]] = {}
        """How each may end."""
        self.contents: dict[str, tuple[str, str]] = {}
        self.ended: dict[str, str] = {}

    @rule(name=NAMES, kind=KINDS, text=TEXTS)
    def published(self, name: str, kind: str, text: str) -> None:
        """A task, or the same once more: each name has one content."""
        kind, text = self.contents.setdefault(name, (kind, text))
        self.accepted.setdefault(name, {MAY_END.get(text, "answered")})
        self.world.publish(task(name, kind, text))

    @rule(name=NAMES)
    def cancelled(self, name: str) -> None:
        if name in self.accepted and name not in self.ended:
            self.accepted[name].add("cancelled")

            async def order(life: Life) -> None:
                cancel_tasks(life.system, [("default", name)])

            self.world.live(order)

    @rule(seconds=st.sampled_from([1, 60, 400, 4_000]))
    def nobody_is_at_work(self, seconds: int) -> None:
        later(self.world.clock, seconds)

    @rule(crash=CRASHES)
    def ingest_runs(self, crash: CrashPlan | None) -> None:
        async def turn(life: Life) -> None:
            life.accept()

        self.lives(turn, crash)

    @rule(crash=CRASHES, tier=st.sampled_from(REAL_TIME))
    def a_consumer_runs(self, crash: CrashPlan | None, tier: Tier) -> None:
        async def turn(life: Life) -> None:
            await life.answer(tier)

        self.lives(turn, crash)

    @rule(crash=CRASHES)
    def the_assembler_runs(self, crash: CrashPlan | None) -> None:
        self.lives(Life.assemble, crash)

    @rule(crash=CRASHES)
    def the_poller_runs(self, crash: CrashPlan | None) -> None:
        async def turn(life: Life) -> None:
            await life.collect()

        self.lives(turn, crash)

    def lives(self, turn, crash: CrashPlan | None) -> None:
        with suppress(Crash):
            self.world.live(turn, CrashPlan(crash.at, crash.side) if crash is not None else None)

    @invariant()
    def who_has_ended_has_ended_as_it_may_and_stays_so(self) -> None:
        async def look(life: Life) -> None:
            for row in life.engine.tasks.scan():
                assert row.task_id in self.accepted
                if row.state in SETTLED:
                    assert row.state.value in self.accepted[row.task_id]
                    assert self.ended.setdefault(row.task_id, row.state.value) == row.state.value

        self.world.live(look)

    def teardown(self) -> None:
        """The rest of the day, without a crash."""
        try:
            assert self.world.work()
            self.who_has_ended_has_ended_as_it_may_and_stays_so()
            assert self.ended.keys() == self.accepted.keys()
            self.world.live(self.audit)
        finally:
            shutil.rmtree(self.directory)

    async def audit(self, life: Life) -> None:
        found = list(settled(life.system, life.engine))
        assert sorted(document.record.task_id for _, document in found) == sorted(self.accepted)
        receipts = Receipt.sum(Receipt.of(document.record, repaid=row.repaid) for row, document in found)
        total = life.engine.ledger.total()
        assert total.model_copy(update={"duplicates": 0}) == receipts
        self.world.provider.progress()
        answered = sum(end == "answered" for end in self.ended.values())
        assert answered <= len(self.world.provider.billed) <= answered + receipts.repaid
        assert self.world.provider.state()["files"] == []


TestSystem = SystemMachine.TestCase
TestSystem.settings = settings(max_examples=12, stateful_step_count=14, deadline=None, derandomize=True)
