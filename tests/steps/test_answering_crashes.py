"""A consumer that dies: its calls are taken over, what it owed is sent, and nothing is asked twice without a count."""

from __future__ import annotations

import pytest

from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import Outgoing
from lowtide_local.engine.crashes import Crash, Side
from tests.steps.one_tier import answered, begin
from tests.sweep.world import Dies, Life, later, task

CALL = "answers.openai.answer"


def test_a_call_in_flight_when_its_process_died_is_taken_over_counted_as_repaid_and_uses_up_no_try(tmp_path):
    world = begin(tmp_path, task("a", "email_draft", "[sim:500-twice]"), voids=False)
    with pytest.raises(Crash):
        world.live(answered, Dies(CALL, Side.AFTER))
    later(world.clock, 300)

    async def after(life: Life) -> None:
        await answered(life)
        row = life.row("a")
        assert (row.state, row.attempt, row.repaid, row.strikes.failures) == (TaskState.ANSWERED, 3, 1, 1)
        assert life.engine.ledger.total().repaid == 1

    world.live(after)


def test_a_claim_that_is_still_good_is_left_alone_and_its_message_is_not_deleted(tmp_path):
    world = begin(tmp_path, task("a", "email_draft"), voids=False)
    with pytest.raises(Crash):
        world.live(answered, Dies(CALL, Side.BEFORE))

    async def after(life: Life) -> None:
        claimed_until = life.row("a").claimed_until
        assert claimed_until is not None
        copy = Outgoing(body=_body(life))
        life.system.tiers[Tier.HIGH].send([copy])
        report = await life.answer(Tier.HIGH)
        assert (len(report.done), len(report.again)) == (0, 1)
        assert world.provider.billed == []
        await answered(life)
        assert life.row("a").attempt == 2
        assert life.engine.ledger.total().duplicates == 0, "a copy of the same delivery is no duplicate"

    world.live(after)
    assert len(world.provider.billed) == 1


def _body(life: Life) -> str:
    [(body,)] = life.engine._database.execute("SELECT body FROM messages WHERE queue = 'HIGH'").fetchall()
    return body


@pytest.mark.parametrize("call", ["replies.send", "ledger.put", "high.delete"])
@pytest.mark.parametrize("side", list(Side))
def test_a_crash_after_the_answer_is_settled_still_sends_what_is_owed_and_asks_nothing_again(tmp_path, call, side):
    world = begin(tmp_path, task("a", "email_draft", reply_to="https://queue/replies"))
    with pytest.raises(Crash):
        world.live(answered, Dies(call, side))
    later(world.clock, 300)

    async def after(life: Life) -> None:
        await answered(life)
        assert life.engine.ledger.total().tasks == 1
        assert {url for url, _ in world.replies.sent} == {"https://queue/replies"}
        assert len({body for _, body in world.replies.sent}) == 1

    world.live(after)
    assert len(world.provider.billed) == 1
