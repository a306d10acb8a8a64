"""The poller reads what SQS gave up on, through its handler and the template's wiring."""

from __future__ import annotations

import orjson
from stack_cases import START, pack, task

from lowtide.core.acceptance import accept
from lowtide.core.packs import packs

CHAT = "POST /v1/chat/completions"


def test_what_is_stranded_becomes_dead_letters_and_what_was_answered_stays_so(stage):
    played = stage()
    played.play(task("answered"))
    routes = played.stack.system().routes
    tasks = [accept(task(name), origin=f"m/{name}", sent_at=START, routes=routes) for name in ("answered", "poison")]
    [(body, _)] = packs(tasks, most=10)
    stranded = played.stack.queues["StrandedQueue"]
    stranded.send(body, "acme")
    stranded.send("no task at all", "acme")
    played.stack.wait(120)
    letters = played.letters()
    assert {code: letter["task"] for code, (letter, _) in letters.items()} == {
        "stranded": task("poison"),
        "invalid_task": "no task at all",
    }
    assert played.asked(CHAT) == 1
    records = played.audited()
    assert {name: record.status for name, record in records.items()} == {"answered": "answered", "poison": "dead"}
    assert played.stack.failures == []


def test_a_publishers_pack_that_ingest_died_of_has_its_end_too(stage):
    played = stage()
    body = pack(task("a"), {"task_id": "b"})
    played.stack.queues["StrandedQueue"].send(orjson.dumps(body).decode(), "acme")
    played.stack.wait(120)
    assert set(played.letters()) == {"stranded", "invalid_task"}
    assert played.audited()["a"].status == "dead"
