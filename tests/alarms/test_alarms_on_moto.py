"""Each alarm rings on the failure that it is for, and is quiet otherwise: on what the deployed handlers really publish.

``by_hand`` leaves out what a scene does not need, or what has failed in it: no schedule and no event source invokes it.
"""

from __future__ import annotations

from datetime import timedelta
from importlib.resources import files
from typing import Any

import boto3
import pytest

import assembler
import consumer
import poller
from lowtide_local.simulator.scenario import (
    BatchWeather,
    Latencies,
    Latency,
    Mishap,
    MishapKind,
    Scenario,
    Window,
    WindowKind,
)
from lowtide_local.stack.line import Death
from tests.alarms.watched import DEPLOYMENT, QUIET_SCHEDULES, Watched
from tests.stack.stack_cases import START, low, pack, task

CHAT = "POST /v1/chat/completions"
KINDS = {"CRITICAL": "live_chat_response", "HIGH": "email_draft", "NORMAL": "meeting_summary"}
WAITING = {"CRITICAL": "CriticalWaits", "HIGH": "HighWaits", "NORMAL": "NormalWaits"}


def many(count: int, text: str = "hello", kind: str = "email_draft", **changes: Any) -> list[dict[str, Any]]:
    return [task(f"{kind}-{number}", kind, text, **changes) for number in range(count)]


def outage(to_s: float, kind: WindowKind = WindowKind.OUTAGE) -> Scenario:
    return Scenario(windows=(Window(kind=kind, from_s=0, to_s=to_s),))


def slow(seconds: float) -> Scenario:
    latency = Latency(min_s=seconds, max_s=seconds)
    return Scenario(latency=Latencies(default=latency, flex=latency, priority=latency))


def minutes_after(watched: Watched, alarm: str) -> float:
    return (watched.rang(alarm)[0] - START) / timedelta(minutes=1)


def test_a_quiet_day_rings_nothing(watch):
    """Answers on every tier, a batch, one retry, one duplicate: a day as it should be."""
    watched = watch(by_hand={"Reporter"})
    watched.send(pack(*many(20)), *many(1), *many(3, kind="live_chat_response"), *many(3, kind="meeting_summary"))
    watched.send(task("retried", text="[sim:500-once]"), pack(*(low(f"l{number}") for number in range(25))))
    watched.run(35)
    ringing = {name for name in watched.ringing() if watched.rang(name)}
    assert ringing == {"ReporterSilent"}, "it was left out here"
    assert len(watched.stage.records()) == 20 + 3 + 3 + 1 + 25


@pytest.mark.parametrize(("mark", "tier"), [("[sim:400]", "LOW"), ("[sim:404]", "HIGH"), ("[sim:429-twice]", "HIGH")])
def test_calls_that_fail_ring_however_they_fail(watch, mark, tier):
    watched = watch()
    # A LOW task that is due too soon for a batch is called with NORMAL.
    changes = {"deadline_seconds": 900} if tier == "LOW" else {}
    kind = "content_generation" if tier == "LOW" else "email_draft"
    watched.send(pack(*many(25, mark, kind, **changes)))
    watched.run(11)
    assert sum(watched.values("calls", tier=tier)) >= 25
    assert watched.rang("CallErrors") != []


def test_flex_without_capacity_is_no_error_because_the_task_has_another_lane(watch):
    watched = watch(outage(10_000, WindowKind.NO_FLEX))
    watched.send(*many(8, kind="meeting_summary"))
    watched.run(25)
    assert sum(watched.values("calls", tier="NORMAL")) >= 20
    assert watched.rang("CallErrors") == []


def test_answers_after_their_deadline_ring_and_those_in_time_do_not(watch):
    watched = watch(slow(5))
    watched.send(*many(6, deadline_seconds=2))
    watched.run(20)
    assert watched.rang("TasksLate") != []


