"""Dead letters onto their queue, with what an operator filters by as attributes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

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
    tenant = task.get("tenant")
    group = tenant if isinstance(tenant, str) and tenant else "default"
    attributes = {"id": letter_id, "code": letter.error.code, "tenant": group, "type": str(task.get("type") or "none")}
    if isinstance(traceparent := task.get("traceparent"), str):
        attributes["traceparent"] = traceparent
    return Outgoing(body=body, group=group[:128], attributes={name: text[:256] for name, text in attributes.items()})
