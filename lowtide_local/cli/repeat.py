"""The command that was given, as a person may give it again."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

_HARMLESS = frozenset({"api-version"})
"""Parameters of a URL's query that may be shown."""


def command_line(
    given: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ, *, original: Sequence[str] = ()
) -> str:
    """Return the command, quoted for a shell. Values in a URL's query that may be secrets are masked."""
    argv = sys.argv if given is None else given
    how = list(original or sys.orig_argv)
    return " ".join([_program(argv[0], how, environment), *(shlex.quote(_without_secrets(each)) for each in argv[1:])])


def _program(path: str, original: Sequence[str], environment: Mapping[str, str]) -> str:
    if "-m" in original and Path(path).suffix == ".py":
        return shlex.join(["python", "-m", original[original.index("-m") + 1]])
    if Path(path).stem != "lowtide":
        return "lowtide"
    if "UV_RUN_RECURSION_DEPTH" in environment:  # what `uv run` leaves in the environment
        return "uv run lowtide"
    return "lowtide" if shutil.which("lowtide") else shlex.quote(path)


def _without_secrets(argument: str) -> str:
    option, equals, url = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    base, mark, query = url.partition("?")
    if not mark or "://" not in base:
        return argument
    pairs = [(name, value if name in _HARMLESS else "***") for name, value in parse_qsl(query, keep_blank_values=True)]
    return f"{option}{equals}{base}?{urlencode(pairs, safe='*')}"
