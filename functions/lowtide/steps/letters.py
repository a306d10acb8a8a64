"""Dead letters onto their queue, with what an operator filters by as attributes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from lowtide.core.attributes import attribute_text
from lowtide.core.message import TENANT
from lowtide.core.records import DeadLetter
from lowtide.ports import Outgoing, System

LETTER_BYTES = 1_000_000
"""Below SQS's 1 MiB for a message, which counts attributes too."""


def send_letters(system: System, letters: Sequence[tuple[str, DeadLetter]]) -> None:
    """(stable id, letter) each, at least once: the id lets a reader drop the second copy."""
    if letters:
        system.dead_letters.send([_outgoing(system, letter_id, letter) for letter_id, letter in letters])


def _outgoing(system: System, letter_id: str, letter: DeadLetter) -> Outgoing:
    task = letter.task if isinstance(letter.task, dict) else {}
    body = letter.model_dump_json()
    if len(body.encode()) > LETTER_BYTES:
        key = f"letters/{sha256(letter_id.encode()).hexdigest()}.json"
        system.objects.put(key, body.encode())
        body = letter.model_copy(update={"task": {"object": key}}).model_dump_json()
    tenant = _text(task, "tenant") or "default"
    beside = {
        "id": letter_id,
        "code": letter.error.code,
        "tenant": tenant,
        "type": _text(task, "type") or "none",
        "traceparent": _text(task, "traceparent"),
    }
    attributes = {name: attribute_text(text) for name, text in beside.items() if text is not None}
    # A refused task may name anything as its tenant. As a group it would be one more for each task.
    group = tenant if TENANT.fullmatch(tenant) else "default"
    return Outgoing(body=body, group=group, attributes=attributes)


def _text(task: dict[str, Any], name: str) -> str | None:
    value = task.get(name)
    return value if isinstance(value, str) and value else None
