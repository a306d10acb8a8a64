"""Text that a queue refuses, wherever a sender can put it: one dead letter, and the neighbours are answered."""

from __future__ import annotations

import json

import pytest

from lowtide.core.attributes import attribute_text
from lowtide.core.message import MOST_TASKS
from lowtide.core.records import DeadLetter, LetterError
from lowtide.core.tiers import Tier
from lowtide.ports import Outgoing
from lowtide.steps.accept import accept_messages
from lowtide.steps.letters import send_letters
from tests.sweep.world import START, Life, World, task

REFUSED = ["\x00", "\x07", "\x1b[31m", "a\x0bb", "\ud800", "\ufffe", "\uffff", "x" * 10_000 + "\x01", "\u2028"]
FIELDS = ["type", "tenant", "traceparent", "task_id", "reply_to", "created_at", "priority", "deadline_at", "stray"]


def broken(**fields: object) -> str:
    """A task that is refused for its URL too, as JSON with escapes: what SQS itself lets through."""
    raw = task("bad", "email_draft") | fields
    return json.dumps(raw | {"request": {"url": "/v1/nope", "body": {}}})


@pytest.mark.parametrize("text", REFUSED)
def test_fields_with_text_that_no_queue_takes_are_a_dead_letter_each_and_the_neighbours_are_answered(tmp_path, text):
    world = World(tmp_path)
    hostile = [broken(**{field: text}) for field in FIELDS] + [broken(tags={text: text})]
    good = [task(f"good{number}", "email_draft") for number in range(len(hostile))]
    world.publish(*[each for pair in zip(hostile, good, strict=True) for each in pair])
    assert world.work()

    async def story(life: Life) -> None:
        assert len(life.letters()) == len(hostile)
        assert {row.task_id for row in life.engine.tasks.scan()} == {each["task_id"] for each in good}

    world.live(story)
    assert len(world.provider.billed) == len(good)


@pytest.mark.parametrize(
    "kind",
    [7, True, {"prompt": "secret"}, ["\x00"], "", None, "deep"],
    ids=["number", "true", "object", "list", "", "null", "deep"],
)
def test_a_type_that_is_no_text_is_no_attribute_either(tmp_path, kind):
    world = World(tmp_path)
    world.publish(broken(type=json.loads("[" * 90 + "]" * 90) if kind == "deep" else kind))

    async def story(life: Life) -> None:
        life.accept()
        [letter] = life.system.dead_letters.receive(10, visibility_s=60)
        assert letter.attributes["type"] == "none"

    world.live(story)


def test_a_letter_keeps_the_letters_of_any_script_and_the_group_of_a_good_tenant(tmp_path):
    world = World(tmp_path)

    async def story(life: Life) -> None:
        told = LetterError(code="größer\x00", message="m", first_failed_at=START, last_failed_at=START)
        for tenant in ("acme", "two words", "x" * 129, "größe"):
            send_letters(life.system, [(tenant, DeadLetter(task={"tenant": tenant, "type": "Prüfung"}, error=told))])
        letters = life.system.dead_letters.receive(10, visibility_s=60)
        assert {letter.attributes["code"] for letter in letters} == {"größer?"}
        assert {letter.attributes["type"] for letter in letters} == {"Prüfung"}
        assert {letter.attributes["tenant"]: letter.group for letter in letters} == {
            "acme": "acme",
            "two words": "default",
            "x" * 129: "default",
            "größe": "default",
        }

    world.live(story)


def test_what_is_left_of_a_text_is_never_empty_and_never_long():
    assert [attribute_text(text) for text in ("", "\x00", "a" * 300)] == ["none", "?", "a" * 256]


@pytest.mark.parametrize("junk", ["1", "{}", "null", '""', "[]", '{"task_id":"a","type":"\\u0000","payload":{}}'])
def test_a_pack_of_junk_is_refused_whole_past_its_bound_and_task_by_task_below(tmp_path, junk):
    world = World(tmp_path)
    world.publish('{"tasks":[' + ",".join([junk] * (MOST_TASKS + 1)) + "]}", f'{{"tasks":[{junk},{junk}]}}')

    async def story(life: Life) -> None:
        life.accept()
        messages = [letter["error"]["message"] for letter in life.letters()]
        assert len(messages) == 3
        assert f"send at most {MOST_TASKS}" in messages[0]

    world.live(story)


def test_a_delivery_full_of_packs_takes_the_first_and_gives_the_others_back_at_once(tmp_path):
    world = World(tmp_path)
    junk = '{"tasks":[' + ",".join(["1"] * MOST_TASKS) + "]}"
    world.publish(junk, junk, task("good", "email_draft"))

    async def story(life: Life) -> None:
        intake = life.system.intake
        messages = intake.receive(10, visibility_s=60)
        later = accept_messages(life.system, messages).again
        assert later == messages[1:]
        intake.delete(messages[:1])
        life.accept()
        assert life.waiting(Tier.HIGH) == 1
        assert life.system.dead_letters.depth().visible == 2 * MOST_TASKS

    world.live(story)


@pytest.mark.parametrize(
    "key",
    ["", "/", "..", "../../etc/passwd", "x" * 5_000, "\x00", "carried/../secret.json", "parts/p_1.jsonl", ".", "a//b"],
)
def test_a_pointer_that_ingest_did_not_write_is_a_dead_letter_and_no_object_is_asked_for(tmp_path, key):
    world = World(tmp_path)
    world.publish(task("good", "email_draft"))

    async def story(life: Life) -> None:
        life.accept()
        life.system.tiers[Tier.HIGH].send([Outgoing(json.dumps({"carried": key}))])
        await life.answer(Tier.HIGH)
        assert life.record("good").status == "answered"
        [letter] = life.letters()
        assert "pointer" in letter["error"]["message"]

    world.live(story)
