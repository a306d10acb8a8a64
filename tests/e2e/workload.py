"""What is sent: 300 tasks of every tier, and what is wrong on purpose. Marks in prompts steer the provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import boto3
import orjson

Task = dict[str, Any]

MODEL, STUCK_MODEL = "gpt-5-mini", "gpt-4.1-mini"
"""Batches are made model by model; the scenario lets none of the second one end."""
TENANT, HELD_TENANT = "acme", "held"

DIES_ONCE = "draft-dies-once"
"""Refused the first time, so it is dead, and answered when it is sent round again."""
DIES_IN_A_BATCH = "bulk-dies"
AGAIN = ("bulk-fails-once-1", "bulk-fails-once-2", "bulk-missing-once")
"""Failed in their first batch, answered in a later one."""


def _task(name: str, kind: str, *, mark: str = "", tenant: str = TENANT, model: str = MODEL) -> Task:
    messages = [{"role": "user", "content": f"{mark} Say something about {name}."}]
    request = {"url": "/v1/chat/completions", "body": {"model": model, "messages": messages, "max_tokens": 200}}
    return {"task_id": name, "type": kind, "tenant": tenant, "request": request}


def _many(count: int, kind: str, word: str, **how: str) -> list[Task]:
    return [_task(f"{word}-{number}", kind, **how) for number in range(count)]


CRITICAL = _many(10, "live_chat_response", "chat")
HIGH = [*_many(19, "email_draft", "draft"), _task(DIES_ONCE, "email_draft", mark="[sim:400-once]")]
NORMAL = _many(40, "meeting_summary", "summary")
IN_FLIGHT = [*_many(10, "safety_check", "check"), *_many(10, "ticket_classification", "ticket")]
"""CRITICAL and HIGH, sent last, and being answered while the functions are killed."""
STUCK = _many(5, "content_generation", "stuck", model=STUCK_MODEL)
HELD = _many(10, "content_generation", "held", tenant=HELD_TENANT)
AMONG_THE_BAD = _many(4, "content_generation", "beside")
LOW = [
    *_many(181, "content_generation", "bulk"),
    _task(DIES_IN_A_BATCH, "content_generation", mark="[sim:refuse]"),
    *(_task(name, "content_generation", mark="[sim:500-once]") for name in AGAIN[:2]),
    _task(AGAIN[2], "content_generation", mark="[sim:missing-once]"),
]
LINES = [
    {"custom_id": f"line-{number}", "method": "POST", **_task(f"line-{number}", "")["request"]} for number in range(6)
]
"""Lines of a batch file as OpenAI takes them: LOW tasks of no type and of the default tenant."""

ACCEPTED = [*CRITICAL, *HIGH, *NORMAL, *IN_FLIGHT, *STUCK, *HELD, *AMONG_THE_BAD, *LOW, *LINES]
POISON = {"task_id": "poison", "type": "content_generation", "tenant": TENANT, "request": {"url": "/v1/nowhere"}}
MALFORMED = ("no JSON at all", '{"task_id": "half", "type": ')


def keys(tasks: Sequence[Task]) -> set[tuple[str, str]]:
    """(tenant, task id) of each."""
    return {(task.get("tenant", "default"), task.get("task_id") or task["custom_id"]) for task in tasks}


def first_wave() -> list[str]:
    """Message bodies: LOW in packs of ten, but for some alone; the other tiers one by one; all that is bad."""
    packs = [LOW[start : start + 10] for start in range(20, len(LOW), 10)]
    lone = [*CRITICAL, *HIGH, *NORMAL, *STUCK, *HELD, *LOW[:20], *LINES]
    poisoned = [*AMONG_THE_BAD[:2], POISON, *AMONG_THE_BAD[2:]]
    messages = [*lone, *({"tasks": pack} for pack in packs), {"tasks": poisoned}]
    return [*(_text(message) for message in messages), *MALFORMED]


def second_wave() -> list[str]:
    """What is in flight when the functions are killed, behind an answered task sent again, and another of its name."""
    changed = _task(HIGH[0]["task_id"], "email_draft", mark="Something else.")
    return [_text(message) for message in (HIGH[0], changed, *IN_FLIGHT)]


def send(queue_url: str, bodies: Sequence[str]) -> None:
    client = boto3.client("sqs")
    for start in range(0, len(bodies), 10):
        entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies[start : start + 10])]
        reply = client.send_message_batch(QueueUrl=queue_url, Entries=entries)
        if failed := reply.get("Failed"):
            raise RuntimeError(f"the queue refused {failed}")


def _text(message: Task) -> str:
    return orjson.dumps(message).decode()