def test_answers_in_time_are_no_late_tasks(watch):
    watched = watch(slow(5))
    watched.send(*many(6))
    watched.run(20)
    assert watched.rang("TasksLate") == []


@pytest.mark.parametrize(("tier", "minutes"), [("CRITICAL", 12), ("HIGH", 12), ("NORMAL", 150)])
def test_tasks_that_come_again_and_again_ring_by_our_own_measure_where_sqs_tells_no_age(watch, tier, minutes):
    """A provider that is away: after three receives the messages are in SQS's age no more."""
    watched = watch(outage(minutes * 60.0))
    watched.send(*many(1, kind=KINDS[tier]))
    watched.run(minutes)
    assert watched.rang(f"{WAITING[tier]}ByOurRows") != []
    assert not watched.cloudwatch.rings(f"{WAITING[tier]}InQueue", watched.now)


@pytest.mark.parametrize(("tier", "minutes"), [("CRITICAL", 8), ("HIGH", 8), ("NORMAL", 150)])
def test_messages_that_nobody_takes_ring_by_the_age_that_sqs_tells(watch, tier, minutes):
    consumer_ = f"Consumer{tier.title()}"
    watched = watch(by_hand=QUIET_SCHEDULES | {consumer_})
    watched.send(*many(1, kind=KINDS[tier]))
    watched.run(1)
    watched.run(minutes - 1)
    assert watched.rang(f"{WAITING[tier]}InQueue") != []


def test_a_task_that_waits_for_cheap_hours_on_purpose_rings_nothing_before_or_after_they_open(watch):
    watched = watch(parameters={"RoutesParameter": "/routes"})
    boto3.client("ssm").put_parameter(Name="/routes", Value=cheap_after(hours=5), Type="String", Tier="Advanced")
    watched.send(task("patient", KINDS["NORMAL"], model="gpt-4o-mini", deadline_seconds=9 * 3_600))
    for _ in range(24):
        watched.invoke("Reporter")
        watched.run(15)
    record = watched.stage.records()["patient"]
    assert record.finished_at - START > timedelta(hours=5)
    assert sum(watched.values("tasks_waiting_off_peak", tier="NORMAL")) >= 1
    assert [alarm for alarm in ("NormalWaitsInQueue", "NormalWaitsByOurRows") if watched.rang(alarm)] == []


def cheap_after(hours: float) -> str:
    routes = (files("lowtide") / "routes.toml").read_text("utf-8")
    opens = START + timedelta(hours=hours)
    window = f'from = 2026-03-01, opens = {opens:%H:%M:%S}, closes = 23:30:00, discount = 0.6, lanes = ["default"]'
    shipped = 'window = "24h"'
    assert shipped in routes
    return routes.replace(shipped, f"{shipped}\noff_peak = [{{ {window} }}]")


def test_an_intake_that_nobody_takes_from_rings(watch):
    watched = watch(by_hand=QUIET_SCHEDULES | {"Ingest"})
    watched.send(*many(1))
    watched.run(8)
    assert minutes_after(watched, "CriticalWaitsAtIntake") <= 7


def test_a_tier_that_keeps_up_rings_no_age(watch):
    watched = watch(slow(3))
    for kind in KINDS.values():
        watched.send(*many(5, kind=kind))
    watched.run(15)
    assert [name for name in watched.ringing() if "Wait" in name] == []
    assert not any(watched.rang(f"{waits}ByOurRows") for waits in WAITING.values())


def test_a_function_that_fails_each_time_rings_though_the_age_of_its_messages_is_gone(watch, monkeypatch):
    """The first fault that no metric of ours can tell: none of our lines is reached."""
    watched = watch()
    monkeypatch.setattr(consumer, "answer", broken)
    watched.send(*many(3))
    watched.run(25)
    assert minutes_after(watched, "FunctionErrors") <= 15
    assert not watched.cloudwatch.rings("HighWaitsInQueue", watched.now), "after three receives SQS tells no age"


