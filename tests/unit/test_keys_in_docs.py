"""No page shows a key on a command line, where other users of the machine and the shell's history have it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from lowtide_local.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
WHERE = (
    "*.md",
    "docs/**/*",
    "lowtide_local/**/*.py",
    "functions/**/*.py",
    "*.yaml",
    "infra/*.yaml",
    "*.toml",
    "Makefile",
)
KEYLESS = r"""(?:none|['"]{2})(?![\w-])"""
"""What stands for no key at all, for servers that want some text."""
NAMES = r"\w*(?:KEY|SECRET|TOKEN|PASSWORD)\b"
FORBIDDEN = {
    "an option that takes a key": r"--(?:secret-string|secret-binary|api-?key|key|token|password|secret)"
    r"[ =]+(?!fileb?://|NAME\b)\S",
    "a key in a variable, typed": rf"(?:^|[\s`])(?:export\s+|env\s+)?{NAMES}=(?!{KEYLESS})[^\s`=]",
    "a key's variable as an argument": rf"^(?!.*\bprintf %s \"\$).*\$\{{?{NAMES}",
    "a key in a header": r"""(?i:(?:-H|--header)[ =]+['"]?(?:authorization|x-api-key|api-key|x-goog-api-key)\b)""",
    "a key": r"(?:\bsk-|\bwhsec_|\bxoxb-|\bAKIA|\bgsk_|\bAIza)[A-Za-z0-9]{8,}",
    "a key in a URL": r"https?://[^\s/@]+:[^\s/@]+@|[?&](?:api[-_]?key|token)=[^\s`…&]",
}


def shown(text: str) -> list[str]:
    """What of a page shows a key on a command line: in blocks of commands, and between backticks."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [
        f"{what}: {line.strip()}"
        for line in joined.splitlines()
        for what, pattern in FORBIDDEN.items()
        if re.search(pattern, line)
    ]


def pages() -> list[Path]:
    return sorted(
        {path for glob in WHERE for path in ROOT.glob(glob) if path.is_file() and "__pycache__" not in path.parts}
    )


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_shows_no_key_on_a_command_line(page):
    if page.suffix == ".py":
        text = "\n".join(re.findall(r'"""(.*?)"""', page.read_text(encoding="utf-8"), re.DOTALL))
    else:
        text = page.read_text(encoding="utf-8")
    assert shown(text) == []


@pytest.mark.parametrize(
    "line",
    [
        'aws secretsmanager put-secret-value --secret-id "$SecretArn" --secret-string "$OPENAI_API_KEY"',
        "aws secretsmanager put-secret-value --secret-id x \\\n  --secret-string=sk-1",
        'aws secretsmanager create-secret --name x --secret-string \'{"openai": "…"}\'',
        "export OPENAI_API_KEY=…",
        "OPENAI_API_KEY=sk-1 lowtide run tasks.jsonl --out out",
        "run `OPENAI_API_KEY=abc lowtide run`",
        "env ANTHROPIC_API_KEY=x lowtide",
        "GITHUB_TOKEN=ghp_x make",
        "lowtide run --api-key abc",
        "curl -H 'Authorization: Bearer abc' https://api.openai.com/v1/models",
        'curl --header "api-key: abc" https://x',
        'echo "$OPENAI_API_KEY" | aws secretsmanager put-secret-value --secret-string file:///dev/stdin',
        "lowtide run --base-url https://user:password@example.com/v1",
        "lowtide run --base-url https://example.com/v1?api_key=abc",
        "put whsec_abcdefgh12 into it",
        "aws ssm put-parameter --name k --value ${OPENAI_API_KEY}",
    ],
)
def test_a_key_on_a_command_line_would_be_seen(line):
    assert shown(line)


@pytest.mark.parametrize(
    "line",
    [
        'printf %s "$KEY" | aws secretsmanager put-secret-value --secret-id x --secret-string file:///dev/stdin',
        "read -rs OPENAI_API_KEY && export OPENAI_API_KEY",
        "set OPENAI_API_KEY",
        "`OPENAI_API_KEY=none`, for a server that wants one",
        "a query, such as Azure's `?api-version=2025-04-01`",
        "the key that it shows (`whsec_…`)",
    ],
)
def test_what_shows_no_key_is_left_alone(line):
    assert shown(line) == []


def test_no_option_of_the_command_takes_a_key():
    def options(command: Any) -> list[str]:
        below = getattr(command, "commands", {}).values()
        own = [name for parameter in command.params for name in parameter.opts]
        return own + [name for each in below for name in options(each)]

    names = options(typer.main.get_command(app))
    assert "--base-url" in names
    assert [name for name in names if re.search(r"key|secret|token|password", name)] == []
