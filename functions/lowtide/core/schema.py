"""The JSON Schema of what lowtide takes, from the models that check it."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from .message import BatchLine, TaskMessage


def task_schema() -> dict[str, Any]:
    """Draft 2020-12: a task, or a bare OpenAI batch line.

    What is refused for its endpoint (such as no messages) or by a deployment (models, caps, reply queues) is not in it.
    """
    _, schema = models_json_schema(
        [(TaskMessage, "validation"), (BatchLine, "validation")], ref_template="#/$defs/{model}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lowtide task",
        "description": "The body of one message on the intake queue, or one line of a .jsonl file.",
        "anyOf": [{"$ref": "#/$defs/TaskMessage"}, {"$ref": "#/$defs/BatchLine"}],
        "$defs": schema["$defs"],
    }