async def broken(*_: object, **__: object) -> None:
    raise RuntimeError("a release that cannot run")


def test_a_function_that_is_killed_once_rings_nothing(watch):
    watched = watch(None, Death(CHAT, 1))
    watched.send(*many(3))
    watched.run(25)
    assert len(watched.stage.stack.failures) == 1
    assert watched.rang("FunctionErrors") == []


@pytest.mark.parametrize(
    ("function", "timeout_minutes"), [("ConsumerHigh", 1), ("ConsumerNormal", 5), ("Assembler", 10), ("Poller", 10)]
)
def test_a_function_that_hangs_until_it_is_cut_off_rings(watch, monkeypatch, function, timeout_minutes):
    """Once near its timeout; as an error where it happens again. The other functions run, and are well."""
    watched = watch(by_hand={"Reporter"})
    for module, step in ((consumer, "answer"), (assembler, "assemble"), (poller, "collect_due")):
        if module.__name__ in function.lower():
            monkeypatch.setattr(module, step, hanging)
    if function.startswith("Consumer"):
        watched.send(*many(1, kind=KINDS[function.removeprefix("Consumer").upper()]))
    watched.run(15 + 5 * timeout_minutes)
    assert {run.function for run in watched.stage.stack.runs if run.failed} == {function}
    assert minutes_after(watched, "FunctionNearTimeout") <= 15 + timeout_minutes
    errors = "LongFunctionErrors" if timeout_minutes >= 5 else "FunctionErrors"
    assert minutes_after(watched, errors) <= 15 + 4 * timeout_minutes


async def hanging(system: Any, *_: object, **__: object) -> None:
    await system.clock.sleep(1_000)


def test_calls_that_take_all_the_time_that_they_have_are_no_hanging_function(watch):
    watched = watch()
    watched.send(*many(3, "[sim:timeout-once]"), *many(2, "[sim:timeout-once]", "live_chat_response"))
    watched.run(15)
    assert len(watched.stage.records()) == 5
    assert watched.rang("FunctionNearTimeout") == []


def test_throttles_ring_after_a_quarter_of_an_hour_and_a_burst_of_them_does_not(watch):
    watched = watch()
    for minute in range(60):
        if 30 <= minute < 50 or minute == 5:
            at = START + timedelta(minutes=minute)
            watched.cloudwatch.put("AWS/Lambda", "Throttles", 3, at, FunctionName="ConsumerHigh")
    rang = watched.cloudwatch.rang("FunctionThrottles", START, START + timedelta(minutes=60))
    assert rang[0] == START + timedelta(minutes=45)


def test_a_second_cause_of_dead_letters_rings_while_letters_of_the_first_lie_there(watch):
    watched = watch()
    watched.send(*many(9, "[sim:400]"))
    watched.run(15)
    first = watched.rang("NewDeadLetters")
    assert first != []
    assert not watched.cloudwatch.rings("NewDeadLetters", watched.now), "the first cause is over"
    assert watched.cloudwatch.rings("DeadLettersWaiting", watched.now), "its letters are not"
    before = watched.now
    watched.send("{no JSON")
    watched.run(7)
    assert watched.cloudwatch.rang("NewDeadLetters", before, watched.now) != []
    assert sum(watched.values("dead_letters")) == 10


def test_the_money_and_the_ends_that_the_handlers_print_are_the_ledgers(watch):
    watched = watch()
    watched.send(pack(*many(8), task("dead", text="[sim:400]"), task("slow", text="[sim:500-twice]")))
    watched.run(20)
    total = watched.stage.stack.system().ledger.total()
    settled = {
        status: sum(watched.values("tasks_settled", tier="HIGH", status=status)) for status in ("answered", "dead")
    }
    assert settled == {"answered": total.answered, "dead": total.dead} == {"answered": 9, "dead": 1}
    assert sum(watched.values("cost_usd", tier="HIGH")) == pytest.approx(float(total.cost_usd))
    assert len(watched.values("latency_s", tier="HIGH")) == total.answered
    assert len(watched.stage.stack.letters()) == 1
    assert watched.stage.stack.invoked["ConsumerHigh"] > 1


