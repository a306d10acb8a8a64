"""Those outside: replies, events and callbacks, whoever ended the task and however it ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lowtide.core.outward import EventKind, Failure, Success
from lowtide.core.tiers import Tier
from lowtide.steps.cancel import cancel_tasks
from lowtide.steps.redrive import redrive
from tests.steps.one_tier import answered
from tests.sweep.world import Awaited, Life, World, task

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REPLY_TO = "https://queue/replies"


def told(world: World) -> list[tuple[str, Any]]:
    return [(each.token, each.told) for each in world.callbacks.sent]


def failures(world: World) -> list[tuple[str, str]]:
    return [(token, told_.error) for token, told_ in told(world) if isinstance(told_, Failure)]


@pytest.mark.parametrize("kind", ["email_draft", "content_generation"])
def test_an_end_is_told_to_all_who_asked_on_either_path(tmp_path, kind):
    world = World(tmp_path)
    world.publish(Awaited(task("a", kind, reply_to=REPLY_TO, traceparent=TRACE), "token"))
    assert world.work()

    [reply] = world.replies.replies
    [event] = [each for each in world.events.sent if each.kind is EventKind.TASK]
    [(token, woken)] = told(world)
    assert isinstance(woken, Success)
    output = json.loads(woken.output)
    assert (token, output["task_id"], output["status"]) == ("token", "a", "answered")
    assert output["response"] == json.loads(reply.body)["response"]
    assert reply.id == event.id
    assert (reply.traceparent, event.traceparent, event.detail["traceparent"]) == (TRACE, TRACE, TRACE)
    [line] = [line for line in world.metrics.lines if line.event == "task_settled"]
    assert (line.fields["traceparent"], line.fields["status"]) == (TRACE, "answered")


def test_a_finished_batch_is_told_once_it_is_collected_with_what_became_of_its_lines(tmp_path):
    world = World(tmp_path)
    world.publish(task("a", "content_generation"), task("b", "content_generation", "[sim:refuse]"))
    assert world.work()
    [event] = [each for each in world.events.sent if each.kind is EventKind.BATCH]
    told_ = event.detail
    assert (told_["requests"], told_["answered"], told_["dead"], told_["retried"]) == (2, 1, 1, 0)
    assert (told_["status"], told_["model"], told_["batch_id"][:6]) == ("completed", "gpt-5-mini", "batch_")


def test_a_dead_task_wakes_its_sleeper_with_its_code(tmp_path):
    world = World(tmp_path)
    world.publish(Awaited(task("a", "email_draft", "[sim:refuse]"), "token"))
    assert world.work()
    assert failures(world) == [("token", "content_policy_violation")]


def test_a_cancelled_task_wakes_its_sleeper(tmp_path):
    world = World(tmp_path)
    world.publish(Awaited(task("a", "email_draft"), "token"))

    async def story(life: Life) -> None:
        life.accept()
        cancel_tasks(life.system, [("default", "a")])
        await life.answer(Tier.HIGH)

    world.live(story)
    assert failures(world) == [("token", "cancelled")]


def test_a_redriven_task_is_told_of_again_under_an_id_of_its_own_and_wakes_nobody_twice(tmp_path):
    world = World(tmp_path)
    world.publish(Awaited(task("a", "email_draft", "[sim:refuse-once]", reply_to=REPLY_TO), "token"))

    async def story(life: Life) -> None:
        await answered(life)
        redrive(life.system, [("default", "a")])
        await answered(life)

    world.live(story)
    assert [event.id.rpartition(".")[2] for event in world.events.sent] == ["0", "1"]
    assert len({reply.id for reply in world.replies.replies}) == 2
    assert len(told(world)) == 1


def test_a_refused_task_wakes_its_sleeper_at_the_door(tmp_path):
    world = World(tmp_path)
    world.publish(Awaited("{no JSON", "one"), Awaited({"task_id": "a"}, "two"))
    assert world.work()
    assert failures(world) == [("one", "invalid_task"), ("two", "invalid_task")]


def test_a_token_with_a_pack_of_several_is_refused_whole_because_it_is_one_tasks(tmp_path):
    world = World(tmp_path)
    both = {"tasks": [task("a", "email_draft"), task("b", "email_draft")]}
    world.publish(Awaited(both, "token"), Awaited({"tasks": [task("c", "email_draft")]}, "alone"))
    assert world.work()
    assert failures(world) == [("token", "invalid_task")]
    assert [token for token, each in told(world) if isinstance(each, Success)] == ["alone"]


def test_a_bare_batch_line_may_be_waited_for(tmp_path):
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hi"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    world = World(tmp_path)
    world.publish(Awaited(line, "token"))
    assert world.work()
    assert [token for token, each in told(world) if isinstance(each, Success)] == ["token"]


def test_a_deployment_that_wakes_nobody_refuses_tokens_before_money_is_spent(tmp_path):
    world = World(tmp_path)
    world.callbacks.taken = False
    world.publish(Awaited(task("a", "email_draft"), "token"))

    async def story(life: Life) -> None:
        life.accept()
        [letter] = life.letters()
        assert "StateMachineArns" in letter["error"]["message"]
        assert not life.waiting(Tier.HIGH)

    world.live(story)
    assert not world.provider.billed


def test_a_duplicate_of_an_answered_task_wakes_its_own_sleeper_with_the_answer(tmp_path):
    world = World(tmp_path)
    same = task("a", "email_draft")
    world.publish(Awaited(same, "first"))
    world.waves = [[Awaited(same, "second")]]
    assert world.work()
    outputs = [json.loads(each.output) for _, each in told(world) if isinstance(each, Success)]
    assert [token for token, _ in told(world)] == ["first", "second"]
    assert outputs[0] == outputs[1]


def test_a_duplicate_of_a_task_at_work_says_so_unless_it_brings_the_same_token(tmp_path):
    world = World(tmp_path)
    same = task("a", "content_generation")
    world.publish(Awaited(same, "first"), Awaited(same, "first"), Awaited(same, "second"))

    async def story(life: Life) -> None:
        life.accept()
        await life.assemble()

    world.live(story)
    assert failures(world) == [("second", "duplicate")]
    assert [token for token, _ in told(world)] == ["second"]


def test_a_conflict_wakes_its_sleeper_and_not_the_first_ones(tmp_path):
    world = World(tmp_path)
    world.publish(Awaited(task("a", "email_draft"), "first"))
    world.waves = [[Awaited(task("a", "email_draft", "Something else."), "other")]]
    assert world.work()
    assert failures(world) == [("other", "id_conflict")]
