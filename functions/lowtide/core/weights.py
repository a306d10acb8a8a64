"""What a task will take in a batch, known before its line is written."""

from __future__ import annotations

from dataclasses import dataclass

from .lines import embedding_inputs, estimated_tokens, request_line
from .prompts import request_body
from .task import CUSTOM_ID_CHARS, AcceptedTask, Endpoint


@dataclass(frozen=True, slots=True)
class Weight:
    """``bytes`` of its request line as it is written, escapes included; ``tokens`` are an estimate;
    ``inputs`` are an embedding's, 0 elsewhere."""

    bytes: int
    tokens: int
    inputs: int = 0


def weigh(task: AcceptedTask) -> Weight:
    """Renders the task's request once. Raises whatever is wrong with a task that cannot be rendered."""
    body = request_body(task)
    size = len(request_line("0" * CUSTOM_ID_CHARS, task.endpoint, body))
    inputs = embedding_inputs(body) if task.endpoint is Endpoint.EMBEDDINGS else 0
    return Weight(size, estimated_tokens(body, size), inputs)
