"""A lane is chosen by what the model's shared row says of its lanes, whichever process heard it."""

from __future__ import annotations

from datetime import timedelta

from lowtide.core.lane_past import ENOUGH
from lowtide.core.lanes import Lane
from lowtide.core.pace_events import CallEnd, Sign, Tell
from lowtide.core.records import Status
from lowtide.core.tiers import Tier
from lowtide.ports import Change
from lowtide.steps.gate import Gate
from tests.steps.one_tier import answered, begin, slow
from tests.sweep.world import Life, task

MODEL = "gpt-5-mini"
KEY = f"openai {MODEL}"


def summary(name: str, **fields: object) -> dict[str, object]:
    return task(name, "meeting_summary", model=MODEL, **fields)


def heard(life: Life, *ends: CallEnd) -> None:
    """Another process told this to the row."""
    life.system.paces.apply([Change(KEY, Tell(KEY, ends), None)], life.system.clock.now())


def flex_quick(life: Life) -> CallEnd:
    now = life.system.clock.now()
    return CallEnd(Sign.ANSWERED, now, "other", flex=True, count=2, seconds=(5.0, 5.0))


def flex_rests(life: Life, seconds: float) -> CallEnd:
    now = life.system.clock.now()
    return CallEnd(Sign.NO_CAPACITY, now, "other", retry_after_s=seconds, flex=True)


def test_what_calls_took_is_on_the_row_and_in_the_reason_of_the_next(tmp_path):
    first = [summary(f"t{number}") for number in range(ENOUGH)]
    world = begin(tmp_path, *first, scenario=slow(4))

    async def story(life: Life) -> None:
        await answered(life, Tier.NORMAL)
        [row] = [row for row in life.engine.paces.scan() if not row.of_account]
        assert row.on_flex.seconds
        assert all(4 <= each < 6 for each in row.on_flex.seconds)
        assert row.on_default.seconds == ()
        heard(life, *[flex_quick(life)] * ENOUGH)

    world.live(story)
    world.publish(summary("next"))

    async def another_process(life: Life) -> None:
        await answered(life, Tier.NORMAL)
        assert "flex at half price, nine in ten within 5 s, 60 min left" in life.record("next").route

    world.live(another_process)


def test_calls_of_tasks_that_flex_never_serves_say_nothing_of_default(tmp_path):
    world = begin(tmp_path, *(task(f"t{number}", "email_draft", "[sim:500-once]", model=MODEL) for number in range(3)))

    async def story(life: Life) -> None:
        await answered(life)
        [row] = [row for row in life.engine.paces.scan() if not row.of_account]
        assert row.answers > 0
        assert (row.on_default.seconds, row.on_flex.seconds) == ((), ())

    world.live(story)


def test_a_new_process_that_is_told_that_flex_rests_too_long_calls_on_default_at_once(tmp_path):
    world = begin(tmp_path, summary("near", deadline_seconds=450), summary("far", deadline_seconds=3_000))

    async def story(life: Life) -> None:
        heard(life, flex_rests(life, 60))
        life.accept()
        await life.answer(Tier.NORMAL)
        near = life.record("near")
        assert (near.status, near.lane, near.attempts) == (Status.ANSWERED, Lane.DEFAULT, 1)
        assert "flex has no capacity now and 7 min are left" in near.route
        assert life.engine.tasks.counts() == {"answered": 1}  # the other has time, and waits unclaimed
        await life.pass_time(100)
        await life.answer(Tier.NORMAL)
        assert life.record("far").lane is Lane.FLEX

    world.live(story)


def test_a_call_that_was_let_through_for_default_does_not_disturb_a_flex_that_rests(tmp_path, monkeypatch):
    world = begin(tmp_path, summary("t", deadline_seconds=300))

    async def unheard(*_: object) -> None:
        """The row moves on just after it was looked at."""

    monkeypatch.setattr(Gate, "look_ahead", unheard)

    async def story(life: Life) -> None:
        # By what the row says there is time to wait for flex; who did not hear of that asked for default.
        heard(life, *[flex_quick(life)] * ENOUGH)
        heard(life, flex_rests(life, 20))
        life.accept()
        await life.answer(Tier.NORMAL)
        assert life.record("t").lane is Lane.DEFAULT
        [row] = [row for row in life.engine.paces.scan() if not row.of_account]
        assert row.flex_refused == 1
        assert row.flex_not_before is not None
        assert row.flex_not_before - life.system.clock.now() <= timedelta(seconds=20)

    world.live(story)
