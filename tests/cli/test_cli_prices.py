"""The prices that a receipt uses: said on it, in the summary and in the report, and decided by the endpoint's host."""

from __future__ import annotations

import json

import pytest
import uvicorn
from commands import lowtide, read_lines, receipt, task, write_tasks

from lowtide.adapters.clock import WallClock
from lowtide.adapters.shipped import shipped_prices
from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.app import build_app
from lowtide_local.simulator.scenario import Latencies, Latency
from lowtide_local.simulator.testing import running

INSTANT = Latencies(default=Latency(min_s=0.01, max_s=0.02))

TABLE = {
    "generated_at": "2026-10-01",
    "sources": [],
    "models": {"gpt-6-luna": [{"from": "2026-01-01", "lanes": {"default": {"input": "1", "output": "2"}}}]},
}


HOST = "http://llm.example"


def proxied(app):
    """The application behind a proxy, which is told the whole URL."""

    async def answer(scope, receive, send):
        if scope["type"] == "http":
            path = scope["path"].removeprefix("/").removeprefix(HOST)
            scope = scope | {"path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return answer


@pytest.fixture(scope="module")
def foreign():
    """The simulated provider as a stranger, on a host of its own: its base URL, and the environment to reach it in."""
    app = proxied(build_app(SimulatedProvider(Scenario(seed=3, latency=INSTANT), WallClock())))
    with running(uvicorn.Server(uvicorn.Config(app, log_level="critical"))) as base_url:
        yield f"{HOST}/v1", {"OPENAI_API_KEY": "key", "HTTP_PROXY": base_url.removesuffix("/v1")}


@pytest.fixture
def tasks(tmp_path):
    return write_tasks(tmp_path / "tasks.jsonl", [task(f"t{number}", "email_draft") for number in range(3)])


def test_a_simulator_on_this_machine_is_priced_as_openai_and_the_receipt_says_that_it_is_assumed(
    provider, tasks, tmp_path
):
    done = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", provider.url)
    assert done.code == 0
    day = shipped_prices().generated_at.isoformat()
    assert receipt(tmp_path / "out")["prices"]["table"] == "openai"
    assert receipt(tmp_path / "out")["prices"]["assumed"] is True
    assert receipt(tmp_path / "out")["prices"]["generated_at"] == day
    told = f"openai, of {day}, though this provider is not OpenAI"
    assert f"prices: {told}" in done.out
    assert f"Prices: {told}" in (tmp_path / "out" / "report.html").read_text()


def test_a_foreign_host_saves_nothing_and_the_run_says_how_to_have_it_priced(foreign, tasks, tmp_path):
    base_url, env = foreign
    done = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", base_url, **env)
    assert done.code == 0, done.err
    found = receipt(tmp_path / "out")
    assert found["prices"] == {"table": "none", "generated_at": None, "assumed": False, "stale": False}
    assert (found["answered"], found["unpriced"], found["cost_usd"], found["saved_usd"]) == (3, 3, "0", "0")
    assert {record["unpriced"] for record in read_lines(tmp_path / "out" / "results.jsonl")} == {"foreign_provider"}
    assert "--prices openai" in done.err


@pytest.mark.parametrize(("prices", "unpriced"), [("openai", 0), ("none", 3)])
def test_a_command_may_say_whose_prices_a_foreign_host_has(foreign, tasks, tmp_path, prices, unpriced):
    base_url, env = foreign
    out = tmp_path / "out"
    done = lowtide("run", tasks, "--out", out, "--base-url", base_url, "--prices", prices, **env)
    assert done.code == 0, done.err
    assert (receipt(out)["unpriced"], receipt(out)["prices"]["table"]) == (unpriced, prices)
    assert "give --prices" not in done.err


def test_a_command_may_bring_a_table_of_its_own_and_keeps_to_it(foreign, tasks, tmp_path):
    base_url, env = foreign
    own, out = tmp_path / "mine.json", tmp_path / "out"
    own.write_text(json.dumps(TABLE))
    luna = [task(f"t{n}", "email_draft") for n in range(2)]
    for each in luna:
        each["request"]["body"]["model"] = "gpt-6-luna"
    write_tasks(tasks, luna)
    command = ("run", tasks, "--out", out, "--base-url", base_url, "--prices", own)
    done = lowtide(*command, **env)
    assert done.code == 0, done.err
    assert receipt(out)["prices"]["table"] == str(own)
    assert receipt(out)["unpriced"] == 0
    assert lowtide(*command, **env).code == 0
    other = lowtide(*command[:-1], "openai", **env)
    assert (other.code, "another --prices" in other.err) == (2, True)


@pytest.mark.parametrize("text", [None, "{}", "[1]"])
def test_a_table_that_cannot_be_used_ends_the_command_before_anything_is_made(provider, tasks, tmp_path, text):
    own, out = tmp_path / "mine.json", tmp_path / "out"
    if text is not None:
        own.write_text(text)
    done = lowtide("run", tasks, "--out", out, "--base-url", provider.url, "--prices", own)
    assert done.code == 2
    assert "mine.json" in done.err
    assert not out.exists()
