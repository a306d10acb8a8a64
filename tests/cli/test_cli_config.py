"""``lowtide config check``: what a file of routes changes, and what is wrong with it, with the line."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import pytest

SHIPPED = files("lowtide").joinpath("routes.toml").read_text(encoding="utf-8")
OURS = """\
remove = ["types.lead_scoring", "types.gone"]

[tiers.CRITICAL]
deadline_s = 20

[never_batch]
types = ["live_chat_response", "invoice_check"]
"""


def check(tmp_path, text, *options):
    file = tmp_path / "ours.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ask(str(file), *options)


def ask(*arguments, stdin=b""):
    command = [sys.executable, "-m", "lowtide_local.cli.main", "config", "check", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)


def test_it_says_what_would_change_and_what_is_no_longer_protected(tmp_path):
    ended = check(tmp_path, OURS)
    said = ended.stdout.decode()
    assert ended.returncode == 0
    assert "line 4: tiers.CRITICAL.deadline_s: 30 becomes 20" in said
    assert "line 1: types.lead_scoring: removed" in said
    assert "line 1: types.gone is not in the shipped routes: it removes nothing" in said
    assert 'line 7: never_batch.types: no longer ["voice_agent_reply","safety_check"' in said
    assert 'now also ["invoice_check"]' in said
    assert "good: 3 changes" in said
    assert "fits a standard SSM parameter" in said


def test_json_is_one_document(tmp_path):
    document = json.loads(check(tmp_path, OURS, "--json").stdout)
    assert document["good"]
    assert {"line": 4, "setting": "tiers.CRITICAL.deadline_s", "shipped": 30, "here": 20} in document["changes"]
    assert document["fits"] == "standard"


def test_everything_that_is_wrong_is_told_with_its_line_and_fails(tmp_path):
    text = OURS.replace("= 20", "= -20") + "[retries]\nattempts = 0\n"
    ended = check(tmp_path, text)
    assert ended.returncode == 1
    assert "line 4: tiers.CRITICAL.deadline_s" in ended.stdout.decode()
    assert "line 9: retries.attempts" in ended.stdout.decode()
    [line] = ended.stderr.decode().splitlines()
    assert "ours.toml: line 4: tiers.CRITICAL.deadline_s" in line
    document = json.loads(check(tmp_path, text, "--json").stdout)
    assert [fault["line"] for fault in document["faults"]] == [4, 9]
    assert not document["good"]


GROQ = '[providers.groq]\nbase_url = "https://api.groq.com/openai/v1"\nkey = "groq"\n'


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (GROQ, True),
        (GROQ + 'prices = "none"\n', False),
        (GROQ + 'prices = { path = "groq.json" }\n', False),
        (OURS, False),
        (GROQ.replace("https://api.groq.com/openai", "http://localhost:8000"), False),
    ],
)
def test_a_provider_whose_prices_are_not_known_is_warned_of(tmp_path, text, warned):
    ended = check(tmp_path, text)
    assert ended.returncode == 0
    assert ("warning: providers.groq has no prices" in ended.stdout.decode()) == warned
    found = json.loads(check(tmp_path, text, "--json").stdout)["warnings"]
    assert any("providers.groq" in warning for warning in found) == warned


@pytest.mark.parametrize(("text", "line"), [("a = [\n\n", 1), ("a = 1\n\na = 2\n", 3), ("x = " + "[" * 90, 1)])
def test_what_is_no_toml_fails_with_its_line(tmp_path, text, line):
    ended = check(tmp_path, text, "--json")
    assert ended.returncode == 1
    assert [fault["line"] for fault in json.loads(ended.stdout)["faults"]] == [line]
    assert len(ended.stderr.decode().splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "empty"), (b" \n", "empty"), (b"# a\n# f\xfcr\n", "line 2: no UTF-8")]
)
def test_what_cannot_be_read_is_wrong_usage(tmp_path, content, said):
    ended = check(tmp_path, content)
    assert ended.returncode == 2
    assert said in ended.stderr.decode()


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_is_not_there_is_wrong_usage(tmp_path, name):
    ended = ask(str(tmp_path / name))
    assert ended.returncode == 2
    assert len(ended.stderr.decode().splitlines()) == 1


def test_the_shipped_file_changes_nothing_and_is_read_from_standard_input():
    ended = ask("-", stdin=SHIPPED.encode())
    assert ended.returncode == 0
    assert "nothing changes" in ended.stdout.decode()
    assert "an object under s3://" in ended.stdout.decode()


@pytest.mark.parametrize(
    ("extra", "fits"),
    [("", "standard"), ("# " + "ä" * 2_100, "advanced"), ("# " + "x" * 8_300, "object"), ("# {{date}}", "object")],
)
def test_it_says_where_the_file_fits(tmp_path, extra, fits):
    assert json.loads(check(tmp_path, OURS + extra, "--json").stdout)["fits"] == fits
