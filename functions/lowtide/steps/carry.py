"""Accepted tasks onto a tier's queue and off it again; what is too large for a message goes by claim check."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256

import orjson

from lowtide.core.acceptance import queue_for
from lowtide.core.errors import LowtideError, NotFound
from lowtide.core.packs import packs, unpack
from lowtide.core.task import AcceptedTask
from lowtide.core.tiers import Tier
from lowtide.core.versions import MESSAGES, check_message
from lowtide.ports import Message, Outgoing, System

CLAIM_CHECK_BYTES = 900 * 1024
"""Below SQS's 1 MiB for a message, which counts attributes too."""

_CARRIED = re.compile(r"carried/[0-9a-f]{64}\.json")
"""The keys that ``_checked`` makes. A store takes no empty key and none beyond 1,024 bytes, each time it is asked."""

REAL_TIME_PACK = 10
LOW_PACK = 500
"""Tasks in a message: few where one invocation answers them all, many where a drain only moves them."""


class Unreadable(LowtideError):
    """A message on a tier's queue that holds no accepted tasks."""


def send_tasks(system: System, tasks: Iterable[AcceptedTask]) -> None:
    """Durable when it returns. Cut off, it may have sent some: a second copy of a task is dropped at its claim."""
    routes: dict[tuple[Tier, str], list[AcceptedTask]] = defaultdict(list)
    for task in tasks:
        routes[queue_for(task), task.tenant].append(task)
    outgoing: dict[Tier, list[Outgoing]] = defaultdict(list)
    for (tier, tenant), group in routes.items():
        for body, _ in packs(group, most=LOW_PACK if tier is Tier.LOW else REAL_TIME_PACK):
            outgoing[tier].append(Outgoing(body=_checked(system, body), group=tenant))
    for tier, messages in outgoing.items():
        system.tiers[tier].send(messages)


def read_tasks(system: System, message: Message) -> list[AcceptedTask]:
    """Raises Unreadable for a body that no ingest wrote, or whose claim check leads nowhere: it will never be read.

    What the store raises on its bad days passes through, and NewerSchema: such a message comes again.
    """
    try:
        content = orjson.loads(message.body)
        check_message(content, "a message")
        if isinstance(content, dict) and isinstance(key := content.get("carried"), str):
            if _CARRIED.fullmatch(key) is None:
                raise Unreadable("its pointer names no carried object")
            return unpack(system.objects.get(key))
        return unpack(message.body)
    except (ValueError, KeyError, TypeError, NotFound) as error:
        raise Unreadable(str(error)) from error


def _checked(system: System, body: str) -> str:
    data = body.encode()
    if len(data) <= CLAIM_CHECK_BYTES:
        return body
    key = f"carried/{sha256(data).hexdigest()}.json"
    system.objects.put(key, data)
    return orjson.dumps({"v": MESSAGES, "carried": key}).decode()
