"""Garbled task lines and messages, worked on to their ends among good ones: nothing stops, no good one is harmed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

from lowtide.core.names import folded
from lowtide.core.prefixes import prefix_key
from lowtide.core.prompts import request_body
from lowtide.core.routes import Limits, NeverBatch, Routes
from lowtide.core.task import AcceptedTask
from lowtide.core.tasks import SETTLED, TaskRow, TaskState
from lowtide.core.tiers import Tier
from lowtide.core.weights import weigh
from lowtide.ports import Message
from lowtide.steps.accept import accept_messages
from lowtide.steps.carry import read_tasks
from lowtide_local.engine.engine import Engine
from lowtide_local.run.feed import Feed, refusals
from tests.garbled.tasks import TEXTS, good_task, task_line
from tests.sweep.world import Life, World, validating

AT_ONCE = 100
"""Garbled lines in one file, or deliveries in one world."""
KINDS = ("email_draft", "content_generation", "data_enrichment")


def strict_routes() -> Routes:
    """With everything that a deployment may have checked."""
    never = validating().never_batch
    return validating(*KINDS).model_copy(
        update={
            "limits": Limits(models=frozenset({"gpt-5-mini", "text-embedding-3-small"}), max_tokens=50_000),
            "never_batch": NeverBatch(
                types=never.types, tenants=frozenset({"bank"}), tags=frozenset({"pii", "risk=x"})
            ),
        }
    )


def check_lines(number: int, seed: str, directory: Path, lines: int = AT_ONCE) -> Counter[str]:
    """A file of ``run`` in which every second line is garbled; what became of those."""
    dice = Random(f"{seed} lines {number}")
    good, content = {}, []
    for place in range(lines):
        content.append(task_line(dice, f"bad-{place}"))
        content.append(json.dumps(good_task(dice, f"good-{place}")).encode())
        good[f"good-{place}"] = len(content)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "tasks.jsonl"
    path.write_bytes(b"\n".join(content) + dice.choice((b"", b"\n", b"\n\n\n")))
    world = World(directory / "world", routes=strict_routes())

    async def story(life: Life) -> Counter[str]:
        feed = Feed(life.system, life.engine, path)
        while feed.step():
            pass
        rows = {row.task_id: row for row in life.engine.tasks.scan()}
        refused = {each["line"] for each in refusals(life.engine)}
        blank = {place for place, line in enumerate(content, 1) if not line.strip()}
        assert {name: place for name, place in good.items() if _origin(rows, name) != str(place)} == {}, (
            "a good line was harmed"
        )
        duplicates = life.engine.ledger.total().duplicates
        assert len(rows) + len(refused) + duplicates + len(blank) == len(content), "a line was lost"
        await _to_the_end(life, set(good))
        return Counter(accepted=len(rows) - len(good), refused=len(refused), duplicates=duplicates, blank=len(blank))

    return world.live(story)


def check_deliveries(number: int, seed: str, directory: Path, deliveries: int = AT_ONCE) -> Counter[str]:
    """Deliveries to ingest, with a good message among garbled ones; what became of those."""
    dice = Random(f"{seed} deliveries {number}")
    directory.mkdir(parents=True, exist_ok=True)
    world = World(directory / "world", routes=strict_routes())

    async def story(life: Life) -> Counter[str]:
        ends: Counter[str] = Counter()
        for place in range(deliveries):
            messages = list(_delivery(dice, life, place))
            intake = accept_messages(life.system, messages)
            assert intake.again == [], "a message is to come again"
            brought = [task for task in intake.accepted if task.task_id == f"good-{place}"]
            assert len(brought) == 1, "a good message was harmed"
            for task in intake.accepted:
                _is_sound(task, life.system.routes)
            ends += Counter(accepted=len(intake.accepted) - 1, refused=len(intake.refused))
        _letters(life, ends["refused"])
        carried = _carried(life)
        assert carried == ends["accepted"] + deliveries, "a task was lost on its way"
        await _to_the_end(life, {f"good-{place}" for place in range(deliveries)})
        return ends

    return world.live(story)


def _origin(rows: dict[str, TaskRow], name: str) -> str | None:
    return rows[name].origin if name in rows else None


def _delivery(dice: Random, life: Life, place: int) -> Iterator[Message]:
    now = life.system.clock.now()
    message = Message(id="", receipt="0.0", body="", sent_at=now, receives=1)
    bodies = [_text(task_line(dice, f"bad-{place}-{n}")) for n in range(dice.randint(1, 4))]
    if dice.random() < 0.2:
        bodies.append(
            dice.choice(("", " ", "null", "[]", "{}", '{"tasks":{}}', '{"tasks":[[],{},1]}', "[" * 9_000, "\0"))
        )
    if dice.random() < 0.2:
        bodies.append('{"tasks":[' + ",".join(bodies) + "]}")
    bodies.insert(dice.randrange(len(bodies) + 1), json.dumps(good_task(dice, f"good-{place}")))
    for number, body in enumerate(bodies):
        token = (
            {"task_token": dice.choice(("token", "", "x" * 3_000, "\x07"))}
            if "good-" not in body and dice.random() < 0.1
            else {}
        )
        yield replace(
            message,
            id=f"m{place}-{number}",
            body=body,
            receives=dice.choice((1, 2, 999)),
            sent_at=now - timedelta(seconds=dice.choice((0, 0, 60, 10**6))) if "good-" not in body else now,
            attributes=token | {dice.choice(("a", "type")): dice.choice(TEXTS)},
        )


def _text(line: bytes) -> str:
    return (
        line.decode("utf-8", "replace" if b"\xed" not in line else "surrogatepass")
        if _decodes(line)
        else line.decode("latin-1")
    )


def _decodes(line: bytes) -> bool:
    try:
        line.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _is_sound(task: AcceptedTask, routes: Routes) -> None:
    """Nothing later may find something wrong with it."""
    weigh(task)
    prefix_key(request_body(task))
    assert AcceptedTask.model_validate_json(task.model_dump_json()) == task
    if task.type is not None and folded(task.type) in {"fraud_detection", "safety_check", "content_moderation"}:
        assert task.tier is not Tier.LOW
        assert not task.batchable


def _letters(life: Life, refused: int) -> None:
    letters = life.engine.queue("dead-letters").receive(100_000, visibility_s=0)
    assert len(letters) == refused, "a letter was lost"
    for letter in letters:
        assert json.loads(letter.body)["error"]["message"].isprintable()
        assert {"id", "code", "tenant", "type"} <= letter.attributes.keys()


def _carried(life: Life) -> int:
    """Tasks on the tiers' queues, each of which can be read. A look counts as no receive: it is undone."""
    carried = 0
    for tier in Tier:
        for message in life._look(tier.value):
            carried += len(read_tasks(life.system, message))
    return carried


async def _to_the_end(life: Life, good: set[str]) -> None:
    await life.work()
    rows: list[TaskRow] = list(life.engine.tasks.scan())
    assert {row.state for row in rows} <= SETTLED, "a task did not end"
    assert good <= {row.task_id for row in rows if row.state is TaskState.ANSWERED}, "a good task was not answered"
    assert not _stranded(life.engine), "a message was given up"


def _stranded(engine: Engine) -> int:
    depth = engine.queue("stranded").depth()
    return depth.visible + depth.in_flight + depth.delayed
