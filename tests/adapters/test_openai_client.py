"""The client of a provider: its query, its proxies and the certificates that it trusts."""

from __future__ import annotations

import io
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2
import pytest

from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.batches import OpenAIBatches
from lowtide.adapters.openai.client import build_client, build_http_client
from lowtide.core.errors import ConfigError, Unreachable
from lowtide.core.lanes import Lane
from lowtide.core.task import Endpoint
from lowtide.ports import Call, SubmissionKey
from lowtide_local.simulator.testing import SteppingClock
from tests.adapters.certificates import private_ca_in

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
KEY = SubmissionKey("run-1", "b-1", 1)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in (*PROXIES, *(name.lower() for name in PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


async def every_call(base_url, http_client):
    """Each kind of request that lowtide sends, once."""
    client = build_client(base_url=base_url, api_key="k", http_client=http_client)
    answers, batches = OpenAIAnswers(client), OpenAIBatches(client, SteppingClock())
    for endpoint in Endpoint:
        await answers.answer(Call(endpoint, {"model": "m"}, Lane.DEFAULT, call_id="c", timeout_s=5.0))
    await batches.prepare(KEY, io.BytesIO(b"{}\n"))
    batch = await batches.create(KEY, Endpoint.CHAT, "file-1")
    await batches.find(KEY, "file-1")
    await batches.get("batch-1")
    _ = [line async for line in batches.results(batch)]
    await batches.cancel("batch-1")
    await batches.clean(["file-1"])
    _ = [each async for each in batches.owned("run-1")]
    await batches.supported()


@pytest.mark.anyio
async def test_the_query_of_a_base_url_goes_with_every_request_and_beside_each_ones_own():
    seen: list[httpx2.URL] = []

    def reply(request):
        seen.append(request.url)
        if request.url.path.endswith("/content"):
            return httpx2.Response(200, content=b"{}\n")
        if request.method == "GET" and request.url.path in ("/openai/batches", "/openai/files"):
            row = {"id": f"x-{len(seen)}", "created_at": 1}
            return httpx2.Response(200, json={"data": [row], "has_more": "after" not in request.url.params})
        return httpx2.Response(200, json={"id": "batch-1", "status": "completed", "output_file_id": "file-2"})

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(reply))
    await every_call("https://x.example/openai/?api-version=2025-04-01-preview&label=a%20b&empty=", http_client)
    assert {url.path for url in seen} == {
        *("/openai/chat/completions", "/openai/responses", "/openai/embeddings", "/openai/files", "/openai/batches"),
        *("/openai/files/file-1", "/openai/files/file-2/content", "/openai/batches/batch-1"),
        "/openai/batches/batch-1/cancel",
    }
    for url in seen:
        ours = [(name, value) for name, value in url.params.multi_items() if name not in ("limit", "after", "order")]
        assert sorted(ours, key=lambda pair: pair[0] != "api-version")[:1] == [("api-version", "2025-04-01-preview")]
        assert url.params.get_list("label") == ["a b"]
        assert url.params.get_list("empty") == [""]
    lists = [url for url in seen if url.path in ("/openai/batches", "/openai/files") and "limit" in url.params]
    assert any("after" in url.params for url in lists)
    assert {url.params["limit"] for url in lists} == {"100", "1"}


@pytest.mark.anyio
async def test_without_a_query_nothing_is_added():
    seen = []

    def reply(request):
        seen.append(str(request.url))
        return httpx2.Response(200, json={"data": [], "id": "batch-1", "output_file_id": None})

    await every_call("https://x.example/v1", httpx2.AsyncClient(transport=httpx2.MockTransport(reply)))
    assert "https://x.example/v1/chat/completions" in seen
    assert "https://x.example/v1/batches?limit=1" in seen


class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.path)
        body = b'{"data": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def listening(context=None, host="127.0.0.1"):
    """A server that answers every GET; its port, and the paths that it is asked for."""
    with ThreadingHTTPServer((host, 0), Answering) as server:
        server.seen = []
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1], server.seen
        finally:
            server.shutdown()
            thread.join()


async def supported(base_url):
    async with build_http_client(base_url) as http_client:
        client = build_client(base_url=base_url, api_key="k", http_client=http_client)
        return await OpenAIBatches(client, SteppingClock()).supported()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::ffff:127.0.0.1]", "0.0.0.0"])
@pytest.mark.anyio
async def test_this_machine_is_asked_directly_whatever_proxy_is_set(monkeypatch, host):
    with listening(host="0.0.0.0") as (port, seen), listening() as (proxy, through):
        for name in ("HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        assert await supported(f"http://{host}:{port}/v1")
    assert seen == ["/v1/batches?limit=1"]
    assert through == []


@pytest.mark.anyio
async def test_other_machines_are_asked_through_the_proxy(monkeypatch):
    with listening() as (proxy, through):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy}")
        assert await supported("http://provider.invalid/v1?api-version=1")
    [asked] = through
    assert asked.startswith("http://provider.invalid/v1/batches?")
    assert sorted(asked.partition("?")[2].split("&")) == ["api-version=1", "limit=1"]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("HTTPS_PROXY", "socks5://user:hunter2@127.0.0.1:1080", "socksio"),
        ("ALL_PROXY", "socks5h://127.0.0.1:1080", "socksio"),
        ("HTTP_PROXY", "socks4://127.0.0.1:1080", "no proxy that can be used"),
        ("HTTP_PROXY", "ftp://127.0.0.1", "no proxy that can be used"),
        ("http_proxy", "http://[", "no proxy that can be used"),
        ("HTTPS_PROXY", "http://127.0.0.1:port", "no proxy that can be used"),
        ("HTTPS_PROXY", "http://127.0.0.1:99999", "no proxy that can be used"),
        ("HTTPS_PROXY", "http://", "no proxy that can be used"),
        ("HTTPS_PROXY", "http://\x00", "no proxy that can be used"),
        ("ALL_PROXY", ":::", "no proxy that can be used"),
        ("ALL_PROXY", "pröxy grün", "no proxy that can be used"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_and_not_shown(monkeypatch, name, value, why):
    if "\x00" in value:
        monkeypatch.setattr("lowtide.adapters.openai.client.getproxies", lambda: {"https": value})
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name.upper()) as refused:
        build_http_client("https://provider.invalid/v1")
    assert why in str(refused.value)
    assert "hunter2" not in str(refused.value)
    build_http_client("http://localhost/v1")


@pytest.mark.parametrize("excepted", ["*", "[,]", "http://[", ":::", "a b", "*.example,\t,::1/999", "ü"])
def test_whatever_no_proxy_holds_a_client_is_built(monkeypatch, excepted):
    monkeypatch.setenv("NO_PROXY", excepted)
    monkeypatch.setenv("HTTP_PROXY", "ftp://" if excepted == "*" else "http://127.0.0.1:1")
    build_http_client("http://provider.invalid/v1")


@pytest.fixture(scope="module")
def private_ca(tmp_path_factory):
    return private_ca_in(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.anyio
async def test_a_private_ca_is_trusted_on_this_machine_too(monkeypatch, private_ca, host):
    with listening(private_ca.server_context()) as (port, seen):
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await supported(f"https://{host}:{port}/v1")
        monkeypatch.setenv("SSL_CERT_FILE", str(private_ca.ca))
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        assert await supported(f"https://{host}:{port}/v1")
    assert seen == ["/v1/batches?limit=1"]


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
@pytest.mark.parametrize("base_url", ["https://localhost/v1", "https://provider.invalid/v1"])
def test_certificates_that_cannot_be_read_are_named(monkeypatch, tmp_path, base_url, content):
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        build_http_client(base_url)
