"""The commands of docs/operations.md that take a deployment back, run by a shell against a stand-in for the AWS CLI."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
AWS = """#!/usr/bin/env bash
while [ $# -gt 0 ]; do
  case $1 in
    --function-name) name=$2 ;;
    --function-version) version=$2 ;;
    --name) parameter=$2 ;;
    --value) value=$2 ;;
  esac
  words="$words $1"; shift
done
case $words in
  *list-stack-resources*) printf '[\\n    "Ingest",\\n    "Poller"\\n]\\n' ;;
  *get-alias*) cat "live-$name" ;;
  *update-alias*) echo "$version" > "live-$name" ;;
  *put-parameter*) cp "${value#file://}" parameter-put ;;
  *Parameter.Version*) echo 12 ;;
  *get-parameter*) cat "parameter${parameter#/lowtide/routes}" ;;
  *"s3 cp"*) echo '[tiers]' > routes.toml ;;
esac
"""


@pytest.fixture
def shell(tmp_path):
    """Run the block of commands that has the given words, in a directory of its own."""
    command = tmp_path / "bin" / "aws"
    command.parent.mkdir()
    command.write_text(AWS)
    command.chmod(0o755)
    (tmp_path / "bin" / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "uv").chmod(0o755)
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```$", OPERATIONS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

    def run(words: str) -> Path:
        [block] = [block for block in blocks if words in block]
        path = f"{command.parent}:{os.environ['PATH']}"
        subprocess.run(["bash", "-euc", block], cwd=tmp_path, env={"PATH": path}, check=True)
        return tmp_path

    return run


def test_every_function_goes_back_to_the_version_that_was_live_before(shell, tmp_path):
    live = {"Ingest": "4", "Poller": "7"}
    for name, version in live.items():
        (tmp_path / f"live-{name}").write_text(f"{version}\n")
    shell("> live-before.txt")
    # Poller's version 8 was taken back, and Ingest was not changed.
    (tmp_path / "live-Poller").write_text("9\n")
    for _ in range(2):
        shell("update-alias")
        assert {name: (tmp_path / f"live-{name}").read_text().strip() for name in live} == live


def test_the_routes_go_back_to_the_version_before_the_one_in_force(shell, tmp_path):
    (tmp_path / "parameter:11").write_text("s3://bucket/routes/11.toml\n")
    shell("version - 1")
    assert (tmp_path / "parameter-put").read_text() == "s3://bucket/routes/11.toml\n"


@pytest.mark.parametrize(("kept", "checked"), [("s3://bucket/routes/11.toml\n", "[tiers]\n"), ("# own\n", "# own\n")])
def test_routes_are_fetched_from_the_object_that_the_parameter_points_to(shell, tmp_path, kept, checked):
    (tmp_path / "parameter").write_text(kept)
    shell("config check")
    assert (tmp_path / "routes.toml").read_text() == checked
