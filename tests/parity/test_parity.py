"""The same 200 tasks end in the same records on both engines."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from engines import on_moto, on_the_embedded_engine

from lowtide.core.records import Status
from lowtide_local.demo.day import arrivals
from lowtide_local.simulator.scenario import BatchWeather, CallFaults, Latencies, Latency, Scenario

TASKS = 200

WEATHER = Scenario(
    seed=5,
    latency=Latencies(
        default=Latency(min_s=0.4, max_s=2.5), flex=Latency(min_s=4, max_s=30), embeddings=Latency(min_s=0.1, max_s=0.3)
    ),
    calls=CallFaults(server_error=0.1, rate_limited=0.1, flex_unavailable=0.3, refused=0.03),
    batch=BatchWeather(min_s=900, max_s=900, item_server_error=0.1, item_rate_limited=0.05, shuffled=True),
)
"""Fates follow from requests alone: no window, no mishap of a batch, nothing that a different order would change."""


def from_the_demo():
    """The day's tasks with its strays, and what it lacks: packs, endpoints, tags, priorities, deadlines too short."""
    dice = random.Random(11)
    messages = [arrival.body for arrival in arrivals(TASKS - 20, 11)]
    tasks = []
    for number in range(20):
        priority = dice.choice(["CRITICAL", "HIGH", "NORMAL", "LOW", 1, 2, 3])
        body = {"model": "gpt-5-mini", "input": f"question {number}"}
        task = {"task_id": f"extra-{number}", "priority": priority, "tenant": "initech", "tags": {"n": str(number)}}
        url = "/v1/responses"
        if number % 3 == 0:
            url, body = "/v1/embeddings", {"model": "text-embedding-3-small", "input": ["one", f"{number}"]}
        if number % 5 == 0:
            task["deadline_seconds"] = 0.001
        tasks.append(task | {"request": {"url": url, "body": body}})
    broken = {"task_id": "broken", "priority": "HIGH", "request": {"url": "/v1/nowhere", "body": {}}}
    packs = [{"tasks": [*tasks[:10], broken]}, {"tasks": tasks[10:]}]
    return messages + [orjson.dumps(pack).decode() for pack in packs]


def from_the_workload():
    shared = Path(os.environ.get("LOWTIDE_SHARED", Path(__file__).parents[3] / "shared"))
    tool = shared / "tools" / "make_workload.py"
    if not tool.exists():
        pytest.skip("make_workload.py is neither in $LOWTIDE_SHARED nor beside the clone")
    command = [sys.executable, tool, "--tasks", str(TASKS), "--seed", "3", "--bad", "16"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("messages", [from_the_demo, from_the_workload], ids=["demo", "workload"])
def test_the_same_tasks_end_in_the_same_records_on_both_engines(messages, tmp_path):
    sent = messages()
    embedded = on_the_embedded_engine(sent, WEATHER, tmp_path)
    moto = on_moto(sent, WEATHER)
    assert len(embedded.records) == TASKS
    assert embedded.records.keys() == moto.records.keys()
    assert {key: told for key, told in embedded.records.items() if moto.records[key] != told} == {}
    assert embedded.ledger == moto.ledger
    assert embedded.letters == moto.letters
    assert embedded.billed == moto.billed
    # Not the same because nothing happened: both ways, all lanes, and some that could not be answered.
    lanes = {told["lane"] for told in moto.records.values()}
    assert {"default", "flex", "batch"} <= lanes
    assert any(told["status"] is Status.DEAD for told in moto.records.values())
