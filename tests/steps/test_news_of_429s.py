"""Each invocation tells what its calls came to, or a row would hear of 429s alone."""

from __future__ import annotations

import pytest

from lowtide.core.pace import born
from lowtide.core.pace_events import CallEnd, Ceiling, Sign
from lowtide.core.pace_rows import Trial
from lowtide.steps.shared_pace import SharedPace
from tests.steps.one_tier import begin
from tests.steps.test_account_or_item import tasks
from tests.sweep.world import Life

TRIAL = Trial(share=0.1, calls=30, rate=300.0, guessed=False)


@pytest.mark.parametrize(
    ("told", "sign", "expectant"),
    [
        ({"refused": 1, "begun": 5}, Sign.ANSWERED, True),
        ({"trial": TRIAL}, Sign.ANSWERED, True),
        ({"stray": 0.2}, Sign.LIMITED, True),
        ({"stray": 0.2}, Sign.ANSWERED, False),
        ({}, Sign.ANSWERED, False),
    ],
)
def test_an_answer_is_news_while_429s_are_counted_and_a_429_always_is(tmp_path, told, sign, expectant):
    world = begin(tmp_path, *tasks(1))

    async def story(life: Life) -> None:
        now = life.system.clock.now()
        shared = SharedPace(life.system, "openai gpt-5-mini", Ceiling())
        shared.row = born(shared.key, now).model_copy(update=told)
        shared.note(CallEnd(sign, now, "call"))
        assert shared.expectant is expectant

    world.live(story)
