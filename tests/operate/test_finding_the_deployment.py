"""Which deployment is meant, what an operator may do there, and one clear line where that fails."""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError
from botocore.parsers import ResponseParserError

from lowtide.settings import variable
from lowtide_local.operate import deployment


def test_without_a_name_it_asks_for_one(lowtide, monkeypatch):
    monkeypatch.delenv("LOWTIDE_STACK")
    ended = lowtide("status")
    assert (ended.code, ended.out) == (2, "")
    assert "--stack" in ended.said


def test_the_environment_of_a_function_says_where_a_deployment_is_too(buried, lowtide, monkeypatch):
    monkeypatch.delenv("LOWTIDE_STACK")
    for name, value in buried.stack.template.environment("Poller", buried.stack.physical).items():
        monkeypatch.setenv(name, value)
    assert variable("table") == "LOWTIDE_TABLE"
    assert len(json.loads(lowtide("dead", "list", "--json").out)["dead"]) == 3


def test_a_stack_that_is_not_there_or_is_another_thing_is_told(buried, lowtide):
    ended = lowtide("status", "--stack", "elsewhere")
    assert ended.code == 1
    assert "there is no stack elsewhere in eu-central-1" in ended.said
    other = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    boto3.client("cloudformation").create_stack(StackName="other", TemplateBody=json.dumps(other))
    ended = lowtide("status", "--stack", "other")
    assert ended.code == 1
    assert "stack other is no deployment of lowtide: it has no output Deployment" in ended.said


def test_a_connection_refused_is_told_after_some_tries(buried, lowtide, monkeypatch):
    monkeypatch.setattr(deployment, "TRYING_S", 0.2)
    monkeypatch.setattr(deployment.time, "sleep", lambda _seconds: None)
    moments = iter(range(100))
    monkeypatch.setattr(deployment.time, "monotonic", lambda: next(moments) / 20)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and listens to nobody
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ended = lowtide("status", "--endpoint-url", url)
    assert (ended.code, ended.out) == (1, "")
    assert url in ended.said
    assert "tried for" in ended.said


@pytest.mark.parametrize("url", ["nonsense", "", "http://localhost:99999", "http://[::1", "http://a b"])
def test_an_endpoint_that_is_no_url_is_wrong_usage(buried, lowtide, url):
    ended = lowtide("status", "--endpoint-url", url)
    assert (ended.code, ended.out) == (2, "")
    assert "--endpoint-url" in ended.said


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "not you"}}, "DescribeStacks"),
            1,
            "AWS refused DescribeStacks: AccessDenied: not you",
        ),
        (NoCredentialsError(), 2, "no AWS credentials: sign in, or set AWS_PROFILE"),
        (
            HTTPClientError(error="Invalid header value b'Credential=hunter2'"),
            2,
            "the AWS credentials hold characters that no header can carry; copy them again",
        ),
        (
            ResponseParserError("no XML"),
            1,
            "the server answers, but not as AWS does; is --endpoint-url right?",
        ),
    ],
)
def test_what_aws_refuses_is_one_line(buried, lowtide, monkeypatch, fault, code, said):
    def refuse(*_):
        raise fault

    monkeypatch.setattr(BaseClient, "_make_api_call", refuse)
    ended = lowtide("status")
    assert (ended.code, ended.out, ended.said) == (code, "", said)


def test_without_a_region_it_asks_for_one(buried, lowtide, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    ended = lowtide("status")
    assert (ended.code, ended.out, ended.said) == (2, "", "no region: set AWS_REGION")


def test_the_region_is_that_of_aws_region_as_the_command_says(buried, lowtide, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    ended = lowtide("status")
    assert (ended.code, ended.said) == (2, "no region: set AWS_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert lowtide("status").code == 0
    monkeypatch.setenv("AWS_REGION", "no region")
    ended = lowtide("status")
    assert (ended.code, ended.said) == (2, "AWS_REGION is no name of a region; give one such as eu-central-1")


def test_a_server_on_this_machine_is_asked_directly_and_told_apart_from_aws(buried, lowtide, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    asked = []

    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        ended = lowtide("status", "--endpoint-url", f"http://127.0.0.1:{server.server_address[1]}")
        thread.join()
    assert asked == ["/"]
    assert ended.code == 1
    assert "answers, but not as AWS does" in ended.said
