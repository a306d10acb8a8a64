"""The simulated provider on a real socket, and its webhooks."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from threading import Thread
from urllib.request import urlopen

import httpx2
import openai
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from lowtide.adapters.clock import WallClock
from lowtide.core.errors import LowtideError
from lowtide_local.simulator import Scenario, SimulatedProvider, build_app, listen
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Webhook
from lowtide_local.simulator.testing import SteppingClock, on_a_socket
from tests.simulator.sdk import sdk

SECRET = "whsec_bG93dGlkZS10ZXN0LXNlY3JldA=="
LINE = json.dumps(
    {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]},
    }
).encode()


async def submit(client):
    file = await client.files.create(file=("in.jsonl", LINE), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def test_on_a_socket_it_answers_breaks_connections_and_shows_its_bill():
    mishaps = (Mishap(kind=MishapKind.REPLY_LOST, batches=(1,)),)
    provider = SimulatedProvider(Scenario(batch=BatchWeather(mishaps=mishaps)), WallClock())

    async def visit(url):
        async with sdk(url) as client:
            await client.responses.create(model="gpt-5-mini", input="hi")
            with pytest.raises(openai.APIConnectionError):
                await client.responses.create(model="gpt-5-mini", input="hi [sim:drop]")
            with pytest.raises(openai.APIConnectionError):
                await submit(client)
            await submit(client)

    with on_a_socket(provider) as url:
        asyncio.run(visit(url))
        root = url.removesuffix("/v1")
        bill = json.load(urlopen(f"{root}/simulator/billing"))
        state = json.load(urlopen(f"{root}/simulator/state"))
    assert bill["calls"]["lines"] == 2
    assert [each["lines"] for each in bill["batches"].values()] == [1, 1]
    assert bill["totals"]["lines"] == len(bill["data"]) == 4
    assert state["requests"]["POST /v1/batches"] == 2
    assert len(state["batches"]) == 2


def test_serve_says_where_it_listens_and_ends_on_an_interrupt():
    code = "from lowtide_local.simulator import Scenario, serve; serve(0, Scenario.default())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().decode()
            url = said.split()[3]
            models = json.load(urlopen(f"{url}/models"))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)
    assert said.startswith("simulated provider on http://127.0.0.1:")
    assert url.endswith("/v1")
    assert models["object"] == "list"


def test_a_port_that_is_taken_is_one_clear_error():
    with listen(0) as taken:
        taken.listen()
        with pytest.raises(LowtideError, match="choose another port"):
            listen(taken.getsockname()[1])


def told(*, twice=False, answers=()):
    """A batch's end as told to a receiver that gives ``answers`` first and takes everything after."""
    received = []
    statuses = list(answers)

    async def receive(request):
        received.append((await request.body(), dict(request.headers)))
        return Response(status_code=statuses.pop(0) if statuses else 204)

    receiver = Starlette(routes=[Route("/hook", receive, methods=["POST"])])
    webhook = Webhook(url="http://receiver/hook", secret=SECRET, twice=twice)
    clock = SteppingClock()
    provider = SimulatedProvider(Scenario(batch=BatchWeather(min_s=10, max_s=10), webhook=webhook), clock)

    async def story():
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=receiver)) as hooks:
            transport = httpx2.ASGITransport(app=build_app(provider, webhook_client=hooks))
            http_client = httpx2.AsyncClient(transport=transport)
            client = sdk("http://simulated/v1", http_client=http_client)
            batch = await submit(client)
            clock.advance(5)
            await client.batches.retrieve(batch.id)
            assert received == []
            for _ in range(2 + len(answers)):
                clock.advance(30)
                await client.batches.retrieve(batch.id)
            return batch.id, client

    batch_id, client = asyncio.run(story())
    return batch_id, client, received


def test_the_end_of_a_batch_is_told_once_in_a_shape_that_the_sdk_verifies(monkeypatch):
    batch_id, client, [(payload, headers)] = told()
    # The SDK accepts five minutes of difference; the story's clock stands in 2026.
    monkeypatch.setattr("time.time", lambda: float(headers["webhook-timestamp"]))
    event = client.webhooks.unwrap(payload, headers, secret=SECRET)
    assert (event.type, event.data.id) == ("batch.completed", batch_id)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(payload + b" ", headers, secret=SECRET)


def test_a_webhook_may_come_twice_under_one_id():
    _, _, received = told(twice=True)
    assert len(received) == 2
    assert len({headers["webhook-id"] for _, headers in received}) == 1


def test_a_webhook_that_is_not_taken_comes_again():
    _, _, received = told(answers=(500, 500))
    assert len(received) == 3


def test_on_a_socket_the_end_of_a_batch_is_told_unasked():
    received: Queue[bytes] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            received.put(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    async def visit(url):
        async with sdk(url) as client:
            return await submit(client)

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        thread = Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            webhook = Webhook(url=f"http://127.0.0.1:{receiver.server_port}/", secret=SECRET)
            weather = BatchWeather(min_s=0.3, max_s=0.3)
            provider = SimulatedProvider(Scenario(batch=weather, webhook=webhook), WallClock())
            with on_a_socket(provider) as url:
                batch = asyncio.run(visit(url))
                event = json.loads(received.get(timeout=10))
        finally:
            receiver.shutdown()
            thread.join()
    assert (event["type"], event["data"]["id"]) == ("batch.completed", batch.id)
