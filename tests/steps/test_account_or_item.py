"""Whose fault a refused call is: the task's, the account's, or the address's, seen by what becomes of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from lowtide.core.outcomes import Response
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.ports import AnswerApi, Call, Presence
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario
from tests.steps.one_tier import answered, begin
from tests.sweep.world import Life, outgoing, task

PAGE = "<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>"
NAMELESS = [
    Response(403, {"error": {"message": "Forbidden", "type": "permission_error", "code": None}}),
    Response(403, {"error": {"message": "Access denied.", "code": "permission_denied"}}),
    Response(403, {"message": "Forbidden"}),
    Response(403, "<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title></html>"),
    Response(403, None),
    Response(404, PAGE),
    Response(404, {"detail": "Not Found"}),
    Response(404, "404 page not found\n"),
    Response(404, {"error": {"code": "404", "message": "Resource not found"}}),
    Response(404, {"error": {"message": "Invalid URL (POST /chat/completions)", "type": "invalid_request_error"}}),
    Response(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}),
    Response(405, {"detail": "Method Not Allowed"}),
    Response(400, "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"),
]
OF_THE_MODEL = [
    Response(404, {"error": {"message": "The model `gpt-55` does not exist.", "code": "model_not_found"}}),
    Response(
        404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}
    ),
    Response(404, {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error"}}),
    Response(404, {"error": {"code": "DeploymentNotFound", "message": "It does not exist for this resource."}}),
    Response(404, {"error": {"message": "No endpoints found for vendor/x.", "code": 404}}),
    Response(403, {"error": {"message": "Project `p` does not have access to model `m`", "code": "model_not_found"}}),
    Response(401, {"error": {"message": "Tried to access m", "type": "key_model_access_denied", "code": "401"}}),
    Response(403, {"error": {"message": "Your input was flagged by moderation.", "code": 403}}),
    Response(404, {"error": {"message": "Item with id 'rs_1' not found.", "param": "input", "code": None}}),
]


class Wired:
    """A ports.AnswerApi that answers some calls itself."""

    def __init__(self, api: AnswerApi, said: Callable[[str], Response | None]) -> None:
        self._api, self.said, self.calls = api, said, 0

    async def answer(self, call: Call) -> Response:
        response = self.said(call.body["messages"][0]["content"])
        self.calls += response is not None
        return response or await self._api.answer(call)

    async def presence(self) -> Presence:
        return await self._api.presence()


def wired(life: Life, said: Callable[[str], Response | None]) -> tuple[Life, Wired]:
    api = Wired(life.system.answers["openai"], said)
    return replace(life, system=replace(life.system, answers={"openai": api})), api


def tasks(many: int, text: str = "Hello.") -> list[dict[str, Any]]:
    return [task(f"t{number}", "email_draft", text) for number in range(many)]


async def until_halted(life: Life, *, most_s: int = 60) -> str:
    life.accept()
    for _ in range(most_s):
        report = await life.answer(Tier.HIGH)
        if report.halted is not None:
            return report.halted
        await life.pass_time(1)
    raise AssertionError("nobody said that the account is refused")


def states(life: Life) -> dict[str, TaskState]:
    return {row.task_id: row.state for row in life.engine.tasks.scan()}


@pytest.mark.parametrize("response", NAMELESS, ids=lambda each: f"{each.status} {str(each.body)[:40]}")
@pytest.mark.parametrize("many", [1, 2, 20])
def test_what_every_call_meets_is_the_accounts_or_the_addresss_and_kills_nobody(tmp_path, response, many):
    world = begin(tmp_path, *tasks(many))

    async def story(life: Life) -> None:
        life, api = wired(life, lambda _: response)
        halted = await until_halted(life)
        assert api.calls <= max(many + 3, 8)
        if isinstance(response.body, dict):
            told = response.body.get("error", response.body)
            assert next(iter(told[key] for key in ("message", "detail") if key in told)) in halted
        assert set(states(life).values()) <= {TaskState.QUEUED}
        api.said = lambda _: None
        await life.pass_time(300)
        await answered(life)
        assert {row.state for row in life.engine.tasks.scan()} == {TaskState.ANSWERED}
        assert {row.strikes.failures for row in life.engine.tasks.scan()} == {0}
        assert life.system.paces.active() == []

    world.live(story)


@pytest.mark.parametrize("response", OF_THE_MODEL, ids=lambda each: f"{each.status} {str(each.body)[:60]}")
def test_a_lone_task_whose_own_model_or_content_is_refused_is_dead_at_once(tmp_path, response):
    world = begin(tmp_path, task("a", "email_draft"))

    async def story(life: Life) -> None:
        life, api = wired(life, lambda _: response)
        life.accept()
        report = await life.answer(Tier.HIGH)
        assert (report.halted, api.calls) == (None, 1)
        assert states(life) == {"a": TaskState.DEAD}
        assert life.system.paces.active() == []

    world.live(story)


@pytest.mark.parametrize("response", NAMELESS[:3])
@pytest.mark.parametrize("bad", [1, 2, 5])
def test_some_tasks_that_are_refused_among_others_that_are_answered_are_dead_and_stop_nothing(tmp_path, response, bad):
    world = begin(tmp_path, *(task(f"bad{number}", "email_draft", "SELECT *") for number in range(bad)), *tasks(20))

    async def story(life: Life) -> None:
        life, api = wired(life, lambda text: response if text == "SELECT *" else None)
        life.accept()
        for _ in range(90):
            assert (await life.answer(Tier.HIGH)).halted is None
            await life.pass_time(1)
        found = states(life)
        assert {found.pop(f"bad{number}") for number in range(bad)} == {TaskState.DEAD}
        assert set(found.values()) == {TaskState.ANSWERED}
        assert api.calls <= 5 * bad
        assert life.system.paces.active() == []

    world.live(story)


@pytest.mark.parametrize("response", NAMELESS[:3])
@pytest.mark.parametrize("slow_s", [0.5, 20.0])
def test_a_task_that_alone_is_refused_is_dead_once_another_was_answered(tmp_path, response, slow_s):
    """Also where it is refused before anything else is answered."""
    slow = Scenario(latency=Latencies(default=Latency(min_s=slow_s, max_s=slow_s)))
    world = begin(tmp_path, *tasks(12), task("bad", "email_draft", "SELECT *"), scenario=slow)

    async def story(life: Life) -> None:
        life, api = wired(life, lambda text: response if text == "SELECT *" else None)
        life.accept()
        for number in range(40):
            assert (await life.answer(Tier.HIGH)).halted is None
            await life.pass_time(2)
            if number == 5:
                life.system.intake.send([*map(outgoing, tasks_later())])
                life.accept()
        found = states(life)
        assert found.pop("bad") is TaskState.DEAD
        assert set(found.values()) == {TaskState.ANSWERED}
        assert api.calls <= 6

    world.live(story)


def tasks_later() -> list[dict[str, Any]]:
    return [task(f"later{number}", "email_draft") for number in range(3)]


@pytest.mark.parametrize("response", NAMELESS[:3])
def test_a_key_that_is_forbidden_after_many_answers_kills_nobody(tmp_path, response):
    world = begin(tmp_path, *tasks(20))

    async def story(life: Life) -> None:
        await answered(life)
        life, api = wired(life, lambda _: response)
        life.system.intake.send([outgoing(task(f"new{number}", "email_draft")) for number in range(20)])
        await until_halted(life)
        for _ in range(60):
            await life.pass_time(30)
            await life.answer(Tier.HIGH)
        found = states(life)
        assert {found[f"new{number}"] for number in range(20)} <= {TaskState.QUEUED}
        assert api.calls < 60

    world.live(story)


RAN_DRY = [
    Response(403, {"error": {"code": 403, "message": "Key limit exceeded (total limit)."}}),
    Response(403, {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None}),
    Response(404, {"detail": "Not Found"}),
    Response(403, {"error": {"message": "Forbidden. Request id: 0f3a9c1e77", "code": None}}),
]


@pytest.mark.parametrize("response", RAN_DRY, ids=lambda each: str(each.body)[:40])
@pytest.mark.parametrize("many", [1, 2, 3])
def test_a_few_tasks_that_are_refused_after_answers_are_told_of_and_wait_though_models_are_listed(
    tmp_path, response, many
):
    world = begin(tmp_path, task("first", "email_draft"))

    async def story(life: Life) -> None:
        await answered(life)
        life, api = wired(life, lambda _: response)
        life.system.intake.send([outgoing(each) for each in tasks(many)])
        assert await until_halted(life)
        for _ in range(20):
            await life.pass_time(60)
            await life.answer(Tier.HIGH)
        assert {found for name, found in states(life).items() if name != "first"} <= {TaskState.QUEUED}
        assert api.calls < 25 * many
        api.said = lambda _: None
        await life.pass_time(300)
        await answered(life)
        assert set(states(life).values()) == {TaskState.ANSWERED}
        assert life.system.paces.active() == []

    world.live(story)


@pytest.mark.parametrize("response", RAN_DRY, ids=lambda each: str(each.body)[:40])
@pytest.mark.parametrize("apart_s", [30, 120, 600])
def test_tasks_that_come_one_at_a_time_to_an_account_that_ran_dry_all_live(tmp_path, response, apart_s):
    world = begin(tmp_path, task("first", "email_draft"))

    async def story(life: Life) -> None:
        await answered(life)
        life, _ = wired(life, lambda _: response)
        halts = 0
        for number in range(8):
            life.system.intake.send([outgoing(task(f"new{number}", "email_draft"))])
            life.accept()
            for _ in range(apart_s // 10):
                halts += (await life.answer(Tier.HIGH)).halted is not None
                await life.pass_time(10)
        assert TaskState.DEAD not in states(life).values()
        assert halts > 0

    world.live(story)


@pytest.mark.parametrize("response", NAMELESS[:3])
def test_a_lone_task_that_is_refused_for_ever_ends_and_holds_nobody_back(tmp_path, response):
    world = begin(tmp_path, task("first", "email_draft"))

    async def story(life: Life) -> None:
        await answered(life)
        life, api = wired(life, lambda text: response if text == "SELECT *" else None)
        life.system.intake.send([outgoing(task("bad", "email_draft", "SELECT *"))])
        life.accept()
        for _ in range(75):
            assert life.system.paces.active() == [], "the others go on"
            await life.answer(Tier.HIGH)
            await life.pass_time(60)
        assert states(life)["bad"] is TaskState.DEAD
        assert api.calls < 40
        life.system.intake.send([outgoing(task("next", "email_draft"))])
        life.accept()
        await life.answer(Tier.HIGH)
        assert states(life)["next"] is TaskState.ANSWERED

    world.live(story)


@pytest.mark.parametrize("response", NAMELESS[:3])
def test_an_answer_that_comes_later_ends_a_lone_refused_task_at_its_next_call(tmp_path, response):
    world = begin(tmp_path, task("first", "email_draft"))

    async def story(life: Life) -> None:
        await answered(life)
        life, _ = wired(life, lambda text: response if text == "SELECT *" else None)
        life.system.intake.send([outgoing(task("bad", "email_draft", "SELECT *"))])
        life.accept()
        for minute in range(12):
            await life.answer(Tier.HIGH)
            await life.pass_time(60)
            if minute == 4:
                assert states(life)["bad"] is TaskState.QUEUED
                life.system.intake.send([outgoing(task("good", "email_draft"))])
                life.accept()
        assert (states(life)["bad"], states(life)["good"]) == (TaskState.DEAD, TaskState.ANSWERED)

    world.live(story)


@pytest.mark.parametrize(("answers", "many"), [(1, 2), (1, 3), (5, 8), (18, 20), (10, 20)])
def test_an_account_that_runs_dry_amid_calls_that_began_together_kills_none_of_those_it_refuses(
    tmp_path, answers, many
):
    world = begin(tmp_path, *tasks(many))

    async def story(life: Life) -> None:
        called = count()
        life, _ = wired(life, lambda _: None if next(called) < answers else RAN_DRY[0])
        life.accept()
        halts = 0
        for _ in range(60):
            halts += (await life.answer(Tier.HIGH)).halted is not None
            await life.pass_time(10)
        assert Counter(states(life).values()) == {TaskState.ANSWERED: answers, TaskState.QUEUED: many - answers}
        assert halts > 0

    world.live(story)
