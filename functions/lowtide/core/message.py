"""The task message: its model, its rules, and the errors that name field, problem and remedy."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from . import trace
from .bodies import RULES, check_body
from .envelopes import DEEPEST, foreign, is_envelope, opened
from .errors import Refused
from .faults import broken, refusal_of, unknown
from .jsontext import Twice, canonical, decode, sorted_text
from .model import LONGEST_S, Value
from .refusals import RefusalCode
from .task import Endpoint
from .tiers import Tier
from .wording import kind, path

MESSAGE_BYTES = 1_048_576
"""The most that one SQS message holds, in bytes of UTF-8 (SQS quotas)."""

MOST_TASKS = 5_000
"""Tasks in one message. Each is judged by itself and may become a dead letter of its own, and ingest has ten seconds
for a delivery: without a bound, one message of 1 MiB could hold half a million refusals."""

MOST_FIELDS = 100
"""Fields of one task, known or not. If it has more, the first unknown one is told."""

UNHASHED = frozenset({"created_at", "retry_count", "tags"})
"""What may differ when the same task is sent again."""

_PRIORITIES: dict[Any, Tier] = {**{tier.value: tier for tier in Tier}, 1: Tier.CRITICAL, 2: Tier.NORMAL, 3: Tier.LOW}


def _priority(value: Any) -> Any:
    # 1.0 and true equal 1 in Python, and mean no priority in JSON.
    return _PRIORITIES.get(value, value) if type(value) in (str, int) else value


def _moment(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("no text")  # noqa: TRY004 - pydantic turns ValueError, not TypeError, into a refusal
    moment = datetime.fromisoformat(value)
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment
    except OverflowError:
        raise ValueError("beyond the calendar") from None


def _first_bad_tag(tags: Any) -> Any:
    """The first tag that is no text is the one that is told; a list of 60,000 would be put together for nothing."""
    bad = (
        next(((name, value) for name, value in tags.items() if not isinstance(value, str)), None)
        if isinstance(tags, dict)
        else None
    )
    return tags if bad is None else dict([bad])


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("unprintable")
    return value


TENANT = re.compile("[!-~]{1,128}")
"""Printable ASCII without spaces: what SQS takes as a message's group."""
Id = Annotated[str, Field(pattern=f"^{TENANT.pattern}$")]
"""Both halves of a task's key are one, so that the key cannot be read two ways."""

Priority = Annotated[
    Tier,
    BeforeValidator(_priority),
    WithJsonSchema({"enum": [*(tier.value for tier in Tier), 1, 2, 3]}),
]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]


def _endpoint(value: Any) -> Any:
    return f"/v1{value}" if value in ALIASES else value


ALIASES = tuple(endpoint.removeprefix("/v1") for endpoint in Endpoint)
"""Endpoints as Azure's batch lines write them."""
Url = Annotated[
    Endpoint,
    Field(strict=False, description="one of " + ", ".join(Endpoint)),
    BeforeValidator(_endpoint),
    WithJsonSchema({"enum": [*Endpoint, *ALIASES]}),
]
Body = Annotated[dict[str, Any], Field(description="the request body as a JSON object", json_schema_extra=RULES)]


def _given(field: str) -> dict[str, Any]:
    return {"required": [field], "properties": {field: {"not": {"type": "null"}}}}


_BETWEEN_FIELDS: list[Any] = [
    {"anyOf": [_given("type"), _given("priority")]},
    {"oneOf": [_given("request"), _given("payload")]},
    {"not": {"allOf": [_given("deadline_seconds"), _given("deadline_at")]}},
]
"""What ``TaskMessage._one_of_each`` checks, as JSON Schema."""


class _Message(Value):
    # Strict: "5" is no number, true is no 1. The descriptions end the sentence "…: give" in a refusal.
    model_config = ConfigDict(strict=True)


class Request(_Message):
    url: Url
    body: Body

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        check_body(self.url, self.body, "request.body")
        return self