def test_routes_that_cannot_be_used_ring_and_the_good_ones_stay_in_force(watch):
    watched = watch(parameters={"RoutesParameter": "/routes"}, by_hand={"Reporter", "Assembler"})
    ssm = boto3.client("ssm")
    good = (files("lowtide") / "routes.toml").read_text("utf-8")
    ssm.put_parameter(Name="/routes", Value=good, Type="String", Tier="Advanced")
    watched.run(12)
    assert watched.rang("RoutesRefused") == []
    ssm.put_parameter(Name="/routes", Value="[tiers\n", Type="String", Overwrite=True)
    before = watched.now
    watched.run(8)
    assert watched.cloudwatch.rang("RoutesRefused", before, watched.now) != []
    watched.send(*many(2))
    watched.run(3)
    assert len(watched.stage.records()) == 2


def test_an_account_without_quota_rings(watch):
    watched = watch(outage(3_000, WindowKind.QUOTA), by_hand={"Reporter", "Assembler"})
    watched.send(*many(5))
    watched.run(12)
    assert watched.rang("AccountRefused") != []
    assert watched.rang("BreakerOpen") == []


def test_a_provider_that_is_away_opens_a_breaker_that_rings(watch):
    watched = watch(outage(3_000), by_hand={"Reporter", "Assembler"})
    watched.send(*many(6))
    watched.run(12)
    assert watched.rang("BreakerOpen") != []
    assert watched.rang("AccountRefused") == []


@pytest.mark.parametrize(("refused", "rings"), [(1, False), (3, True)])
def test_a_batch_whose_lines_fail_rings_above_five_percent(watch, refused, rings):
    watched = watch(Scenario(batch=BatchWeather(min_s=600, max_s=600)), by_hand={"Reporter"})
    lines = [low(f"l{number}", "[sim:refuse]" if number < refused else "hello") for number in range(30)]
    watched.send(pack(*lines))
    watched.run(30)
    assert len(watched.stage.records()) == 30
    assert bool(watched.rang("BatchItemsFailed")) is rings


@pytest.mark.parametrize("function", ["Assembler", "Poller"])
def test_a_function_that_is_not_run_any_more_is_silent_and_one_that_runs_is_not(watch, function):
    watched = watch(by_hand={"Reporter", function})
    watched.run(50)
    silent = {name for name in watched.ringing() if name.endswith("Silent")}
    assert silent == {f"{function}Silent", "ReporterSilent"}


def test_a_queue_that_fills_up_rings_against_what_is_usual(watch):
    """Half an hour of more than twice the usual; below 50 messages no tier is in trouble, so it takes more than 100."""
    watched = watch(by_hand=QUIET_SCHEDULES | {"ConsumerHigh"})
    for filled in (90, 0, 30, 0, 0, 0, 0, 0, 0):
        for _ in range(filled):
            watched.stage.stack.queues["HighQueue"].send("{}", "default")
        watched.run(1)
        watched.invoke("Reporter")
        watched.run(4)
    [first, *_] = watched.rang("HighDepthAboveNormal")
    assert timedelta(minutes=40) <= first - START <= timedelta(minutes=45)
    assert watched.rang("LowDepthAboveNormal") == []


