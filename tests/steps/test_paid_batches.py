"""What a batch may have billed is not bought again in silence, and not given up while it can still be fetched."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from lowtide.adapters.openai.reading import provider_batch
from lowtide.core.batches import Away, BatchState, ProviderBatch, ProviderStatus, RequestCounts, ValidationFault
from lowtide.core.errors import KeyUnreadable, ProviderRefused, Redirected, Unreachable
from lowtide.core.tasks import TaskState
from lowtide.core.tiers import Tier
from tests.steps.test_batch_faults import CREATED, HOUR_S, INVALID, answered, begin, low, refused, states, told, turns
from tests.sweep.world import Life, later, task

DAY_S = 24 * HOUR_S
QUOTA = ValidationFault(code="insufficient_quota", message="You exceeded your current quota.")


class Passing:
    """A ports.BatchApi that does what ``api`` does."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


def over(life: Life, kind: type[Passing]) -> Life:
    return replace(life, system=replace(life.system, batch_apis={"openai": kind(life.system.batch_apis["openai"])}))


# --- a batch that failed at work -------------------------------------------------------------------------------------


def failing(counts: RequestCounts, *faults: ValidationFault) -> type[Passing]:
    """Batches run, are billed, and end ``failed`` without a file."""

    class Failing(Passing):
        async def get(self, provider_batch_id: str) -> ProviderBatch | None:
            batch = await self._api.get(provider_batch_id)
            if batch is None or not batch.ended:
                return None if batch is None else batch.model_copy(update={"counts": RequestCounts()})
            lost = {"status": ProviderStatus.FAILED, "output_ref": None, "error_ref": None, "usage": None}
            return batch.model_copy(update=lost | {"counts": counts, "faults": faults})

    return Failing


RAN = [RequestCounts(total=3, completed=2, failed=0), RequestCounts(), RequestCounts(total=0, completed=0, failed=0)]
NO_TASKS = [(QUOTA,), (ValidationFault(code="invalid_request", param="file_id", message="No."),)]
QUIET = [
    (ValidationFault(code="internal_error", message="Internal error"),),
    (ValidationFault(code="rate_limit_exceeded"),),
    (),
]
TOKEN_LIMIT = ValidationFault(code="token_limit_exceeded", message="Enqueued token limit reached.")


@pytest.mark.parametrize(
    ("counts", "faults"),
    [(counts, faults) for counts in RAN for faults in QUIET],
    ids=lambda each: str(each[0].code) if each and isinstance(each, tuple) else str(each),
)
def test_a_batch_that_failed_at_work_is_counted_as_a_try_and_as_repaid(tmp_path, counts, faults):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        await turns(over(life, failing(counts, *faults)), 10 * HOUR_S, step_s=300)
        assert {(row.state, row.attempt, row.repaid) for row in life.engine.tasks.scan()} == {(TaskState.DEAD, 3, 3)}

    world.live(story)
    assert world.provider.requests[CREATED] == 3


async def real_time(life: Life, times: int = 30) -> None:
    for _ in range(times):
        await life.answer(Tier.NORMAL)
        await life.pass_time(5)


@pytest.mark.parametrize("counts", RAN, ids=str)
@pytest.mark.parametrize("faults", NO_TASKS, ids=lambda faults: str(faults[0].code))
def test_what_is_the_accounts_or_the_batchs_kills_no_task_though_the_batch_had_begun(tmp_path, counts, faults):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        await turns(over(life, failing(counts, *faults)), 10 * HOUR_S, step_s=300)
        rows = list(life.engine.tasks.scan())
        assert {(row.state, row.repaid, row.strikes.failures) for row in rows} == {(TaskState.QUEUED, 5, 0)}
        later(world.clock, HOUR_S)
        await real_time(life)
        assert answered(life)

    world.live(story)
    assert world.provider.requests[CREATED] == 5


LINE = ValidationFault(code="invalid_request", message="One of the lines is bad.")


@pytest.mark.parametrize("fault", [LINE, LINE.model_copy(update={"line": 1}), TOKEN_LIMIT], ids=str)
def test_the_last_try_of_the_innocent_is_a_call_where_a_line_of_their_batch_was_at_fault(tmp_path, fault):
    world = begin(tmp_path, *low(8))

    async def story(life: Life) -> None:
        await turns(over(life, failing(RequestCounts(total=8, completed=5), fault)), 10 * HOUR_S, step_s=300)
        await real_time(life)
        ends = list(states(life).values())
        assert ends.count(TaskState.ANSWERED) == (5 if fault.line else 8)

    world.live(story)
    assert world.provider.requests[CREATED] == 3


