"""The other side: no key, no answer, no Batch API, gone half-way."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import contextmanager
from threading import Thread

import httpx2
import pytest
import uvicorn
from commands import (
    QUICK,
    WITHOUT_GRACE,
    batch_line,
    finish,
    lowtide,
    patched,
    read_lines,
    receipt,
    records,
    said,
    start,
    task,
    wait_for_line,
    wait_until,
    write_tasks,
)
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lowtide.adapters.clock import WallClock
from lowtide_local.cli.stop import ExitCode, Stop
from lowtide_local.run.endpoint import Endpoint
from lowtide_local.simulator import Scenario, SimulatedProvider, listen, server
from lowtide_local.simulator.scenario import BatchWeather
from lowtide_local.simulator.testing import on_a_socket, running

IMPATIENT = patched("import lowtide_local.run.contact as contact; contact.SILENCE_S = 1.5")


@pytest.fixture
def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def served(*routes: Route):
    """A server of ours on a socket; its base URL."""
    config = uvicorn.Config(Starlette(routes=list(routes)), log_level="critical")
    with running(uvicorn.Server(config)) as base_url:
        yield base_url


async def answer(request):
    body = await request.json()
    message = {"role": "assistant", "content": f"Hello from {body['model']}."}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return JSONResponse({"id": "chat-1", "choices": [{"index": 0, "message": message}], "usage": usage})


CHAT_ONLY = Route("/v1/chat/completions", answer, methods=["POST"])


def test_without_a_key_only_a_loopback_endpoint_is_asked(tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a")])
    ended = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", "http://example.invalid/v1")
    assert ended.code == 2
    assert said(ended) == "no key for http://example.invalid/v1: set OPENAI_API_KEY"
    ended = lowtide("run", tasks, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "no key for https://api.openai.com/v1" in said(ended)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("url", ["localhost:9000", "ftp://127.0.0.1/v1", "http://", "http://127.0.0.1:port/v1"])
def test_a_base_url_that_is_none_is_wrong_usage(url):
    with pytest.raises(Stop, match="is no http") as stopped:
        Endpoint.of(url, {"OPENAI_API_KEY": "key"})
    assert stopped.value.code is ExitCode.USAGE


def test_a_refused_connection_is_tried_for_five_seconds_and_leaves_nothing_in_the_way(simulator, tmp_path, free_port):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])
    command = ("run", tasks, "--out", tmp_path / "deep" / "out")
    url = f"http://127.0.0.1:{free_port}/v1"
    began = time.monotonic()
    ended = lowtide(*command, OPENAI_BASE_URL=url)
    assert time.monotonic() - began >= 4.5
    assert ended.code == 1
    assert said(ended).startswith(f"cannot reach {url}")
    assert not (tmp_path / "deep").exists()
    simulator(port=free_port)
    assert lowtide(*command, OPENAI_BASE_URL=url).code == 0
    assert set(records(tmp_path / "deep" / "out")) == {"a", "b"}


def test_a_refused_key_is_one_line_and_with_the_right_one_the_same_command_goes_on(simulator, tmp_path):
    provider = simulator(f'api_key = "right"\n{QUICK}')
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])
    for options in ((), ("--no-batch",)):
        ended = provider.run(tasks, tmp_path / "out", *options, OPENAI_API_KEY="wrong")
        assert ended.code == 1
        assert "refuses the key" in said(ended)
    assert provider.run(tasks, tmp_path / "out", OPENAI_API_KEY="right").code == 0


@pytest.mark.parametrize("tasks", [[task("a"), task("b")], [batch_line("a"), batch_line("b")]], ids=["calls", "batch"])
def test_an_account_that_is_refused_ends_the_run_and_mended_it_goes_on_at_once(simulator, tmp_path, tasks):
    provider = simulator(QUICK + '[[windows]]\nkind = "quota"\nfrom_s = 0.0\nto_s = 86400.0\n')
    file = write_tasks(tmp_path / "tasks.jsonl", tasks)
    ended = provider.run(file, tmp_path / "out")
    assert ended.code == 1
    last = ended.err.splitlines()[-1]
    assert last.startswith("lowtide: the provider refuses the account")
    assert "quota" in last
    provider.kill()
    mended = simulator(port=provider.port)
    # The grace period guards against a second creation, and is not what is tested here.
    assert mended.run(file, tmp_path / "out", program=WITHOUT_GRACE).code == 0
    assert set(records(tmp_path / "out")) == {"a", "b"}


def test_an_endpoint_without_a_batch_api_is_refused_while_something_is_to_be_batched(tmp_path):
    mixed = write_tasks(tmp_path / "mixed.jsonl", [task("a"), batch_line("b"), batch_line("c")])
    urgent = write_tasks(tmp_path / "urgent.jsonl", [task("a"), task("b")])
    with served(CHAT_ONLY) as url:
        ended = lowtide("run", mixed, "--out", tmp_path / "mixed", "--base-url", url)
        assert ended.code == 2
        assert "has no Batch API" in said(ended)
        assert "2 tasks of mixed.jsonl" in ended.err
        assert "--no-batch" in ended.err
        assert not (tmp_path / "mixed").exists()
        assert lowtide("run", mixed, "--out", tmp_path / "mixed", "--base-url", url, "--no-batch").code == 0
        assert lowtide("run", urgent, "--out", tmp_path / "urgent", "--base-url", url).code == 0
    assert set(records(tmp_path / "mixed")) == {"a", "b", "c"}
    assert {each["status"] for each in records(tmp_path / "urgent").values()} == {"answered"}
    assert records(tmp_path / "urgent")["a"]["usage"]["input_tokens"] == 3


def test_a_base_url_that_lacks_its_v1_is_hinted_at(tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [batch_line("a")])
    with served(CHAT_ONLY) as url:
        ended = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", url.removesuffix("/v1"))
    assert ended.code == 2
    assert "end in /v1" in said(ended)


def test_an_endpoint_that_always_fails_is_named_after_five_seconds(tmp_path):
    async def broken(_):
        return JSONResponse({"error": {"message": "out of order"}}, 503)

    tasks = write_tasks(tmp_path / "tasks.jsonl", [batch_line("a")])
    with served(Route("/v1/batches", broken)) as url:
        ended = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", url)
    assert ended.code == 1
    assert "out of order" in said(ended)
    assert not (tmp_path / "out").exists()


def test_a_provider_that_dies_half_way_ends_the_run_and_when_it_is_back_the_run_goes_on(simulator, tmp_path):
    provider = simulator(
        QUICK.replace("default = { min_s = 0.01, max_s = 0.05 }", "default = { min_s = 1, max_s = 2 }")
    )
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task(f"t{number}", prompt=f"{number}") for number in range(60)])
    process = provider.start(tasks, tmp_path / "out", program=IMPATIENT)
    wait_until(provider.billed)
    provider.kill()
    ended = finish(process)
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert any(line.startswith(f"cannot reach {provider.url}") for line in lines)
    assert lines[-1] == (
        f"lowtide: no contact with {provider.url} for 2 s; what was done is kept: repeat the command when it is back"
    )
    assert not (tmp_path / "out" / "results.jsonl").exists()
    back = simulator(port=provider.port)
    assert back.run(tasks, tmp_path / "out").code == 0
    assert len(records(tmp_path / "out")) == 60


def test_a_short_outage_is_told_and_survived(tmp_path):
    """The port is closed for a moment, and then the same provider listens again."""
    provider = SimulatedProvider(Scenario(batch=BatchWeather(min_s=3.0, max_s=3.0)), WallClock())
    tasks = write_tasks(tmp_path / "tasks.jsonl", [batch_line("a")])
    program = patched("import lowtide_local.run.contact as contact; contact.PROBE_S = 0.2")
    with on_a_socket(provider) as url:
        process = start("run", tasks, "--out", tmp_path / "out", "--base-url", url, program=program)
        wait_until(lambda: provider.requests["GET /v1/batches/{id}"])
    told = wait_for_line(process, "cannot reach")
    with listen(int(url.split(":")[2].removesuffix("/v1"))) as listener:
        back = server(provider)
        thread = Thread(target=back.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            ended = finish(process)
        finally:
            back.should_exit = True
            thread.join()
    assert f"cannot reach {url}" in told
    assert ended.code == 0
    assert f"{url} answers again" in ended.err
    assert set(records(tmp_path / "out")) == {"a"}
    assert len(provider.billed) == 1


def test_a_batch_that_the_provider_forgot_is_told_at_once_and_sent_anew_in_the_end(simulator, tmp_path):
    provider = simulator(QUICK.replace("min_s = 0.1", "min_s = 60").replace("max_s = 0.3", "max_s = 60"))
    tasks = write_tasks(tmp_path / "tasks.jsonl", [batch_line("a"), batch_line("b")])
    process = provider.start(tasks, tmp_path / "out")
    wait_until(provider.batches)
    [forgotten] = [each["id"] for each in provider.batches()]
    provider.kill()
    forgetful = simulator(port=provider.port)
    wait_for_line(process, f"does not know {forgotten}")
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 1
    hurried = patched(
        "from datetime import timedelta\n"
        "import lowtide.core.rescues as rescues; rescues.GIVEN_UP_AFTER = timedelta(seconds=1)\n"
        "import lowtide_local.run.command as run; run.RETRY_BATCH_S = 0.1"
    )
    assert forgetful.run(tasks, tmp_path / "out", program=hurried).code == 0
    assert {each["attempts"] for each in records(tmp_path / "out").values()} == {2}
    assert receipt(tmp_path / "out")["answered"] == 2


def test_files_that_the_provider_will_not_delete_are_named_and_do_not_keep_the_run_from_ending(simulator, tmp_path):
    """In front of a simulated provider, one that forbids deletions."""
    provider = simulator()
    tasks = write_tasks(tmp_path / "tasks.jsonl", [batch_line("a")])
    with served(*_forwarding(provider.root)) as url:
        ended = lowtide("run", tasks, "--out", tmp_path / "out", "--base-url", url)
    assert ended.code == 0
    assert "left at the provider" in ended.err
    assert "file-" in ended.err
    assert read_lines(tmp_path / "out" / "results.jsonl")[0]["status"] == "answered"


def _forwarding(root):
    async def forward(request):
        if request.method == "DELETE":
            return JSONResponse({"error": {"message": "you may not delete"}}, 403)
        async with httpx2.AsyncClient(timeout=30) as client:
            reply = await client.request(
                request.method,
                f"{root}{request.url.path}?{request.url.query}",
                content=await request.body(),
                headers={name: request.headers[name] for name in ("content-type",) if name in request.headers},
            )
        return Response(reply.content, reply.status_code, media_type=reply.headers.get("content-type"))

    return [Route("/{path:path}", forward, methods=["GET", "POST", "DELETE"])]
