"""Off-peak windows through the deployed handlers: a message that waits is hidden, and called at the lower price."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import boto3
import pytest
from stack_cases import START, task

PARAMETER = "/lowtide/routes"


def off_peak_routes() -> str:
    """Twelve lines over the shipped file: calls on default cost 60 % less from three hours after the start."""
    opens = START + timedelta(hours=3)
    return f"""\
# Ours, over what ships.
remove = ["types.lead_scoring"]

[providers.openai]
off_peak = [
    {{ from = 2026-03-01, opens = {opens:%H:%M:%S}, closes = 23:00:00, discount = 0.6, lanes = ["default"] }},
]

[types]
meeting_notes = {{ tier = "NORMAL", model = "standard" }}
[batching]
max_wait_s = 300
"""


@pytest.fixture(params=["parameter", "object"])
def put_routes(request):
    """Into the parameter itself, or into an object that it points to."""

    def put(played, text: str) -> None:
        assert text.count("\n") == 12
        if request.param == "object":
            bucket = played.stack.physical["Bucket"]
            boto3.client("s3").put_object(Bucket=bucket, Key="routes/1.toml", Body=text.encode())
            text = f"s3://{bucket}/routes/1.toml"
        boto3.client("ssm").put_parameter(Name=PARAMETER, Value=text, Type="String")

    return put


def test_a_normal_task_with_hours_waits_on_its_queue_and_one_without_does_not(stage, put_routes):
    played = stage(parameters={"RoutesParameter": PARAMETER})
    put_routes(played, off_peak_routes())
    records = played.play(
        task("patient", "meeting_notes", model="gpt-4o-mini", deadline_seconds=6 * 3_600),
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