def test_a_line_at_fault_that_is_looked_for_in_halves_is_bought_five_times_and_goes_on_by_a_call(tmp_path):
    world = begin(tmp_path, *low(128))

    async def story(life: Life) -> None:
        await turns(over(life, failing(RequestCounts(), LINE)), 14 * HOUR_S, step_s=300)
        await real_time(life)
        assert answered(life)
        assert {row.repaid for row in life.engine.tasks.scan()} == {5}

    world.live(story)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [(RequestCounts(total=3), None), (RequestCounts(total=3, completed=0, failed=0), {"total_tokens": 1234})],
    ids=str,
)
def test_a_batch_that_does_not_count_or_says_that_it_used_tokens_may_have_run(tmp_path, counts, usage):
    world = begin(tmp_path, *low(3))

    class Used(failing(counts, *QUIET[0])):  # type: ignore[misc]
        async def get(self, provider_batch_id: str) -> ProviderBatch | None:
            batch: ProviderBatch | None = await super().get(provider_batch_id)
            return None if batch is None else batch.model_copy(update={"usage": usage})

    async def story(life: Life) -> None:
        await turns(over(life, Used), 10 * HOUR_S, step_s=300)
        assert {(row.state, row.repaid) for row in life.engine.tasks.scan()} == {(TaskState.DEAD, 3)}

    world.live(story)
    assert world.provider.requests[CREATED] == 3


@pytest.mark.parametrize(
    "said",
    [
        {"status": "queued"},
        {"status": "pending"},
        {"status": None},
        {"status": "validating", "in_progress_at": 0, "finalizing_at": 0},
        {"status": "validating", "in_progress_at": "0001-01-01T00:00:00Z"},
        {"status": "validating", "finalizing_at": "1970-01-01T00:00:00Z"},
    ],
    ids=str,
)
@pytest.mark.parametrize("code", ["insufficient_quota", "internal_error"])
def test_a_batch_that_failed_in_a_queue_costs_nothing_and_no_try(tmp_path, said, code):
    world = begin(tmp_path, *low(3), mishap=INVALID)

    class Queued(Passing):
        async def get(self, provider_batch_id: str) -> ProviderBatch | None:
            batch = await self._api.get(provider_batch_id)
            if batch is None or not batch.ended:
                return batch and provider_batch(said | {"id": batch.id})
            return provider_batch(said | {"id": batch.id, "status": "failed", "errors": {"data": [{"code": code}]}})

    async def story(life: Life) -> None:
        await turns(over(life, Queued), 10 * HOUR_S, step_s=300)
        assert {(row.state, row.attempt, row.repaid) for row in life.engine.tasks.scan()} == {(TaskState.STAGED, 1, 0)}

    world.live(story)


@pytest.mark.parametrize("counts", RAN[1:], ids=str)
def test_a_batch_over_the_token_limit_ran_nothing_though_it_said_that_it_was_at_work(tmp_path, counts):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        await turns(over(life, failing(counts, TOKEN_LIMIT)), 10 * HOUR_S, step_s=300)
        assert {row.state for row in life.engine.tasks.scan()} == {TaskState.STAGED}
        assert {row.repaid for row in life.engine.tasks.scan()} == {0}
        assert {row.strikes.failures for row in life.engine.tasks.scan()} == {0}
        # After three times whole, a batch that is alone over the limit goes on in halves.
        assert {row.requests for row in life.engine.batches.scan()} >= {3, 1}

    world.live(story)


def test_an_account_that_runs_dry_half_way_is_held_and_said(tmp_path):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        refusals = await turns(over(life, failing(RequestCounts(total=3, completed=2), QUOTA)), 720)
        assert refusals
        assert refusals[0].startswith("insufficient_quota: ")
        assert [row.key for row in life.system.paces.active()] == ["openai"]

    world.live(story)


# --- a file that only an operator can open ---------------------------------------------------------------------------

BARRED = [
    ProviderRefused(403, "missing_scope", "Missing scopes: api.files.read"),
    ProviderRefused(403, None, "Forbidden"),
    ProviderRefused(403, "permission_denied", "No."),
    ProviderRefused(403, "AccessDenied", "You may not read this."),
    Redirected("https://here.example redirects to https://there.example"),
    KeyUnreadable("no such secret"),
]


def barring(error: Exception) -> type[Passing]:
    class Barring(Passing):
        async def results(self, batch: ProviderBatch, *, partial: bool = False) -> Any:
            raise error
            yield

    return Barring


