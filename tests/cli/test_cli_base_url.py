"""The address of a provider, as people give it."""

from __future__ import annotations

import pytest
from commands import batch_line, lowtide, receipt, records, said, task, write_tasks
from doors import before

from tests.adapters.certificates import private_ca_in


@pytest.fixture
def mixed(tmp_path):
    return write_tasks(tmp_path / "tasks.jsonl", [task("a"), batch_line("b")])


def test_a_query_goes_with_every_request_of_a_run_and_is_neither_shown_nor_kept(provider, mixed, tmp_path):
    with before(provider.root) as (port, seen):
        url = f"http://127.0.0.1:{port}/v1/chat/completions?api-version=2025-04-01&sig=hunter2\r"
        ended = lowtide("run", mixed, "--out", tmp_path / "out", OPENAI_BASE_URL=url)
    assert ended.code == 0
    assert set(records(tmp_path / "out")) == {"a", "b"}
    api = [each for each in seen if "/v1/" in each]
    assert {each.split("?")[0].rpartition("/v1/")[2].split("/")[0] for each in api} == {"chat", "files", "batches"}
    assert [each for each in api if "api-version=2025-04-01" not in each or "sig=hunter2" not in each] == []
    assert f"http://127.0.0.1:{port}/v1 is taken as the base URL" in ended.err
    assert "hunter2" not in ended.out + ended.err
    kept = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert kept == []


def test_the_same_endpoint_with_another_query_or_spelling_goes_on_in_the_same_directory(provider, mixed, tmp_path):
    assert provider.run(mixed, tmp_path / "out").code == 0
    other = f" {provider.url.replace('http', 'HTTP')}/?a=1 "
    again = lowtide("run", mixed, "--out", tmp_path / "out", "--base-url", other)
    assert again.code == 0


def test_a_private_ca_and_a_dead_proxy_on_this_machine(provider, mixed, tmp_path):
    ca = private_ca_in(tmp_path)
    with before(provider.root, ssl_certfile=str(ca.server)) as (port, _):
        ended = lowtide(
            *("run", mixed, "--out", tmp_path / "out", "--base-url", f"https://localhost:{port}/v1"),
            SSL_CERT_FILE=str(ca.ca),
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
        )
    assert ended.code == 0
    assert receipt(tmp_path / "out")["reconciled"] is True


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"ALL_PROXY": "socks5://user:hunter2@127.0.0.1:1"}, "ALL_PROXY is a SOCKS proxy"),
        ({"SSL_CERT_FILE": "/no/such/file"}, "SSL_CERT_FILE"),
        ({"OPENAI_PROJECT_ID": "hunter2ü"}, "OPENAI_PROJECT_ID holds characters"),
        ({"OPENAI_BASE_URL": "http://u:hunter2@provider.invalid/v1"}, "holds a user or a password"),
        ({"OPENAI_BASE_URL": "http:/provider.invalid/v1?hunter2"}, "does not begin with http://"),
    ],
)
def test_an_environment_that_cannot_be_used_is_one_line_and_leaves_nothing(mixed, tmp_path, variables, why):
    settled = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://provider.invalid/v1"} | variables
    ended = lowtide("run", mixed, "--out", tmp_path / "out", **settled)
    assert ended.code == 2
    assert why in said(ended)
    assert "hunter2" not in ended.err
    assert not (tmp_path / "out").exists()
