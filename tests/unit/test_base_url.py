"""What people paste for a base URL: understood, or refused with what is wrong and without what is secret in it."""

from __future__ import annotations

import httpx2
import pytest

from lowtide.core.loopback import is_loopback
from lowtide_local.cli.stop import ExitCode, Stop
from lowtide_local.run.base_url import BaseUrl
from lowtide_local.run.endpoint import Endpoint


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("  http://localhost:9000/v1\r\n", "http://localhost:9000/v1"),
        ("\ufeffhttps://api.openai.com/v1", "https://api.openai.com/v1"),
        ("http://localhost:9000/v1///", "http://localhost:9000/v1"),
        ("HTTPS://API.OpenAI.com:443/v1", "https://api.openai.com/v1"),
        ("http://[::1]:9000/v1", "http://[::1]:9000/v1"),
        ("http://müller.example/v1", "http://xn--mller-kva.example/v1"),
        ("http://localhost:/v1", "http://localhost/v1"),
        ("https://gateway.example", "https://gateway.example"),
    ],
)
def test_a_url_is_taken_however_it_is_written(text, url):
    assert BaseUrl.of(text, "--base-url") == BaseUrl(url)
    httpx2.URL(url)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/chat/completions/", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/responses", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/models/gpt-5-mini", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/batches/batch_1/cancel", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/files/file-1/content", "https://api.openai.com/v1"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1"),
        ("https://x.example/v1beta/openai/models", "https://x.example/v1beta/openai"),
        ("https://x.example/openai/deployments/d/chat/completions", "https://x.example/openai/deployments/d"),
        ("https://x.example/openai/deployments/d/embeddings", "https://x.example/openai/deployments/d"),
        ("http://localhost:9000/embeddings", "http://localhost:9000"),
    ],
)
def test_a_pasted_call_is_cut_back_to_what_all_calls_have_in_common_and_said(text, url):
    read = BaseUrl.of(text, "--base-url")
    assert read.url == url
    assert read.note is not None
    assert f"{url} is taken as the base URL" in read.note


@pytest.mark.parametrize(
    "text",
    [
        "https://x.services.ai.azure.com/models",
        "https://gateway.example/v1/account/gateway/openai",
        "https://x.example/models/llama/v1",
        "https://api.groq.com/openai/v1",
        "https://x.example/files-of-ours/v1",
    ],
)
def test_a_base_that_only_looks_like_a_call_stays(text):
    assert BaseUrl.of(text, "--base-url") == BaseUrl(text)


