"""Off-peak windows through the deployed handlers: a message that waits is hidden, and called at the lower price."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from importlib.resources import files

import boto3
from stack_cases import START, task

PARAMETER = "/lowtide/routes"


def off_peak_routes() -> str:
    """The shipped file, with calls on default at 60 % less from three hours after the start."""
    text = files("lowtide").joinpath("routes.toml").read_text("utf-8")
    opens = START + timedelta(hours=3)
    window = f'from = 2026-03-01, opens = {opens:%H:%M:%S}, closes = 23:00:00, discount = 0.6, lanes = ["default"]'
    return text.replace('window = "24h"', f'window = "24h"\noff_peak = [{{ {window} }}]')


def test_a_normal_task_with_hours_waits_on_its_queue_and_one_without_does_not(stage):
    played = stage(parameters={"RoutesParameter": PARAMETER})
    boto3.client("ssm").put_parameter(Name=PARAMETER, Value=off_peak_routes(), Type="String", Tier="Advanced")
    records = played.play(
        task("patient", "meeting_summary", model="gpt-4o-mini", deadline_seconds=6 * 3_600),
        task("hurried", "meeting_summary", model="gpt-4o-mini"),
        task("urgent", deadline_seconds=6 * 3_600),
    )
    assert records["patient"].finished_at >= START + timedelta(hours=3)
    assert records["patient"].deadline_met
    assert records["patient"].cost_usd == records["patient"].list_cost_usd * Decimal("0.4")
    for name in ("hurried", "urgent"):
        assert records[name].finished_at < START + timedelta(minutes=10)
        assert records[name].cost_usd == records[name].list_cost_usd
    assert played.metrics.total("tasks_waiting_off_peak") == 1
    assert played.stack.failures == []
