"""A refused account, a wrong address, a batch that nobody takes: said in the provider's words, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
from commands import QUICK, SOON, batch_line, lowtide, receipt, records, task, write_tasks
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount
from test_cli_endpoint import served

from lowtide.adapters.clock import WallClock
from lowtide_local.simulator import Scenario, SimulatedProvider
from lowtide_local.simulator.app import build_app

Said = Callable[[str, str], Response | None]


class Meddling:
    """The simulated provider, some of whose requests are answered as ``said`` has it: by method and path."""

    def __init__(self, scenario: str = QUICK) -> None:
        self.provider = SimulatedProvider(Scenario.parse(scenario, "quick"), WallClock())
        self._app = build_app(self.provider)
        self.said: Said = lambda _method, _path: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        told = self.said(scope["method"], scope["path"]) if scope["type"] == "http" else None
        await (told or self._app)(scope, receive, send)


@contextmanager
def meddling(scenario: str = QUICK):
    server = Meddling(scenario)
    with served(Mount("/", app=server)) as url:
        yield server, url


def refusing_calls(status: int, body: Any) -> Said:
    def said(method: str, path: str) -> Response | None:
        if (method, path) != ("POST", "/v1/chat/completions"):
            return None
        return JSONResponse(body, status) if not isinstance(body, str) else PlainTextResponse(body, status)

    return said


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (404, "<html><head><title>404 Not Found</title></head></html>", "404 Not Found"),
        (403, {"error": {"message": "Forbidden", "type": "permission_error"}}, "Forbidden"),
        (402, {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}, "Insufficient Balance"),
        (400, {"error": {"message": "Hard limit.", "code": "billing_hard_limit_reached"}}, "Hard limit."),
        (200, {"error": {"message": "Insufficient credits", "code": 402}, "choices": None}, "Insufficient credits"),
    ],
)
def test_a_refused_account_or_a_wrong_address_is_said_and_the_same_command_goes_on(tmp_path, status, body, sentence):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [*(task(f"t{number}") for number in range(4)), batch_line("low")])
    with meddling() as (server, url):
        server.said = refusing_calls(status, body)
        command = ("run", tasks, "--out", tmp_path / "out", "--base-url", url)
        ended = lowtide(*command)
        assert ended.code == 1
        assert sentence in ended.err.splitlines()[-1]
        assert ended.err.splitlines()[-1].startswith("lowtide: the provider refuses the account")
        assert not (tmp_path / "out" / "dead.jsonl").exists()
        server.said = lambda _method, _path: None
        assert lowtide(*command).code == 0
    assert {record["status"] for record in records(tmp_path / "out").values()} == {"answered"}
    assert receipt(tmp_path / "out")["dead"] == 0


@pytest.mark.parametrize("lists_models", [True, False])
def test_a_task_that_alone_is_forbidden_is_dead_and_its_neighbours_are_answered(tmp_path, lists_models):
    tasks = write_tasks(
        tmp_path / "tasks.jsonl", [task("bad", prompt="SELECT"), *(task(f"t{number}") for number in range(30))]
    )
    with meddling() as (server, url):
        gone = JSONResponse({"detail": "Not Found"}, 404)
        server.said = lambda _method, path: None if lists_models or path != "/v1/models" else gone
        refused = _by_prompt(server, b"SELECT", JSONResponse({"error": {"message": "Forbidden"}}, 403))
        ended = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", url)
    assert ended.code == 3, ended.err
    found = records(tmp_path / "out")
    assert (found.pop("bad")["status"], {record["status"] for record in found.values()}) == ("dead", {"answered"})
    assert len(refused) <= 5


def _by_prompt(server: Meddling, text: bytes, response: Response) -> list[bytes]:
    """Calls with this in their body are answered so; those that were."""
    refused: list[bytes] = []
    app = server._app

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/v1/chat/completions":
            await app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if text in body:
            refused.append(body)
            await response(scope, receive, send)
            return

        async def again() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        await app(scope, again, send)

    server._app = wrapped
    return refused


def test_an_endpoint_that_takes_no_batch_is_said_after_three_tries_and_nothing_is_dead(tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("now"), batch_line("low")])
    with meddling() as (server, url):
        error = {"message": "Cannot find file.", "type": "invalid_request_error", "param": "input_file_id"}

        def said(method: str, path: str) -> Response | None:
            return JSONResponse({"error": error}, 400) if (method, path) == ("POST", "/v1/batches") else None

        server.said = said
        command = ("run", tasks, "--out", tmp_path / "out", "--base-url", url)
        ended = lowtide(*command, program=SOON)
        assert ended.code == 1
        assert "the provider takes no batch (Cannot find file.)" in ended.err.splitlines()[-1]
        server.said = lambda _method, _path: None
        assert lowtide(*command, program=SOON).code == 0
        assert server.provider.requests["POST /v1/batches"] == 1
        assert server.provider.state()["files"] == []
    assert {record["attempts"] for record in records(tmp_path / "out").values()} == {1}


def test_a_batch_that_fails_for_an_empty_account_goes_on_after_a_top_up(tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [batch_line(f"low-{number}") for number in range(16)])
    failing = QUICK + '[[batch.mishaps]]\nkind = "fails_validation"\nbatches = [1]\n'
    with meddling(failing) as (server, url):
        usual = server.provider._new_batch

        def out_of_quota(*given: Any) -> Any:
            batch = usual(*given)
            batch.faults = [fault.model_copy(update={"code": "insufficient_quota"}) for fault in batch.faults]
            return batch

        server.provider._new_batch = out_of_quota
        command = ("run", tasks, "--out", tmp_path / "out", "--base-url", url)
        ended = lowtide(*command)
        assert ended.code == 1
        assert "insufficient_quota" in ended.err.splitlines()[-1]
        assert lowtide(*command).code == 0
        assert server.provider.requests["POST /v1/batches"] == 2
    assert {record["attempts"] for record in records(tmp_path / "out").values()} == {1}


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (403, {"message": "Missing scopes: api.files.read", "code": "missing_scope"}, "Missing scopes: api.files.read"),
        (403, {"message": "You may not read this file."}, "You may not read this file."),
        (401, {"message": "Incorrect API key provided.", "code": "invalid_api_key"}, "Incorrect API key provided."),
    ],
)
def test_results_that_the_key_may_not_read_end_the_run_in_words_and_are_read_once_it_may(
    tmp_path, status, error, sentence
):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [batch_line(f"t{number}") for number in range(4)])
    with meddling() as (server, url):
        command = ("run", tasks, "--out", tmp_path / "out", "--base-url", url)
        server.said = lambda _method, path: (
            JSONResponse({"error": error}, status) if path.endswith("/content") else None
        )
        for _ in range(2):
            ended = lowtide(*command, program=SOON)
            assert ended.code == 1
            assert sentence in ended.err.splitlines()[-1]
        server.said = lambda _method, _path: None
        assert lowtide(*command, program=SOON).code == 0
        assert server.provider.requests["POST /v1/batches"] == 1
        assert len(server.provider.billed) == 4
    assert {record["status"] for record in records(tmp_path / "out").values()} == {"answered"}
    assert receipt(tmp_path / "out")["repaid"] == 0
