"""Recognises JSON objects of other programs that people give in place of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lowtide.core.envelopes import event_in
from lowtide.core.message import BatchLine, TaskMessage
from lowtide.core.wording import path

AS_TASKS = "write one task per line as JSON (lowtide schema prints the fields)"
_AS_LINE = (
    'write each as {"custom_id": "…", "method": "POST", "url": "/v1/chat/completions", '
    '"body": {"model": "…", "messages": […]}}'
)
_FIELDS = frozenset({*TaskMessage.model_fields, *BatchLine.model_fields})
_EVERYWHERE = frozenset({"type", "priority", "tags", "tenant", "created_at", "method", "url", "body", "retry_count"})
"""Fields of a task that other objects have as well."""
_SHOWN = 5


def shape(line: Mapping[str, Any]) -> str | None:
    """Say what the object is and what to do; None where it may be a task."""
    if not line:
        return None
    return _ours(line) or _batch_of_another(line) or _request(line) or _nothing_of_a_task(line)


def holding(name: str) -> str:
    return f"one JSON object that holds a list: write each of its {path([name])} on a line of its own"


def _ours(line: Mapping[str, Any]) -> str | None:
    keys = line.keys()
    if keys >= {"task_id", "status", "response", "lane"}:
        return "the results.jsonl of a run: give the tasks, not their results"
    if keys >= {"charge_id", "task_id"}:
        return "the charges.jsonl of a run: give the tasks"
    if keys == {"task", "error"}:
        return "the dead.jsonl of a run: take the tasks out of their letters (jq -c .task FILE > NEW.jsonl)"
    if keys == {"line", "task_id", "error"}:
        return "the refused.jsonl of a run: mend the lines that it names, and give those"
    if keys == {"tasks"}:
        return "packs, which are for a queue: write each task on a line of its own (jq -c '.tasks[]' FILE > NEW.jsonl)"
    return None


def _batch_of_another(line: Mapping[str, Any]) -> str | None:
    keys = line.keys()
    request = line.get("request")
    if "task_id" in keys:
        return None
    if keys >= {"custom_id", "params"}:
        return f"Anthropic's batch requests (custom_id, params): {_AS_LINE}"
    if keys >= {"custom_id", "result"}:
        return "the results of an Anthropic batch: give the tasks, not their results"
    if "custom_id" in keys and not keys & {"url", "body"} and keys & {"response", "error"}:
        return "the output of an OpenAI batch: give its input file"
    if "contents" in keys or (isinstance(request, Mapping) and "contents" in request):
        return f"Gemini's batch requests (contents): {_AS_LINE}"
    if {"key", "response"} <= keys:
        return "the results of a Gemini batch: give the tasks, not their results"
    if keys >= {"recordId", "modelInput"}:
        return f"the records of a Bedrock batch (recordId, modelInput): {_AS_LINE}"
    if keys >= {"custom_id", "body"} and "url" not in keys:
        return f"batch lines without a url (Mistral writes them so): {_AS_LINE}"
    return None


def _request(line: Mapping[str, Any]) -> str | None:
    """Recognise a body without the rest, or an example of a dialogue."""
    keys = line.keys()
    if keys & {"task_id", "custom_id", "request", "payload"}:
        return None
    messages = line.get("messages")
    if isinstance(messages, list) and "model" not in keys:
        last = messages[-1] if messages and isinstance(messages[-1], Mapping) else {}
        if last.get("role") == "assistant":
            return f"examples for fine-tuning (messages that end with an answer): {_AS_LINE}"
        return f"lists of messages without a model: {_AS_LINE}"
    if "model" in keys and keys & {"messages", "input", "prompt"}:
        return "bodies of requests without the rest: put each under body, beside custom_id, method and url"
    if keys >= {"prompt", "completion"} or keys & {"conversations", "instruction"}:
        return f"examples for training: {_AS_LINE}"
    if "prompt" in keys:
        return f"prompts without a model: {_AS_LINE}"
    return None


def _nothing_of_a_task(line: Mapping[str, Any]) -> str | None:
    keys = line.keys()
    if "task_id" in keys or keys & (_FIELDS - _EVERYWHERE) or {"url", "body"} <= keys:
        return None
    if (event := event_in(line)) is not None:
        return f"{event}: {AS_TASKS}"
    if keys == {"error"}:
        return f"an error of an API (a download that failed?): {AS_TASKS}"
    if len(keys) == 1 and isinstance(each := next(iter(line.values())), list) and each and isinstance(each[0], dict):
        return holding(*keys)
    names = ", ".join(path([name]) for name in sorted(keys)[:_SHOWN])
    return f"JSON objects that are no tasks (they have {names}): {AS_TASKS}"
