"""The sweep's day: a dozen tasks on every tier, and what goes wrong with them even without a crash."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lowtide.core.records import Status
from lowtide.core.structured import INVALID_OUTPUT
from lowtide_local.simulator.scenario import BatchWeather, Latencies, Latency, Mishap, MishapKind, Scenario
from tests.sweep.world import Awaited, World, essay, form, task, validating

REPLY_TO = "https://queue/replies"
REFUSED_CODE = "content_policy_violation"

WEATHER = Scenario(
    latency=Latencies(default=Latency(min_s=0.5, max_s=2.0), flex=Latency(min_s=2.0, max_s=8.0)),
    batch=BatchWeather(
        min_s=90,
        max_s=90,
        list_lag_s=30,
        shuffled=True,
        mishaps=(
            Mishap(kind=MishapKind.REPLY_LOST, model="gpt-4o-mini"),
            Mishap(kind=MishapKind.DUPLICATE_LINE),
        ),
    ),
)
"""One lot's creations lose their replies; the first batch of the other expires (``[sim:expire-once]``)."""

TASKS = (
    task("chat", "live_chat_response"),
    task("voice", "voice_agent_reply", "[sim:500-once]"),
    task("draft", "email_draft", reply_to=REPLY_TO),
    task("poison-call", "ticket_classification", "[sim:refuse]"),
    task("summary", "meeting_summary"),
    {"task_id": "lead", "type": "lead_scoring", "payload": {"seats": 40}},
    task("page-1", "content_generation", reply_to=REPLY_TO),
    task("page-2", "content_generation", "[sim:missing-once]"),
    task("page-3", "content_generation", "[sim:expire-once]"),
    task("poison-line", "content_generation", "[sim:refuse]"),
    task("label-1", "bulk_classification", model="gpt-4o-mini"),
    task("label-2", "bulk_classification", model="gpt-4o-mini"),
    form("form-call", "ticket_classification", "[sim:misfit-once]"),
    form("form-line", "content_generation", "[sim:misfit-once]"),
    form("form-never", "ticket_classification", "[sim:misfit]"),
    essay("essay", "email_draft"),
)

ENDS: Mapping[str, tuple[Status, str | None]] = {
    each["task_id"]: (Status.DEAD, REFUSED_CODE) if "poison" in each["task_id"] else (Status.ANSWERED, None)
    for each in TASKS
} | {"form-never": (Status.DEAD, INVALID_OUTPUT)}

LETTERS = frozenset(
    {
        ("poison-call", REFUSED_CODE),
        ("poison-line", REFUSED_CODE),
        ("form-never", INVALID_OUTPUT),
        ("draft", "id_conflict"),
        ("page-1", "id_conflict"),
        ("label-1", "id_conflict"),
        (None, "invalid_task"),
    }
)
"""(task_id, code) of each, however often it is sent."""

REPLIES = frozenset({(REPLY_TO, "draft"), (REPLY_TO, "page-1")})
"""(queue, task_id) of each, however often it is sent."""

SLEEPERS = {
    "voice": "token-voice",
    "poison-call": "token-poison-call",
    "label-1": "token-label",
    "essay": "token-essay",
}
"""Tokens of those who wait for these tasks."""

COPIES = {"voice": "token-voice-2", "poison-call": "token-poison-call-2", "essay": "token-essay-2"}
"""Tokens of copies that are sent at once with their tasks. While those are called for, the copies wait for the end."""

BATCHED_COPIES = {"label-1": "token-label-2"}
EITHER = frozenset({"token-label", "token-label-2"})
"""Whichever of these comes to its part is told how the task ended. The other is, or hears that it is at work."""

WOKEN = frozenset(
    {
        ("token-voice", "Success"),
        ("token-poison-call", "Failure"),
        ("token-essay", "Success"),
        ("token-voice-2", "Success"),
        ("token-poison-call-2", "Failure"),
        ("token-essay-2", "Success"),
        ("token-again", "Success"),
        ("token-other", "Failure"),
    }
)
"""(token, how) of each, however often it is woken: a duplicate brings a token of its own, and so does a conflict."""

REFUSED = 4
DUPLICATES = 8


def begin(directory: Path) -> World:
    """Singles, a pack, a duplicate in a message of its own and one beside its first; later, when all has ended, more
    duplicates and conflicts. (Of two tasks with one id that are on their way together, either may be the first.)
    """
    named = {each["task_id"]: each for each in TASKS}
    pack = [named[name] for name in ("page-1", "page-2", "page-3", "draft", "draft")]
    singles = [each for each in TASKS if each not in pack]
    world = World(directory, WEATHER, validating("ticket_classification", "content_generation"))
    sent = [Awaited(each, SLEEPERS[each["task_id"]]) if each["task_id"] in SLEEPERS else each for each in singles]
    copies = [Awaited(named[name], token) for name, token in (COPIES | BATCHED_COPIES).items()]
    world.publish({"tasks": pack}, *sent, *copies, named["page-2"], "{no JSON")
    others = (task("draft", "email_draft", "Something else."), task("page-1", "content_generation", "Something else."))
    conflict = task("label-1", "bulk_classification", "Something else.")
    world.waves = [(named["draft"], *others, Awaited(named["voice"], "token-again"), Awaited(conflict, "token-other"))]
    return world
