# ruff: noqa: INP001 - a file to copy, no package
"""A Lambda function behind an EventBridge rule: does its work once for each end, however often it is told.

Its table has one key, ``id`` (text), and ``expires_at`` for its time to live. The id is noted after the work: a crash
in between repeats the work, so it should bear that. Noted before, a crash would lose it.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import boto3

REMEMBERED_S = 11 * 86_400
"""Eleven days: lowtide repeats within minutes as a rule, and a message may come again for at most ten days."""


def handler(event: dict[str, Any], _context: Any) -> str:
    """An event with the detail-type ``Task settled``."""
    seen = boto3.resource("dynamodb").Table(os.environ["SEEN_TABLE"])
    detail = event["detail"]
    if "Item" in seen.get_item(Key={"id": detail["id"]}, ConsistentRead=True):
        return "repeat"
    work(detail)
    seen.put_item(Item={"id": detail["id"], "expires_at": int(time.time()) + REMEMBERED_S})
    return "done"


def work(detail: dict[str, Any]) -> None:
    """Put yours here: ``detail["result"]`` says where the answer is kept."""
    logging.getLogger().info("%s is %s for $%s", detail["task_id"], detail["status"], detail["cost_usd"])