@pytest.mark.parametrize("error", BARRED, ids=str)
def test_a_file_that_an_operator_can_open_is_waited_for_and_read(tmp_path, error):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        await turns(over(life, barring(error)), 5 * DAY_S, step_s=2 * HOUR_S)
        assert life.batch().state is BatchState.COLLECTING
        assert world.metrics.total("account_refused") > 1
        assert world.metrics.total("result_files_given_up") == 0
        await turns(life, HOUR_S)
        assert answered(life)
        assert {row.repaid for row in life.engine.tasks.scan()} == {0}

    world.live(story)
    assert world.provider.requests[CREATED] == 1


EXPIRED = {"code": "batch_expired", "message": "expired"}


def barring_one_of_two(barred: str | None, error: Exception) -> type[Passing]:
    """A batch expires with one answer in its output and two lines in its error file, of which one cannot be read."""

    class Barring(Passing):
        async def get(self, provider_batch_id: str) -> ProviderBatch | None:
            batch: ProviderBatch | None = await self._api.get(provider_batch_id)
            if batch is None or not batch.ended:
                return batch
            named = {"error_ref": f"errors-{batch.output_ref}", "status": ProviderStatus.EXPIRED}
            return batch.model_copy(update=named | {"counts": RequestCounts(total=3, completed=1, failed=2)})

        async def results(self, batch: ProviderBatch, *, partial: bool = False) -> Any:
            ref = batch.output_ref or ""
            failures = ref.startswith("errors-")
            if barred == ("errors" if failures else "output"):
                raise error
            number = 0
            async for raw in self._api.results(batch.with_only(ref.removeprefix("errors-"))):
                number += 1
                if failures and number > 1:
                    line = {"custom_id": orjson.loads(raw)["custom_id"], "response": None, "error": EXPIRED}
                    yield orjson.dumps(line)
                elif not failures and number == 1:
                    yield raw

        async def clean(self, refs: Any) -> None:
            pass

    return Barring


@pytest.mark.parametrize("error", [BARRED[0], BARRED[4], Unreachable("nobody is there")], ids=str)
@pytest.mark.parametrize(("barred", "settled"), [("errors", 1), ("output", 2)])
def test_what_the_readable_file_says_does_not_wait_for_the_other(tmp_path, error, barred, settled):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        await turns(over(life, barring_one_of_two(barred, error)), 300)
        await turns(over(life, barring_one_of_two(barred, error)), 300)
        first = min(life.engine.batches.scan(), key=lambda row: row.created_at)
        assert first.state is BatchState.COLLECTING
        rows = list(life.engine.tasks.scan())
        waiting = [row for row in rows if row.state is TaskState.STAGED and row.attempt == 1]
        assert len(waiting) == 3 - settled
        assert [row.state for row in rows].count(TaskState.ANSWERED) == (1 if barred == "errors" else 0)
        assert {row.repaid for row in rows} == {0}
        await turns(over(life, barring_one_of_two(None, error)), 1800)
        [first] = [row for row in life.engine.batches.get([first.key]) if row is not None]
        assert (first.state, first.tally.answered) == (BatchState.DONE, 1)
        await turns(life, HOUR_S)
        assert answered(life)
        assert {row.repaid for row in life.engine.tasks.scan()} == {0}

    world.live(story)


def test_a_barred_file_of_failures_is_given_up_after_hours(tmp_path):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        await turns(over(life, barring_one_of_two("errors", BARRED[0])), 9 * HOUR_S, step_s=300)
        first = min(life.engine.batches.scan(), key=lambda row: row.created_at)
        assert first.state is BatchState.DONE
        assert [(file.why, file.given_up) for file in first.away] == [(Away.FAILURES_BARRED, True)]
        assert first.tally.answered == 1

    world.live(story)


def test_a_barred_file_holds_the_batches_of_its_lot_back_and_no_call(tmp_path):
    world = begin(tmp_path, *low(3), task("other", "email_draft"))

    async def story(life: Life) -> None:
        await turns(over(life, barring(BARRED[0])), 200)
        assert [row.key for row in life.system.paces.active()] == ["openai gpt-5-mini /v1/chat/completions"]
        assert (await life.answer(Tier.HIGH)).done

    world.live(story)


def test_a_file_that_stays_barred_is_given_up_when_the_provider_has_deleted_it(tmp_path):
    world = begin(tmp_path, *low(3))

    async def waiting(life: Life) -> None:
        await turns(over(life, barring(BARRED[0])), HOUR_S)
        assert life.batch().state is BatchState.COLLECTING

    async def given_up(life: Life) -> None:
        await turns(over(life, barring(BARRED[0])), HOUR_S)
        first = min(life.engine.batches.scan(), key=lambda row: row.created_at)
        assert [(file.why, file.given_up) for file in first.away] == [(Away.BARRED, True)]
        assert {row.repaid for row in life.engine.tasks.scan()} == {1}

    world.live(waiting)
    later(world.clock, 29 * DAY_S)
    world.live(waiting)
    later(world.clock, DAY_S)
    world.live(given_up)


