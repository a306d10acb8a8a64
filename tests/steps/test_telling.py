"""Those outside: replies, events and callbacks, whoever ended the task and however it ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lowtide.core.acceptance import accept
from lowtide.core.errors import Busy, LowtideError, Unreachable
from lowtide.core.outward import EventKind, Failure, Success
from lowtide.core.task import AcceptedTask
from lowtide.core.tiers import Tier
from lowtide.ports import Reply
from lowtide.steps.cancel import cancel_tasks
from lowtide.steps.carry import send_tasks
from lowtide.steps.redrive import redrive
from lowtide_local.engine.crashes import Crash, Side
from tests.steps.one_tier import answered, begin
from tests.sweep.world import START, Awaited, Dies, Life, ReplyBox, World, later, routes, task

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


class Choosy(ReplyBox):
    """Replies that raise ``error`` where the task ``refused`` is among them. ``before`` is called first."""

    def __init__(self, refused: str, error: Exception, before: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.refused, self.error, self.before, self.asked = refused, error, before, 0

    def send(self, replies: Sequence[Reply]) -> None:
        self.asked += 1
        if any(json.loads(reply.body)["task_id"] == self.refused for reply in replies):
            self.before()
            raise self.error
        super().send(replies)


def pack(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"tasks": list(tasks)}


def replied(world: World) -> list[str]:
    return [json.loads(reply.body)["task_id"] for reply in world.replies.replies]


def accepted(name: str, origin: str) -> AcceptedTask:
    sent = draft(name, "[sim:timeout]" if name == "slow" else "Hello.")
    return accept(sent, origin=origin, sent_at=START, routes=routes())


def draft(name: str, text: str = "Hello.") -> dict[str, Any]:
    return task(name, "email_draft", text, reply_to=REPLY_TO)


@pytest.mark.parametrize("tier", [Tier.CRITICAL, Tier.HIGH, Tier.NORMAL])
def test_a_task_is_told_of_at_its_own_end_however_long_the_others_of_its_message_take(tmp_path, tier):
    kind = {Tier.CRITICAL: "live_chat_response", Tier.HIGH: "email_draft", Tier.NORMAL: "meeting_summary"}[tier]
    texts = {"quick": "Hello.", "refused": "[sim:refuse]", "slow": "[sim:timeout]"}
    world = begin(tmp_path, pack(*(task(name, kind, text, reply_to=REPLY_TO) for name, text in texts.items())))

    async def story(life: Life) -> None:
        life.accept()
        answering = asyncio.create_task(life.answer(tier))
        await life.pass_time(10)
        assert not answering.done()
        assert sorted(replied(world)) == ["quick", "refused"]
        assert sorted(event.detail["task_id"] for event in world.events.sent) == ["quick", "refused"]
        assert [letter["task"]["task_id"] for letter in life.letters()] == ["refused"]
        assert life.engine.ledger.total().tasks == 0, "they are counted together, at the end of their message"
        await answering

    world.live(story)


def test_the_sleeper_of_a_duplicate_is_woken_at_once_beside_a_slow_task_and_counted_once(tmp_path):
    world = begin(tmp_path, draft("a"))

    async def story(life: Life) -> None:
        await answered(life)
        [ended] = life.engine.tasks.scan()
        again, slow = (accepted(name, f"again/{name}") for name in ("a", "slow"))
        assert again.content_hash == ended.content_hash
        send_tasks(life.system, [again.model_copy(update={"task_token": "token"}), slow])
        answering = asyncio.create_task(life.answer(Tier.HIGH))
        await life.pass_time(5)
        assert not answering.done()
        assert [token for token, each in told(world) if isinstance(each, Success)] == ["token"]
        assert life.engine.ledger.total().duplicates == 0
        await answering
        await life.pass_time(60)
        await answered(life)
        assert life.engine.ledger.total().duplicates == 1

    world.live(story)
    assert world.metrics.total("duplicates") == 1


@pytest.mark.parametrize("dies", ["replies.send", "events.send", "dead_letters.send", "ledger.put"])
@pytest.mark.parametrize("side", list(Side))
def test_a_crash_between_telling_and_counting_tells_the_same_again_and_counts_once(tmp_path, dies, side):
    world = begin(tmp_path, pack(draft("a"), draft("b", "[sim:refuse]"), draft("c", "[sim:500-once]")))
    with pytest.raises(Crash):
        world.live(answered, Dies(dies, side))
    later(world.clock, 700)

    async def story(life: Life) -> None:
        await answered(life)
        total = life.engine.ledger.total()
        assert (total.answered, total.dead, total.tasks) == (2, 1, 3)
        assert {letter["task"]["task_id"] for letter in life.letters()} == {"b"}

    world.live(story)
    ids = {(name, reply.id) for name, reply in zip(replied(world), world.replies.replies, strict=True)}
    assert sorted(name for name, _ in ids) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "error", [Busy("throttled"), Unreachable("no answer"), LowtideError("send again"), OSError("reset")], ids=repr
)
def test_a_task_that_cannot_be_told_of_holds_back_no_other_and_is_told_when_its_message_comes_again(tmp_path, error):
    world = begin(tmp_path, pack(*(draft(name) for name in "abc")))
    world.replies = Choosy("b", error)

    async def story(life: Life) -> None:
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert (len(report.done), len(report.again)) == (0, 1)
        assert sorted(replied(world)) == ["a", "c"]
        assert sorted(event.detail["task_id"] for event in world.events.sent) == ["a", "c"]
        assert life.engine.ledger.total().tasks == 0
        world.replies.refused = "none"
        await life.pass_time(60)
        await answered(life)
        assert set(replied(world)) == {"a", "b", "c"}
        assert life.engine.ledger.total().answered == 3
        assert {(row.repaid, row.strikes.failures, row.attempt) for row in life.engine.tasks.scan()} == {(0, 0, 1)}

    world.live(story)
    assert len(world.provider.billed) == 3
    assert world.metrics.total("tasks_settled") == 3


def test_a_service_that_hangs_is_not_asked_again_for_each_task_alone(tmp_path):
    world = begin(tmp_path, pack(*(draft(name) for name in "abc")))

    async def story(life: Life) -> None:
        life.accept()
        loop = asyncio.get_running_loop()
        world.replies.before = lambda: loop.jump(40)  # type: ignore[attr-defined]
        await life.answer(Tier.HIGH)
        assert world.replies.asked == 1
        assert replied(world) == []

    world.replies = Choosy("b", Busy("no answer"))
    world.live(story)


def test_what_ended_is_counted_in_the_metrics_once_though_its_message_comes_again(tmp_path):
    tasks = [draft("a"), draft("b", "[sim:refuse]"), draft("c", "[sim:500-once]"), draft("d", "[sim:429-once]")]
    world = begin(tmp_path, pack(*tasks))
    world.live(answered)
    assert world.metrics.total("tasks_settled") == 4


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
