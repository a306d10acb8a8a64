"""Handlers for tests of what invokes them. An event may say what is to happen: ``sleep_s``, ``raise``, ``answer``."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from lowtide import wiring

unwound: list[str] = []


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    left_ms = context.get_remaining_time_in_millis()
    # The process's loop, as ``wiring.run`` has it.
    wiring._process.loop().run_until_complete(_sleep(event.get("sleep_s", 0)))
    if "raise" in event:
        raise RuntimeError(event["raise"])
    told = {"left_ms": (left_ms, context.get_remaining_time_in_millis()), "mark": os.environ.get("MARK")}
    return {"name": context.function_name, "loop": id(wiring._process.loop()), **told}


async def _sleep(seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
    finally:
        unwound.append("unwound")
