"""``lowtide schema``."""

from __future__ import annotations

import sys

import orjson

from lowtide.core.schema import task_schema


def schema_command() -> None:
    sys.stdout.write(orjson.dumps(task_schema(), option=orjson.OPT_INDENT_2).decode() + "\n")
