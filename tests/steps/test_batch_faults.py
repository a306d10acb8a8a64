"""Whose fault it is that a batch fails: one of its lines, its own or its file's, the account's, or the provider's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from lowtide.core.batches import GRACE, BatchState, ProviderStatus, ValidationFault
from lowtide.core.errors import AccountRefused, ProviderRefused
from lowtide.core.provider_errors import ProviderError
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from lowtide.steps.sweep import sweep
from lowtide_local.engine.crashes import Crash, CrashPlan, Side
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from tests.sweep.world import Life, World, later, outgoing, task

INVALID = Mishap(kind=MishapKind.FAILS_VALIDATION)
CREATED = "POST /v1/batches"
UPLOADED = "POST /v1/files"
HOUR_S = 3600


def low(many: int, text: str = "Hello.") -> list[dict[str, Any]]:
    return [task(f"t{number}", "content_generation", text) for number in range(many)]


def begin(tmp_path, *messages: Any, mishap: Mishap | None = None, **weather: Any) -> World:
    mishaps = () if mishap is None else (mishap,)
    world = World(tmp_path, Scenario(batch=BatchWeather(min_s=60, max_s=60, mishaps=mishaps, **weather)))
    world.publish(*messages)
    return world


class Told:
    """A ports.BatchApi: batches that fail say ``faults``, creations and uploads are refused while ``refusal`` says so,
    and result lines come as ``rewrite`` makes them."""

    def __init__(
        self,
        api: Any,
        *faults: ValidationFault,
        create: Callable[[int], ProviderRefused | None] = lambda _: None,
        prepare: Callable[[int], ProviderRefused | None] = lambda _: None,
        rewrite: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self._api, self._faults, self._create, self._prepare, self.rewrite = api, faults, create, prepare, rewrite
        self.created = self.prepared = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def prepare(self, key: Any, lines: Any) -> Any:
        self.prepared += 1
        if (refusal := self._prepare(lines.seek(0, 2))) is not None:
            raise refusal
        return await self._api.prepare(key, lines)

    async def create(self, key: Any, endpoint: Any, input_ref: Any) -> Any:
        self.created += 1
        if (refusal := self._create(self.created)) is not None:
            raise refusal
        return await self._api.create(key, endpoint, input_ref)

    async def get(self, provider_batch_id: str) -> Any:
        batch = await self._api.get(provider_batch_id)
        failed = batch is not None and batch.status is ProviderStatus.FAILED
        return batch.model_copy(update={"faults": self._faults}) if failed else batch

    async def results(self, batch: Any) -> Any:
        async for raw in self._api.results(batch):
            yield raw if self.rewrite is None else orjson.dumps(self.rewrite(orjson.loads(raw)))


def told(life: Life, *faults: ValidationFault, **how: Any) -> tuple[Life, Told]:
    api = Told(life.system.batch_apis["openai"], *faults, **how)
    return replace(life, system=replace(life.system, batch_apis={"openai": api})), api


async def turns(life: Life, seconds: float, *, step_s: float = 60) -> list[str]:
    """Turns of everything but the real-time consumers; what said that the account is refused."""
    refused: list[str] = []
    for _ in range(int(seconds / step_s)):
        life.accept()
        await life.assemble()
        try:
            await life.collect()
        except* AccountRefused as group:
            refused += [error.message for error in group.exceptions if isinstance(error, AccountRefused)]
        await life.pass_time(step_s)
    return refused


def states(life: Life) -> dict[str, TaskState]:
    return {row.task_id: row.state for row in life.engine.tasks.scan()}


def answered(life: Life) -> bool:
    return set(states(life).values()) == {TaskState.ANSWERED}


ACCOUNT = [
    ValidationFault(code="insufficient_quota", message="You exceeded your current quota."),
    ValidationFault(code="billing_hard_limit_reached", message="Billing hard limit has been reached"),
    ValidationFault(code="billing_not_active"),
    ValidationFault(code="organization_usage_limit_exceeded", type="insufficient_quota"),
    ValidationFault(code="project_spend_limit_exceeded"),
    ValidationFault(code="unsupported_country_region_territory"),
    ValidationFault(code="invalid_request", type="insufficient_quota", message="No."),
    ValidationFault(message="You exceeded your current quota, please check your plan and billing details."),
    ValidationFault(code="insufficient_quota", message="No.", line=3),
]


@pytest.mark.parametrize("fault", ACCOUNT, ids=lambda fault: f"{fault.code} {fault.type} {fault.line}")
def test_a_batch_that_fails_for_its_account_goes_again_whole_once_that_is_well(tmp_path, fault):
    world = begin(tmp_path, *low(16), mishap=INVALID.model_copy(update={"batches": (1,)}))

    async def story(life: Life) -> None:
        life, _ = told(life, fault)
        refused = await turns(life, 600, step_s=10)
        assert refused == [f"{fault.code or 'batch_failed'}: {fault.message or refused[0].partition(': ')[2]}"]
        await turns(life, 1200)
        assert answered(life)
        assert {row.attempt for row in life.engine.tasks.scan()} == {1}
        assert life.system.paces.active() == []

    world.live(story)
    assert world.provider.requests[CREATED] == 2
    assert world.provider.state()["files"] == []


def test_an_account_that_stays_empty_costs_a_creation_in_five_minutes_and_no_task(tmp_path):
    world = begin(tmp_path, *low(16), mishap=INVALID)

    async def story(life: Life) -> None:
        life, api = told(life, ACCOUNT[0])
        await turns(life, 5 * HOUR_S, step_s=120)
        assert set(states(life).values()) == {TaskState.STAGED}
        assert api.created <= 5 * 12 + 2

    world.live(story)


OWN = [
    ValidationFault(code="invalid_request", param="file_id", message="Cannot find file file-1."),
    ValidationFault(code="invalid_request", param="input_file_id", message="No."),
    ValidationFault(code="invalid_request", param="metadata", message="No."),
    ValidationFault(code="invalid_value", param="endpoint", message="No."),
    ValidationFault(code="invalid_value", param="completion_window", message="No."),
    ValidationFault(code="invalid_request", message="Cannot find file file-1, or organization org-1 may not use it."),
    ValidationFault(code="invalid_file", message="The file could not be read."),
    ValidationFault(code="empty_file", message="The input file is empty."),
]


@pytest.mark.parametrize("fault", OWN, ids=lambda fault: f"{fault.code} {fault.param}")
@pytest.mark.parametrize("many", [1, 16])
def test_a_batch_whose_own_fault_it_is_goes_again_whole_and_uploaded_anew(tmp_path, fault, many):
    world = begin(tmp_path, *low(many), mishap=INVALID.model_copy(update={"batches": (1, 2)}))

    async def story(life: Life) -> None:
        life, _ = told(life, fault)
        assert await turns(life, 1800) == []
        assert answered(life)
        assert {row.attempt for row in life.engine.tasks.scan()} == {1}

    world.live(story)
    assert world.provider.requests[CREATED] == world.provider.requests[UPLOADED] == 3
    assert world.provider.state()["files"] == []


@pytest.mark.parametrize("where", ["failed", "created"])
def test_what_stays_a_batchs_own_fault_kills_nobody_is_tried_ever_more_rarely_and_is_answered_by_calls(tmp_path, where):
    world = begin(tmp_path, *low(3), task("other", "email_draft"), mishap=INVALID if where == "failed" else None)

    async def story(life: Life) -> None:
        refusal = ProviderRefused(404, None, "Cannot find file.", error=ProviderError(404, message="Cannot find file."))
        life, api = told(life, OWN[0], create=lambda _: refusal if where == "created" else None)
        await turns(life, HOUR_S)
        assert {row.key for row in life.system.paces.active()} == {"openai gpt-5-mini /v1/chat/completions"}
        assert "batches_refused" in world.metrics.events()
        assert (await life.answer(Tier.HIGH)).done, "calls go on"
        await turns(life, 19 * HOUR_S, step_s=300)
        assert {states(life)[f"t{number}"] for number in range(3)} == {TaskState.STAGED}
        assert api.created <= 20
        await turns(life, 5 * HOUR_S, step_s=300)
        for _ in range(20):
            await life.answer(Tier.NORMAL)
            await life.pass_time(5)
        assert answered(life)

    world.live(story)
    assert {line.kind for line in world.provider.billed} == {"call"}


def refused(status: int, code: str | None = None, message: str = "It says why.", **more: Any) -> ProviderRefused:
    return ProviderRefused(status, code, message, error=ProviderError(status, code=code, message=message, **more))


@pytest.mark.parametrize(
    "refusal",
    [
        refused(400, message="Cannot find file file-1."),
        refused(400, "invalid_request_error", param="input_file_id"),
        refused(404, "not_found", "No such File object: file-1"),
        refused(404, None, "Not Found"),
        refused(400, None, "Bad Request"),
        refused(422, None, "[{'loc': ['body', 'metadata']}]", param="body.metadata"),
        refused(409, "conflict", "The file is not processed yet."),
    ],
    ids=lambda refusal: f"{refusal.status} {refusal.message}",
)
def test_a_creation_that_is_refused_right_after_the_upload_costs_a_lone_task_nothing(tmp_path, refusal):
    world = begin(tmp_path, *low(1))

    async def story(life: Life) -> None:
        life, api = told(life, create=lambda nth: refusal if nth <= 2 else None)
        await turns(life, 1800)
        assert answered(life)
        assert (life.row("t0").attempt, api.created) == (1, 3)

    world.live(story)
    assert world.provider.state()["files"] == []
    assert len(world.provider.billed) == 1


def test_a_file_that_is_too_large_for_a_server_goes_in_halves_until_they_fit(tmp_path):
    world = begin(tmp_path, *low(8))

    async def story(life: Life) -> None:
        most = 4 * 330
        life, _ = told(life, prepare=lambda size: refused(413, None, "Too large.") if size > most else None)
        await turns(life, HOUR_S)
        assert answered(life)

    world.live(story)


@pytest.mark.parametrize("status", [400, 422])
def test_a_file_that_is_refused_without_a_reason_goes_in_halves_after_three_tries(tmp_path, status):
    world = begin(tmp_path, *low(8))

    async def story(life: Life) -> None:
        most = 4 * 330
        life, _ = told(life, prepare=lambda size: refused(status, None, "No.") if size > most else None)
        await turns(life, 2 * HOUR_S)
        assert answered(life)
        assert life.system.paces.active() == []

    world.live(story)


@pytest.mark.parametrize(
    "refusal",
    [
        refused(403, "missing_scope", "Missing scopes: api.files.write."),
        refused(403, None, "Forbidden"),
        refused(403, "permission_denied", "No."),
    ],
)
def test_a_key_that_may_not_batch_may_go_on_calling(tmp_path, refusal):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        life, api = told(life, prepare=lambda _: refusal)
        for number in range(10):
            life.system.intake.send([outgoing(task(f"draft-{number}", "email_draft"))])
            await turns(life, 120)
            assert (await life.answer(Tier.HIGH)).done
        assert life.batch().state is BatchState.UPLOADING
        assert api.prepared <= 6
        assert [row.of_account for row in life.system.paces.active()] == [False]

    world.live(story)


def test_a_key_that_is_empty_stops_calls_and_batches_alike(tmp_path):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        life, _ = told(life, prepare=lambda _: refused(402, None, "Insufficient Balance"))
        await turns(life, 60)
        assert [row.key for row in life.system.paces.active()] == ["openai"]

    world.live(story)


# --- lines -----------------------------------------------------------------------------------------------------------


def with_error(line: dict[str, Any], status: int, body: Any) -> dict[str, Any]:
    return line | {"response": {"status_code": status, "request_id": "r", "body": body}, "error": None}


FORBIDDEN = {"error": {"message": "Forbidden", "type": "permission_error", "code": None}}


@pytest.mark.parametrize(("status", "body"), [(403, FORBIDDEN), (404, {"detail": "Not Found"}), (404, "404 page")])
def test_lines_that_are_all_refused_without_a_word_on_them_go_again(tmp_path, status, body):
    world = begin(tmp_path, *low(4))

    async def story(life: Life) -> None:
        life, api = told(life, rewrite=lambda line: with_error(line, status, body))
        assert await turns(life, 400)
        assert set(states(life).values()) == {TaskState.STAGED}
        assert not any(row.of_account for row in life.system.paces.active())
        api.rewrite = None
        await turns(life, HOUR_S)
        assert answered(life)
        assert {row.strikes.failures for row in life.engine.tasks.scan()} == {0}

    world.live(story)


def test_a_line_that_alone_is_refused_without_a_word_is_dead(tmp_path):
    world = begin(tmp_path, *low(4), task("bad", "content_generation", "Other."))
    seen: list[str] = []

    def first_alone(line: dict[str, Any]) -> dict[str, Any]:
        seen.append(line["custom_id"])
        return with_error(line, 403, FORBIDDEN) if line["custom_id"] == seen[0] else line

    async def story(life: Life) -> None:
        life, _ = told(life, rewrite=first_alone)
        assert await turns(life, HOUR_S) == []
        assert sorted(states(life).values()) == [TaskState.ANSWERED] * 4 + [TaskState.DEAD]

    world.live(story)


@pytest.mark.parametrize(
    "error",
    [
        {"code": "insufficient_quota", "message": "No."},
        {"code": "rate_limit_exceeded", "type": "insufficient_quota", "message": "No."},
        {"code": 402, "message": "This request requires more credits."},
    ],
)
@pytest.mark.parametrize("status", [200, 429])
def test_lines_that_are_refused_for_the_account_count_no_try_and_hold_it_back(tmp_path, error, status):
    world = begin(tmp_path, *low(4))

    async def story(life: Life) -> None:
        life, api = told(life, rewrite=lambda line: with_error(line, status, {"error": error, "choices": None}))
        if status == 429 and error["code"] == 402:
            pytest.skip("the status is believed before a number in the body")
        assert await turns(life, 200)
        assert [row.key for row in life.system.paces.active()] == ["openai"]
        api.rewrite = None
        await turns(life, HOUR_S)
        assert answered(life)
        assert {row.strikes.failures for row in life.engine.tasks.scan()} == {0}

    world.live(story)


NO_ANSWERS = [
    {"error": {"code": 429, "message": "Slow down."}, "choices": None},
    {"error": {"code": "502", "message": "Upstream."}},
    {"choices": None},
    {"choices": []},
    {"choices": [{"finish_reason": "stop"}]},
    {},
    {"object": "error", "message": "Overloaded.", "code": 503},
    "<html>",
    None,
]


@pytest.mark.parametrize("body", NO_ANSWERS, ids=str)
def test_a_line_with_status_200_and_no_answer_is_tried_again_and_never_answered(tmp_path, body):
    world = begin(tmp_path, *low(2))

    async def story(life: Life) -> None:
        life, api = told(life, rewrite=lambda line: with_error(line, 200, body))
        await turns(life, 180)
        assert set(states(life).values()) == {TaskState.STAGED}
        assert {row.attempt for row in life.engine.tasks.scan()} == {2}
        api.rewrite = None
        await turns(life, HOUR_S)
        assert answered(life)

    world.live(story)


def test_a_line_that_fails_in_every_batch_ends_and_its_neighbours_do_not_notice(tmp_path):
    world = begin(tmp_path, *low(6), task("bad", "content_generation", "[sim:500]"))

    async def story(life: Life) -> None:
        await turns(life, 2 * HOUR_S)
        found = states(life)
        assert found.pop("bad") is TaskState.DEAD
        assert set(found.values()) == {TaskState.ANSWERED}
        assert life.row("bad").attempt == 3

    world.live(story)


def test_batches_in_which_the_provider_fails_every_line_cost_two_tries_less(tmp_path):
    world = begin(tmp_path, *low(10, "[sim:500]"))

    async def story(life: Life) -> None:
        await turns(life, 6 * HOUR_S)
        assert set(states(life).values()) == {TaskState.DEAD}
        assert {row.attempt for row in life.engine.tasks.scan()} == {5}

    world.live(story)


def test_an_outage_inside_batches_for_a_quarter_of_an_hour_kills_nobody(tmp_path):
    world = begin(tmp_path, *low(10))

    async def story(life: Life) -> None:
        life, api = told(life, rewrite=lambda line: with_error(line, 503, {"error": {"message": "Overloaded."}}))
        await turns(life, 900)
        api.rewrite = None
        await turns(life, 2 * HOUR_S)
        assert answered(life)

    world.live(story)


def test_a_model_that_nobody_has_ends_its_batch_at_once(tmp_path):
    world = begin(tmp_path, *low(16), mishap=INVALID)

    async def story(life: Life) -> None:
        life, _ = told(life, ValidationFault(code="model_not_found", message="The model does not exist."))
        await turns(life, 600)
        assert set(states(life).values()) == {TaskState.DEAD}
        assert life.record("t0").error.message == "The model does not exist."

    world.live(story)
    assert world.provider.requests[CREATED] == 1


@pytest.mark.parametrize("status", [401, 402])
def test_a_look_that_the_account_is_refused_stops_calls_as_well(tmp_path, status):
    world = begin(tmp_path, *low(2))

    class Blind(Told):
        async def get(self, provider_batch_id: str) -> Any:
            raise refused(status, None, "No.")

    async def story(life: Life) -> None:
        life = replace(
            life, system=replace(life.system, batch_apis={"openai": Blind(life.system.batch_apis["openai"])})
        )
        await turns(life, 60)
        assert [row.key for row in life.system.paces.active()] == ["openai"]
        assert world.metrics.total("account_refused") >= 1

    world.live(story)


# --- cut off anywhere ------------------------------------------------------------------------------------------------


def cut_off(tmp_path, plan: CrashPlan, fault: ValidationFault | None) -> bool:
    """Two tasks whose first batch fails for ``fault``, or whose first creation is refused; the process dies where the
    plan says, and another goes on. Was there such a place?"""
    mishap = None if fault is None else INVALID.model_copy(update={"batches": (1,)})
    world = begin(tmp_path, *low(2), mishap=mishap)
    asked = 0

    def create(_: int) -> ProviderRefused | None:
        nonlocal asked
        asked += 1
        return refused(400, None, "Cannot find file.") if fault is None and asked == 1 else None

    async def story(life: Life) -> None:
        api = Told(life.system.batch_apis["openai"], *([] if fault is None else [fault]), create=create)
        life = replace(life, system=replace(life.system, batch_apis={"openai": api}))
        for _ in range(90):
            await turns(life, 60)
            if life.engine.tasks.counts() == {TaskState.ANSWERED: 2} and not life.system.batches.active():
                return

    try:
        world.live(story, plan)
    except Crash:
        later(world.clock, 1)
        world.live(story)

    async def look(life: Life) -> None:
        await life.pass_time(GRACE.total_seconds() + 1)
        await sweep(life.system)
        assert answered(life), plan
        assert {row.attempt for row in life.engine.tasks.scan()} == {1}, plan

    world.live(look)
    assert len(world.provider.billed) == 2, plan
    assert world.provider.state()["files"] == [], plan
    return plan.crashed


@pytest.mark.parametrize("fault", [OWN[0], ACCOUNT[0], None], ids=["its own", "the account's", "refused"])
def test_a_batch_that_is_given_back_is_bought_once_wherever_the_process_dies(tmp_path, fault):
    for at in range(3, 200, 7):
        for side in Side:
            directory = tmp_path / f"{at}-{side.name}"
            directory.mkdir()
            if not cut_off(directory, CrashPlan(at, side), fault):
                return
    raise AssertionError("there was no end of calls")