class TaskMessage(_Message):
    """One task as its publisher writes it."""

    model_config = ConfigDict(json_schema_extra={"allOf": _BETWEEN_FIELDS})

    task_id: Id = Field(
        description="1 to 128 printable ASCII characters without spaces, the idempotency key inside the tenant"
    )
    type: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)] | None = Field(
        None, description="1 to 128 printable characters that say what kind of work it is; required without a priority"
    )
    priority: Priority | None = Field(
        None,
        description="CRITICAL, HIGH, NORMAL or LOW, or 1 (premium, CRITICAL), 2 (standard, NORMAL), 3 (bulk, LOW); "
        "it wins over the type",
    )
    deadline_seconds: Annotated[float, Field(gt=0, le=LONGEST_S)] | None = Field(
        None,
        description="a number of seconds greater than 0, counted from when the message was sent; ten years at most",
    )
    deadline_at: Moment | None = Field(
        None, description="a time ahead, as RFC 3339 text with its offset, such as 2026-02-28T10:00:00Z"
    )
    request: Request | None = Field(None, description="an object of url and body, or a payload instead")
    payload: dict[str, Any] | None = Field(
        None, description="a JSON object for the type's prompt template, or a request instead"
    )
    tenant: Id = Field(
        "default", description="1 to 128 printable ASCII characters without spaces; it says whose budget and fair share"
    )
    tags: Annotated[dict[str, str], BeforeValidator(_first_bad_tag)] = Field(
        default_factory=dict, description="an object whose values are all strings"
    )
    created_at: str | None = Field(
        None, description="a text; it is recorded and decides nothing", json_schema_extra={"format": "date-time"}
    )
    retry_count: Any = Field(None, description="anything; it is ignored")
    traceparent: Annotated[str, Field(pattern=trace.PATTERN)] | None = Field(
        None, description="a W3C trace context, such as 00-<32 hex digits>-<16 hex digits>-01, or leave it out"
    )
    reply_to: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        None, description="the URL of a queue on the deployment's allow-list"
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.type is None and self.priority is None:
            raise broken("type", "is missing: give a type, or a priority")
        if self.request is None and self.payload is None:
            raise broken("request", "is missing: give a request (url and body), or a payload")
        if self.request is not None and self.payload is not None:
            raise broken("payload", "is given beside request: keep one of the two")
        if self.deadline_seconds is not None and self.deadline_at is not None:
            raise broken("deadline_at", "is given beside deadline_seconds: keep one of the two")
        return self


class BatchLine(_Message):
    """A bare OpenAI batch line is a task too: LOW, with no type, and ``custom_id`` for its id."""

    custom_id: Id = Field(description="1 to 128 printable ASCII characters without spaces; it becomes the task_id")
    method: Literal["POST"] = Field(description="POST")
    url: Url
    body: Body

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        check_body(self.url, self.body, "body")
        return self

    def as_task(self) -> TaskMessage:
        request = Request.model_construct(url=self.url, body=self.body)
        return TaskMessage(task_id=self.custom_id, priority=Tier.LOW, request=request)


def split_message(body: str | bytes) -> list[Any]:
    """Return the raw tasks of an SQS message: one task, or a pack ``{"tasks": [task, …]}``, each to be judged alone.

    The envelopes of SNS and EventBridge are opened, around the message and around each task of a pack. Raises Refused
    where the message as a whole is at fault.
    """
    size = len(body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body)
    if size > MESSAGE_BYTES:
        raise Refused(RefusalCode.TOO_LARGE, f"the message has {size} bytes: send at most {MESSAGE_BYTES}")
    raws: list[Any] = []
    _unpack(decode(body), raws, DEEPEST)
    return raws