# --- a batch that the provider failed before it ran ------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        (ValidationFault(code="internal_error", message="Internal error"),),
        (ValidationFault(code="server_error"),),
        (ValidationFault(code="rate_limit_exceeded", message="Slow down."),),
        (ValidationFault(code="service_unavailable", line=1),),
        (ValidationFault(message="Something went wrong."),),
        (),
    ],
    ids=lambda faults: str(faults[0].code) if faults else "no reason",
)
def test_a_batch_that_the_provider_fails_whole_costs_no_try_and_its_tasks_are_answered_by_calls(tmp_path, faults):
    world = begin(tmp_path, *low(16), mishap=INVALID)

    async def story(life: Life) -> None:
        life, api = told(life, *faults)
        assert await turns(life, 10 * HOUR_S, step_s=300) == []
        assert set(states(life).values()) == {TaskState.STAGED}
        assert api.created <= 12
        assert {row.strikes.failures for row in life.engine.tasks.scan()} == {0}
        await turns(life, 14 * HOUR_S, step_s=300)
        for _ in range(60):
            await life.answer(Tier.NORMAL)
            await life.pass_time(5)
        assert answered(life)

    world.live(story)
    assert {line.kind for line in world.provider.billed} == {"call"}


# --- looks that come to nothing --------------------------------------------------------------------------------------

BLIND = [
    refused(400, None, "No."),
    refused(403, None, "Forbidden"),
    refused(405, None, "Method Not Allowed"),
    refused(410, None, "Gone"),
    refused(429, None, "Slow down."),
    refused(500, None, "Oops."),
    Unreachable("nobody is there"),
    None,
]


def blind(error: Exception | None) -> type[Passing]:
    """Looks and cancels fail for ``error``; with None the provider does not know the batch."""

    class Blind(Passing):
        async def get(self, provider_batch_id: str) -> ProviderBatch | None:
            if error is not None:
                raise error
            return None

        async def cancel(self, provider_batch_id: str) -> None:
            raise error or refused(404, None, "Not Found")

    return Blind


@pytest.mark.parametrize("error", BLIND, ids=str)
def test_a_batch_that_cannot_be_looked_at_is_given_up_after_two_days(tmp_path, error):
    world = begin(tmp_path, *({**each, "deadline_seconds": 9 * DAY_S} for each in low(3)))

    async def story(life: Life) -> None:
        blinded = over(life, blind(error))
        await turns(blinded, 47 * HOUR_S, step_s=1_800)
        assert life.batch().state is BatchState.RUNNING
        await turns(blinded, 3 * HOUR_S, step_s=300)
        first = min(life.engine.batches.scan(), key=lambda row: row.created_at)
        assert (first.state, first.released) == (BatchState.DONE, True)
        assert {row.repaid for row in life.engine.tasks.scan()} == {1}

    world.live(story)


def without_names_then(error: Exception | None, life: Life, heard_after: float) -> Life:
    """A batch ends and names no files. From then on looks fail for ``error``, until they show its files at last."""
    until = life.system.clock.now() + timedelta(seconds=heard_after)
    ended: set[str] = set()

    class Unnamed(Passing):
        async def get(self, provider_batch_id: str) -> ProviderBatch | None:
            batch = await self._api.get(provider_batch_id)
            if batch is None or not batch.ended or life.system.clock.now() >= until:
                return batch
            if provider_batch_id not in ended:
                ended.add(provider_batch_id)
                return batch.model_copy(update={"output_ref": None, "error_ref": None, "counts": RequestCounts()})
            if error is not None:
                raise error
            return None

    return over(life, Unnamed)


FORGOTTEN = [None, refused(404, None, "Not Found"), refused(410, None, "Gone")]
UNHEARD = [error for error in BLIND if error is not None and getattr(error, "status", None) != 410]


@pytest.mark.parametrize("error", FORGOTTEN, ids=str)
def test_a_batch_that_ended_without_naming_a_file_and_was_then_forgotten_is_collected_after_ten_minutes(
    tmp_path, error
):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        forgotten = without_names_then(error, life, 60 * HOUR_S)
        await turns(forgotten, 600)
        assert life.batch().state is BatchState.RUNNING
        await turns(forgotten, 240)
        first = min(life.engine.batches.scan(), key=lambda row: row.created_at)
        assert (first.state, first.released) == (BatchState.DONE, False)
        assert {row.repaid for row in life.engine.tasks.scan()} == {1}

    world.live(story)