def test_a_query_is_kept_apart_and_never_shown():
    read = BaseUrl.of("https://x.example/v1/chat/completions?api-version=2025-04-01&sig=a%2Fb", "--base-url")
    assert read.url == "https://x.example/v1"
    assert read.query == "api-version=2025-04-01&sig=a%2Fb"
    endpoint = Endpoint(read.url, "key", read.query)
    assert endpoint.address == "https://x.example/v1?api-version=2025-04-01&sig=a%2Fb"
    assert "sig" not in (read.note or "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("localhost:9000/v1", "does not begin with http"),
        ("127.0.0.1:9000", "does not begin with http"),
        ("api.openai.com/v1", "does not begin with http"),
        ("http:/localhost/v1", "does not begin with http"),
        ("http:\\\\localhost\\v1", "does not begin with http"),
        ("//localhost/v1", "does not begin with http"),
        ("'http://localhost/v1'", "is not spoken"),
        ("ftp://localhost/v1", "is not spoken"),
        ("ws://localhost/v1", "is not spoken"),
        ("http://", "names no host"),
        ("http:///v1", "names no host"),
        ("http://:9000/v1", "no host"),
        ("http://local host/v1", "blank"),
        ("http://localhost/v1 --no-batch", "blank"),
        ("http://local\nhost/v1", "cannot be seen"),
        ("http://localhost/v1\u00a0/x", "cannot be seen"),
        ("http://localhost\x1b[31m/v1", "cannot be seen"),
        ("http://localhost:port/v1", "a port is a number"),
        ("http://localhost:99999/v1", "a port is a number"),
        ("http://localhost:0/v1", "a port is a number"),
        ("http://localhost:-1/v1", "a port is a number"),
        ("http://localhost:8_0/v1", "a port is a number"),
        ("http://localhost:٣/v1", "a port is a number"),
        ("http://localhost:9000:9000/v1", "stands in brackets"),
        ("http://::1:9000/v1", "stands in brackets"),
        ("http://[::1/v1", "brackets"),
        ("http://[localhost]/v1", "brackets"),
        ("http://[1:2]/v1", "brackets"),
        ("http://1.2.3.400/v1", "IPv4"),
        ("http://*/v1", "no host has such a name"),
        ("http://a..b/v1", "no host has such a name"),
        ("http://.example/v1", "no host has such a name"),
        ("http://%20/v1", "no host has such a name"),
        ("http://ｌｏｃａｌｈｏｓｔ/v1", "is no http"),
        ("http://x.example/v1#chat", "fragment"),
        ("http://x.example/v1?a=1&a=2", "twice"),
        ("", "is empty"),
        (" \r\n", "is empty"),
        ("http://" + "x" * 100_000, "too long"),
    ],
)
def test_what_is_no_base_url_is_refused_with_its_reason(text, why):
    with pytest.raises(Stop, match="--base-url") as stopped:
        BaseUrl.of(text, "--base-url")
    assert why in str(stopped.value)
    assert stopped.value.code is ExitCode.USAGE
    assert str(stopped.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter2@x.example/v1",
        "user:hunter2@x.example/v1",
        "http:/user:hunter2@x.example/v1",
        "https://user:hunter2/3@x.example/v1",
        "https://user:@x.example/v1?hunter2",
        "https://x.example:port/v1?key=hunter2",
        "https://x.example/v1?key=hunter2#",
        "htps://x.example/v1?key=hunter2",
    ],
)
def test_a_refusal_shows_no_password_and_no_query(text):
    with pytest.raises(Stop) as stopped:
        BaseUrl.of(text, "--base-url")
    assert "hunter2" not in str(stopped.value)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "api.localhost", "127.0.0.1", "127.8.9.10", "::1"),
        *("::ffff:127.0.0.1", "::ffff:7f00:1", "0.0.0.0", "::", "::1%lo"),
    ],
)
def test_this_machine_is_known_by_all_its_names(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "example.com", "localhost.example.com", "notlocalhost", "128.0.0.1", "10.0.0.1", "::ffff:10.0.0.1"]
)
def test_other_machines_are_not_this_one(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", "a\nb"),
        ("OPENAI_API_KEY", "schlüssel"),
        ("OPENAI_API_KEY", "a\u200bb"),
        ("OPENAI_API_KEY", "a\x7fb"),
        ("OPENAI_ORG_ID", "a\r\nb"),
        ("OPENAI_PROJECT_ID", "pröject"),
        ("OPENAI_CUSTOM_HEADERS", "x-team: grün"),
        ("OPENAI_CUSTOM_HEADERS", "x team: green"),
        ("OPENAI_CUSTOM_HEADERS", ": green"),
    ],
)
def test_what_no_header_can_carry_is_refused_by_the_name_of_its_variable(name, value):
    with pytest.raises(Stop, match=name) as stopped:
        Endpoint.of("http://localhost/v1", {name: value})
    assert stopped.value.code is ExitCode.USAGE
    assert value not in str(stopped.value)


def test_an_empty_key_and_an_empty_url_of_the_environment_are_none():
    with pytest.raises(Stop, match=r"no key for https://api\.openai\.com/v1: set OPENAI_API_KEY"):
        Endpoint.of(None, {"OPENAI_API_KEY": " \n", "OPENAI_BASE_URL": " "})
    endpoint = Endpoint.of(None, {"OPENAI_API_KEY": " key\r\n", "OPENAI_BASE_URL": "http://[::ffff:127.0.0.1]/v1\r"})
    assert (endpoint.api_key, endpoint.base_url, endpoint.local) == ("key", "http://[::ffff:127.0.0.1]/v1", True)
    assert Endpoint.of("http://api.localhost:8000", {}).api_key == ""
