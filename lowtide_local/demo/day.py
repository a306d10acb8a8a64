"""The day's tasks: written here, from a seed, so that the same seed gives the same day."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

HOUR_S = 3600

TYPES = {
    "CRITICAL": ("live_chat_response", "voice_agent_reply", "safety_check"),
    "HIGH": ("email_draft", "ticket_classification", "escalation_decision"),
    "NORMAL": ("meeting_summary", "document_analysis", "lead_scoring"),
    "LOW": ("content_generation", "bulk_classification", "data_enrichment", "report_generation"),
}
SHARES = {"CRITICAL": 0.20, "HIGH": 0.25, "NORMAL": 0.30, "LOW": 0.25}

WAVES_H = (1.0, 7.5, 15.0)
"""When bulk work arrives: nightly enrichment, the morning's classification, the afternoon's reports."""

WAVE_S = 300

RUSH_H = 10.0
"""The hour of the storm: everybody asks at once, and the provider answers 429."""

PRINTED_AT_S = 2 * HOUR_S
"""After they were sent, some of the last wave's pages are needed."""

FLEX_GONE_H = (16.5, 17.5)
"""The hour in which those pages are bought anew has no flex, so that hurry costs something."""

PRINTED = "The page goes to print in two hours."
"""What those say. Whoever makes the weather knows their batch by it."""

MODELS = {"gpt-6.1-terra": 6, "gpt-6-luna": 4}
"""What requests name, and how often."""

WHO = ("A florist", "A bakery", "A bicycle shop", "A dentist", "A choir", "A brewery", "A kennel", "A print shop")
WANTS = (
    "asks why last month's invoice shows two delivery fees",
    "wants to move its subscription to yearly billing",
    "reports that the export stops after page three",
    "has lost the second factor of its administrator",
    "would like a quote for twelve more seats",
    "complains that reminders arrive an hour late",
    "asks which plan allows single sign-on",
    "thanks the team and asks for a printable guide",
)
TASKS = {
    "CRITICAL": "Reply to the customer in two sentences.",
    "HIGH": "Draft a short, friendly answer.",
    "NORMAL": "Summarise the case, name its cause and the next step.",
    "LOW": "Write a paragraph for the help pages that would have answered this.",
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message on the intake queue, ``at_s`` seconds into the day."""

    at_s: float
    body: str
    tenant: str


def arrivals(tasks: int, seed: int) -> list[Arrival]:
    """``tasks`` good ones, and among them a few that no sender meant: repeats, a conflict, and broken messages."""
    dice = random.Random(seed)
    good = [_task(number, tier, dice) for number, tier in enumerate(_tiers(tasks, dice))]
    _poison(good)
    timed = [(_moment(task, dice), task) for task in good]
    _misfit(timed)
    _hurry(timed)
    return sorted(
        [Arrival(at, orjson.dumps(task).decode(), task["tenant"]) for at, task in timed] + list(_strays(timed, dice)),
        key=lambda arrival: arrival.at_s,
    )


def _tiers(tasks: int, dice: random.Random) -> list[str]:
    tiers = [tier for tier, share in SHARES.items() for _ in range(round(tasks * share))]
    tiers = (tiers + ["NORMAL"] * tasks)[:tasks]
    dice.shuffle(tiers)
    return tiers


def _task(number: int, tier: str, dice: random.Random) -> dict[str, Any]:
    kind = dice.choice(TYPES[tier])
    text = f"{dice.choice(WHO)} {dice.choice(WANTS)}. Case {number:04d}."
    task: dict[str, Any] = {"task_id": f"{kind}-{number:04d}", "type": kind, "tenant": dice.choice(("acme", "globex"))}
    if kind == "lead_scoring":
        # A payload: rendered by the type's template, on the type's model.
        return task | {"payload": {"text": text, "seats": dice.randrange(1, 200)}}
    model = dice.choices(list(MODELS), weights=list(MODELS.values()))[0]
    messages = [{"role": "system", "content": TASKS[tier]}, {"role": "user", "content": text}]
    body = {"model": model, "messages": messages, "max_completion_tokens": 400 if tier == "LOW" else 150}
    return task | {"request": {"url": "/v1/chat/completions", "body": body}}


def _moment(task: dict[str, Any], dice: random.Random) -> float:
    if task["type"] in TYPES["LOW"]:
        return dice.choice(WAVES_H) * HOUR_S + dice.uniform(0, WAVE_S)
    if dice.random() < 0.1:  # noqa: PLR2004 - a tenth of the day comes in the rush
        return RUSH_H * HOUR_S + dice.uniform(0, 30)
    return dice.uniform(0, 20 * HOUR_S)


def _poison(tasks: list[dict[str, Any]]) -> None:
    """One item that the provider will never answer, in a batch and in a call: each its own dead letter."""
    for kind in ("content_generation", "email_draft"):
        victim = next((task for task in tasks if task["type"] == kind), None)
        if victim is not None:
            _say(victim, "[sim:refuse]")


def _misfit(timed: list[tuple[float, dict[str, Any]]]) -> None:
    """In the second wave a line that its whole batch is refused for."""
    victim = next((task for task in _of_wave(timed, 1) if "[sim:" not in _text(task)), None)
    if victim is not None:
        _say(victim, "[sim:bad-line]")


def _hurry(timed: list[tuple[float, dict[str, Any]]]) -> None:
    """Give up to half of the last wave, all on one model, a deadline that its batch will not meet."""
    wave = _of_wave(timed, 2)
    for task in wave[: min(8, (len(wave) + 1) // 2)]:
        _say(task, PRINTED)
        task["request"]["body"]["model"] = list(MODELS)[1]
        task["deadline_seconds"] = PRINTED_AT_S


def _of_wave(timed: list[tuple[float, dict[str, Any]]], wave: int) -> list[dict[str, Any]]:
    begins = WAVES_H[wave] * HOUR_S
    return [task for at, task in timed if task["type"] in TYPES["LOW"] and begins <= at <= begins + WAVE_S]


def _text(task: dict[str, Any]) -> str:
    return str(task["request"]["body"]["messages"][-1]["content"])


def _say(task: dict[str, Any], more: str) -> None:
    task["request"]["body"]["messages"][-1]["content"] += f" {more}"


def _strays(timed: list[tuple[float, dict[str, Any]]], dice: random.Random) -> Iterator[Arrival]:
    for at, task in dice.sample(timed, 3):
        yield Arrival(at + 60, orjson.dumps(task).decode(), task["tenant"])
    # Of a task that is answered at once, so that the first to come is also the first to be claimed.
    at, task = dice.choice([(at, task) for at, task in timed if task["type"] in TYPES["HIGH"]])
    yield Arrival(at + 90, orjson.dumps(task | {"type": "document_analysis"}).decode(), task["tenant"])
    broken = (
        '{"task_id": "cut-off", "type": "email_dr',
        '{"task_id": "no-request", "type": "email_draft"}',
        '{"task_id": "late", "type": "email_draft", "deadline_seconds": -1, "payload": {}}',
        '{"task_id": "wrong-tier", "priority": "URGENT", "payload": {"text": "hello"}}',
    )
    for body in broken:
        yield Arrival(dice.uniform(0, 20 * HOUR_S), body, "acme")