@pytest.mark.parametrize("error", UNHEARD, ids=str)
def test_that_a_batch_named_no_file_is_no_ground_to_buy_again_while_it_cannot_be_looked_at(tmp_path, error):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        await turns(without_names_then(error, life, 20 * HOUR_S), 21 * HOUR_S, step_s=300)
        assert answered(life)
        assert {row.repaid for row in life.engine.tasks.scan()} == {0}

    world.live(story)
    assert world.provider.requests[CREATED] == 1


@pytest.mark.parametrize("error", BLIND, ids=str)
def test_files_that_the_list_named_are_read_though_their_batch_cannot_be_looked_at(tmp_path, error):
    """The reply to the creation is lost, and the batch is found when it has ended."""
    world = begin(tmp_path, *low(3))

    class Lost(blind(error)):  # type: ignore[misc]
        async def create(self, *of: Any) -> ProviderBatch:
            await self._api.create(*of)
            raise Unreachable("connection reset")

    async def story(life: Life) -> None:
        await turns(over(life, Lost), HOUR_S, step_s=300)
        assert answered(life)
        assert {row.repaid for row in life.engine.tasks.scan()} == {0}

    world.live(story)
    assert world.provider.requests[CREATED] == 1


@pytest.mark.parametrize("error", UNHEARD, ids=str)
def test_a_batch_that_named_no_file_and_cannot_be_looked_at_is_given_up_once(tmp_path, error):
    world = begin(tmp_path, *({**each, "deadline_seconds": 9 * DAY_S} for each in low(3)))

    async def story(life: Life) -> None:
        blinded = without_names_then(error, life, 60 * HOUR_S)
        await turns(blinded, 47 * HOUR_S, step_s=1_800)
        assert life.batch().state is BatchState.RUNNING
        await turns(blinded, 3 * HOUR_S, step_s=300)
        assert {row.repaid for row in life.engine.tasks.scan()} == {1}
        assert world.metrics.total("batches_given_up") == 1

    world.live(story)


@pytest.mark.parametrize("error", [refused(401, "invalid_api_key"), KeyUnreadable("no such secret")], ids=str)
def test_while_the_account_is_refused_no_batch_is_given_up(tmp_path, error):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        await turns(over(life, blind(error)), 4 * DAY_S, step_s=HOUR_S)
        assert life.batch().state is BatchState.RUNNING
        await turns(life, HOUR_S)
        assert answered(life)
        assert {row.repaid for row in life.engine.tasks.scan()} == {0}

    world.live(story)


# --- what is said, and to whom ---------------------------------------------------------------------------------------

SECRET = "my aunt's account is suspended, what now?"


def test_words_of_a_line_leave_the_function_without_its_prompt(tmp_path):
    world = begin(tmp_path, *low(3, SECRET))

    def overdue(line: dict[str, Any]) -> dict[str, Any]:
        error = {"code": "insufficient_quota", "message": f"No credit for: {SECRET}"}
        return line | {"response": {"status_code": 429, "body": {"error": error}}, "error": None}

    async def story(life: Life) -> None:
        life, _ = told(life, rewrite=overdue)
        refusals = await turns(life, 600)
        assert refusals
        assert all(SECRET not in each for each in refusals)

    world.live(story)


@pytest.mark.parametrize("around", ['"{}"', "'{}'", "‘{}’", "«{}»", "({})", "your prompt: {}"])
@pytest.mark.parametrize("many", [1, 16])
def test_an_accounts_words_leave_the_function_without_a_prompt(tmp_path, around, many):
    world = begin(tmp_path, *low(many, SECRET), mishap=INVALID)

    async def story(life: Life) -> None:
        said = "No credit for " + around.format(SECRET)
        life, _ = told(life, ValidationFault(code="insufficient_quota", message=said))
        [first, *_] = await turns(life, 600)
        assert first.startswith("insufficient_quota: ")
        assert SECRET not in first
        assert ("No credit for" in first) is (many == 1)

    world.live(story)


@pytest.mark.parametrize("error", [refused(404, "gone", SECRET), refused(403, "no", SECRET)], ids=str)
def test_no_log_has_the_words_of_a_refused_download(tmp_path, error):
    world = begin(tmp_path, *low(3))

    async def story(life: Life) -> None:
        await turns(over(life, barring(error)), HOUR_S)
        told_of = [line.fields for line in world.metrics.lines if line.event.startswith("result_file")]
        assert told_of
        assert SECRET not in str(told_of)

    world.live(story)