@pytest.mark.parametrize(("this_week_usd", "rings"), [(130.0, True), (115.0, False)])
def test_a_task_that_costs_a_quarter_more_than_a_week_ago_rings(watch, this_week_usd, rings):
    watched = watch()
    history = boto3.client("cloudwatch")
    deployment, high = {"Name": "deployment", "Value": DEPLOYMENT}, {"Name": "tier", "Value": "HIGH"}
    answered = {"Name": "status", "Value": "answered"}
    for days, cost_usd in ((2, this_week_usd), (9, 100.0)):
        shared = {"Timestamp": START - timedelta(days=days)}
        cost = {"MetricName": "cost_usd", "Dimensions": [deployment, high], "Value": cost_usd}
        tasks = {"MetricName": "tasks_settled", "Dimensions": [deployment, high, answered], "Value": 200.0}
        history.put_metric_data(Namespace="lowtide", MetricData=[cost | shared, tasks | shared])
    for _ in range(3):
        watched.run(5, every=5)
        watched.invoke("Reporter")
        watched.run(55, every=5)
    assert bool(watched.rang("CostPerTaskUp")) is rings


@pytest.mark.parametrize(("queue", "alarm"), [("StrandedQueue", "StrandedMessages"), ("MissedRunsQueue", "MissedRuns")])
def test_what_aws_itself_gives_up_on_rings(watch, queue, alarm):
    watched = watch()
    watched.run(6)
    assert watched.rang(alarm) == []
    watched.stage.stack.queues[queue].send("{}", "default")
    watched.run(6)
    assert watched.rang(alarm) != []


def test_a_message_that_waits_for_days_rings_long_before_sqs_deletes_it(watch):
    watched = watch(by_hand=QUIET_SCHEDULES)
    watched.send(low("l"))
    watched.run(6 * 24 * 60, every=60)
    rang = watched.cloudwatch.rang("QueueAging", watched.now - timedelta(hours=2), watched.now)
    assert rang != []
    assert not watched.cloudwatch.rings("QueueAging", START + timedelta(days=4))


@pytest.mark.parametrize(("hours", "rings"), [(25, False), (27, True)])
def test_a_batch_that_is_open_past_its_day_rings(watch, hours, rings):
    watched = watch(
        Scenario(batch=BatchWeather(min_s=47 * 3_600, max_s=47 * 3_600)), by_hand={"Reporter", "Poller", "Assembler"}
    )
    watched.send(low("l", deadline_seconds=5 * 86_400))
    watched.run(1)
    for _ in range(3):
        watched.invoke("Assembler")
        watched.run(20, every=5)
    assert len(watched.stage.stack.system().batches.active()) == 1
    watched.run(hours * 60, every=30)
    watched.invoke("Poller")
    watched.run(6)
    assert bool(watched.rang("BatchOverdue")) is rings


def test_a_batch_that_no_row_knows_rings_once_it_is_swept(watch):
    lost = Mishap(kind=MishapKind.REPLY_LOST, batches=(1,))
    hours = BatchWeather(min_s=7_200, max_s=7_200, mishaps=(lost,), list_lag_s=1_200)
    watched = watch(Scenario(batch=hours), by_hand={"Reporter"})
    watched.send(pack(*(low(f"l{number}") for number in range(4))))
    watched.run(150)
    assert watched.rang("OrphanBatch") != []


@pytest.mark.parametrize(("overflow", "alarm"), [("shed", "AdmissionShedding"), ("wait", "AdmissionWaiting")])
def test_a_tier_past_its_cap_rings_for_what_it_sheds_or_keeps_waiting(watch, overflow, alarm):
    watched = watch(parameters={"RoutesParameter": "/routes"}, by_hand=QUIET_SCHEDULES | {"ConsumerHigh"})
    routes = (files("lowtide") / "routes.toml").read_text("utf-8")
    shipped = 'cap = { depth = 50_000, age_s = 900, overflow = "wait" }'
    assert shipped in routes
    capped = routes.replace(shipped, f'cap = {{ depth = 3, age_s = 900, overflow = "{overflow}" }}')
    boto3.client("ssm").put_parameter(Name="/routes", Value=capped, Type="String", Tier="Advanced")
    for _ in range(10):
        watched.stage.stack.queues["HighQueue"].send("{}", "default")
    watched.run(1)
    watched.send(*many(3))
    watched.run(16)
    assert watched.rang(alarm) != []