def _unpack(content: Any, raws: list[Any], depth: int) -> None:
    """Append the raw tasks in ``content`` to ``raws``, through at most ``depth`` envelopes. Raises Refused."""
    while depth and is_envelope(content):
        content, depth = opened(content), depth - 1
    if not isinstance(content, dict):
        raise Refused(
            RefusalCode.INVALID_TASK, f'the message is {kind(content)}: send a task or {{"tasks": [task, …]}}'
        )
    if "tasks" not in content:
        raws.append(content)
        return
    for each in _pack(content):
        before = len(raws)
        try:
            if not is_envelope(each):
                raws.append(each)
            else:
                _unpack(each, raws, depth)
        except Refused:
            # This one alone is at fault: judged as it came, it is refused under its own name.
            raws[before:] = [each]
        if len(raws) > MOST_TASKS:
            problem = f"tasks and its events hold {len(raws)} and more: send at most {MOST_TASKS} in one message"
            raise Refused(RefusalCode.TOO_LARGE, problem, field="tasks")


def _pack(content: dict[str, Any]) -> list[Any]:
    tasks = content["tasks"]
    if isinstance(content, Twice):
        name = path([content.name])
        raise Refused(RefusalCode.INVALID_JSON, f"{name} is given twice beside tasks; keep one", field="tasks")
    if len(content) > 1:
        stray = path([next(name for name in content if name != "tasks")])
        raise Refused(RefusalCode.UNKNOWN_FIELD, f"{stray} is given beside tasks: remove it", field=stray)
    if not isinstance(tasks, list) or not tasks:
        raise broken("tasks", f"is {kind(tasks)}: give a list of at least one task")
    if len(tasks) > MOST_TASKS:
        problem = f"tasks is {kind(tasks)}: send at most {MOST_TASKS} in one message"
        raise Refused(RefusalCode.TOO_LARGE, problem, field="tasks")
    return tasks


def parse_task(raw: Any) -> TaskMessage:
    """The message of a raw task, or of a bare batch line; a null field is as good as none.

    Raises Refused, and nothing else, whatever ``raw`` is.
    """
    if not isinstance(raw, dict):
        problem = f"the task is {kind(raw)}: give a JSON object with task_id, type, and request or payload"
        raise Refused(RefusalCode.INVALID_TASK, problem)
    model: type[_Message] = BatchLine if "custom_id" in raw and "task_id" not in raw else TaskMessage
    task_id = _readable_id(raw)
    try:
        canonical(raw)
    except ValueError as fault:
        problem = f"the task is not JSON that can be carried: {fault}"
        raise Refused(RefusalCode.INVALID_JSON, problem, task_id=task_id) from None
    if (event := foreign(raw)) is not None and "task_id" not in raw:
        raise Refused(RefusalCode.INVALID_TASK, event)
    if len(raw) > MOST_FIELDS:
        stray = next(name for name in raw if name not in model.model_fields)
        raise Refused(RefusalCode.UNKNOWN_FIELD, unknown(path([stray]), model), field=path([stray]), task_id=task_id)
    try:
        message = model.model_validate(
            {name: value for name, value in raw.items() if value is not None or name not in model.model_fields}
        )
    except ValidationError as found:
        refusal = refusal_of(model, found)
        raise Refused(refusal.code, refusal.message, field=refusal.field, task_id=task_id) from None
    except Refused as refusal:
        raise Refused(refusal.code, refusal.message, field=refusal.field, task_id=task_id) from None
    assert isinstance(message, TaskMessage | BatchLine)
    return message.as_task() if isinstance(message, BatchLine) else message


def content_hash(message: dict[str, Any]) -> str:
    """SHA-256 in hex of the canonical JSON of a parsed task, without what may differ when it is sent again."""
    return sha256(sorted_text({name: value for name, value in message.items() if name not in UNHASHED})).hexdigest()


def _readable_id(raw: dict[str, Any]) -> str | None:
    """The id as the sender wrote it, good or bad, so that a person can find the line."""
    found = raw.get("task_id") or raw.get("custom_id")
    return found.encode("utf-8", "replace").decode() if isinstance(found, str) and found else None
