"""A strict model of the provider behind the ports' own methods, without HTTP: fast enough for thousands of schedules.

It keeps to what the ports and the provider promise, and to nothing more: creations whose replies are lost, a list that
lags, output in any order with lines twice, too late, or not at all, batches that end in every way. What it bills it
remembers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any, BinaryIO

import orjson

from lowtide.core.batches import TERMINAL, BatchRow, ProviderBatch, ProviderStatus, ValidationFault
from lowtide.core.errors import ProviderRefused, Unreachable
from lowtide.core.outcomes import Response
from lowtide.core.task import Endpoint
from lowtide.ports import Call, Clock, Owned, OwnedKind, Presence, SubmissionKey

LIST_LAG = timedelta(seconds=30)
CANCEL_TAKES = timedelta(minutes=5)
UNKNOWN_FOR = timedelta(hours=2)
SLOWLY = timedelta(hours=30)
"""Longer than most of these tasks have, and shorter than a batch is waited for."""
HEARD_AFTER = timedelta(hours=51)
NEVER = datetime.max.replace(tzinfo=UTC)
GIVEN_UP_AFTER = timedelta(hours=48) - timedelta(minutes=2)
"""Rule 12 of the design; clocks are apart."""
LOOP_TURNS = 12
"""A call is under way for so many: enough for others to be claimed and sent meanwhile."""
LONG_CHARS = 150_000
"""More than a row keeps."""
USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
FAILURES = (
    Response(429, {"error": {"code": "rate_limit_exceeded", "message": "slower"}}, retry_after_s=5.0),
    Response(503, {"error": {"code": "overloaded", "message": "later"}}),
    Response(None, fault="connection", sent=False),
    Response(None, fault="connection"),
    Response(None, fault="timeout"),
)
"""Failures of calls: refused for now, broken, never sent, or sent and billed without an answer."""


class Mishap(StrEnum):
    """What befalls one creation, in the order in which a schedule lists them."""

    REPLY_LOST = "reply lost"
    NEVER_ARRIVED = "never arrived"
    ERROR_HIDES_IT = "a 500 hides the creation"
    TOKEN_LIMIT = "token limit"
    EXPIRES = "expires in part"
    NO_OUTPUT = "completed with null output"
    UNKNOWN = "unknown for a while"
    FORGOTTEN = "forgotten for good"
    SLOW = "slower than its deadline"
    NEVER_ENDS = "in progress for ever"


@dataclass(frozen=True, slots=True)
class Billed:
    """A line that was answered and is charged for. ``answer_id`` is in the answer's body."""

    custom_id: str
    answer_id: str
    batch_id: str | None
    at: datetime

    @property
    def task(self) -> str:
        return self.custom_id.rpartition("-")[0]

    @property
    def is_question(self) -> bool:
        """Was it asked which model the task needs?"""
        return "-q" in self.custom_id


@dataclass(slots=True)
class File:
    id: str
    name: str
    content: list[bytes]
    created_at: datetime
    key: SubmissionKey
    output_of: str | None = None


@dataclass(slots=True)
class Batch:
    id: str
    key: SubmissionKey
    input_ref: str
    lines: list[tuple[str, str]]
    """(custom_id, mark) of each."""
    created_at: datetime
    takes: timedelta
    mishap: Mishap | None
    faults: tuple[ValidationFault, ...] = ()
    cancelled_at: datetime | None = None
    deaf: bool = False
    """It says that it is being cancelled, and goes on for days."""
    ended: ProviderStatus | None = None
    output_ref: str | None = None
    error_ref: str | None = None
    forgotten: bool = False
    end_told: bool = False
    """Its end was told to the worker that looked for its submission: after that, no answer is to come."""

    def ends_at(self) -> datetime:
        if self.cancelled_at is not None:
            return self.cancelled_at + CANCEL_TAKES
        if self.endless:
            return self.created_at + HEARD_AFTER if self.deaf else NEVER
        return self.created_at + (self.takes / 10 if self.faults else self.takes)

    def over_at(self) -> datetime:
        """When nobody has to wait for it any longer."""
        unheard = self.forgotten and not self.end_told
        return self.created_at + GIVEN_UP_AFTER if unheard or self.endless else self.ends_at()

    @property
    def endless(self) -> bool:
        return self.mishap is Mishap.NEVER_ENDS and not self.faults


@dataclass
class ModelProvider:
    """A ports.BatchApi and a ports.AnswerApi. Asked which profile a task needs, it says ``simple``.

    ``marks`` finds a line's mark in its body: ``missing-once``, ``expire-once``, ``500-once``, ``500``, ``refuse``,
    ``bad-line``, ``unnamed``, ``string-body``, ``long``. ``works`` passes time while a call is answered. ``flaky`` is
    the share of requests whose connection breaks before or after they take effect, ``unwell`` that of calls that end
    in a failure. Until ``refused_until`` the account is refused, whatever is asked for.
    """

    clock: Clock
    dice: Random
    works: Callable[[float], None]
    mishaps: list[Mishap] = field(default_factory=list)
    flaky: float = 0.0
    unwell: float = 0.0
    refused_until: datetime | None = None
    together: bool = False
    """Do the calls of one consumer overlap? Else each ends before the next begins."""

    def __post_init__(self) -> None:
        self.billed: list[Billed] = []
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}
        self.touched: list[str] = []
        """What was cancelled or deleted though it is another's."""
        self.missed: set[str] = set()
        """Files that were asked for and are not there."""
        self._seen: dict[str, int] = {}
        self._answers: dict[str, list[bytes]] = {}
        self._ids = 0
        other = SubmissionKey("other", "b-theirs", 1)
        aged = self.clock.now() - timedelta(hours=1)
        self._theirs = File("file-theirs", "lowtide-other.b-theirs.1.jsonl", [], aged, other)
        self.files[self._theirs.id] = self._theirs
        self.batches["batch-theirs"] = Batch(
            "batch-theirs", other, self._theirs.id, [], aged, timedelta(days=400), None
        )

    # --- ports.BatchApi ------------------------------------------------------------------------------------------

    async def prepare(self, key: SubmissionKey, lines: BinaryIO) -> str | None:
        lines.seek(0)
        content = lines.readlines()
        with self._wire():
            name = f"lowtide-{key.text}.jsonl"
            now = self.clock.now()
            for file in self.files.values():
                if file.name == name and file.content == content and file.created_at + LIST_LAG <= now:
                    return file.id
            return self._file(name, content, key).id

    async def create(self, key: SubmissionKey, endpoint: Endpoint, input_ref: str | None) -> ProviderBatch:
        mishap = self.mishaps.pop(0) if self.mishaps else None
        with self._wire():
            if mishap is Mishap.NEVER_ARRIVED:
                raise Unreachable("connection refused")
            if input_ref not in self.files:
                raise ProviderRefused(400, "invalid_request", "no such input file")
            batch = self._new_batch(key, input_ref, mishap)
            if mishap is Mishap.REPLY_LOST:
                raise Unreachable("connection reset")
            if mishap is Mishap.ERROR_HIDES_IT:
                raise ProviderRefused(500, "server_error", "something broke")
            return self._told(batch)

    async def find(self, key: SubmissionKey, input_ref: str | None) -> ProviderBatch | None:
        with self._wire():
            for batch in reversed(self._listed()):
                if batch.key == key or batch.input_ref == input_ref:
                    told = self._told(batch)
                    batch.end_told |= told.ended
                    return told
            return None

    async def get(self, provider_batch_id: str) -> ProviderBatch | None:
        with self._wire():
            batch = self._known(provider_batch_id)
            return None if batch is None else self._told(batch)

    async def results(self, batch: ProviderBatch) -> AsyncIterator[bytes]:
        with self._wire():
            named = [ref for ref in (batch.output_ref, batch.error_ref) if ref]
            if gone := {*named} - self.files.keys():
                self.missed |= gone
                raise ProviderRefused(404, "not_found", "no such file")
        for file in [self.files[ref] for ref in named]:
            for line in file.content:
                yield line.removesuffix(b"\n")

    async def cancel(self, provider_batch_id: str) -> None:
        with self._wire():
            batch = self._known(provider_batch_id)
            if batch is None:
                return
            if batch.id == "batch-theirs":
                self.touched.append(batch.id)
            if batch.ended is None and batch.cancelled_at is None:
                # A batch that never ends does not end for a rescue either: it bills all of its lines after it was
                # given up, when nobody waits for them any longer.
                batch.deaf = batch.endless and self.clock.now() < batch.over_at()
                if not batch.deaf:
                    batch.cancelled_at = self.clock.now()

    async def clean(self, refs: Sequence[str]) -> None:
        with self._wire():
            for ref in refs:
                if ref == self._theirs.id:
                    self.touched.append(ref)
                self.files.pop(ref, None)

    async def owned(self, deployment: str) -> AsyncIterator[Owned]:
        with self._wire():
            self.progress()
            listed = list(self._owned())
        for each in listed:
            if self.owns(deployment, each.key):
                yield each

    async def supported(self) -> bool:
        return True

    def owns(self, deployment: str, key: SubmissionKey) -> bool:
        """By the name that it carries, as an adapter judges it."""
        return key.deployment == deployment

    # --- ports.AnswerApi -----------------------------------------------------------------------------------------

    async def answer(self, call: Call) -> Response:
        if self._refuses():
            return Response(401, _error("invalid_api_key"))
        mark = _mark(call.body)
        digest = call.call_id.rpartition("-")[0]
        sight = self._sight(digest)
        if mark == "refuse":
            return Response(400, _error("content_policy_violation"))
        if mark == "500-once" and sight == 1:
            return Response(500, _error("server_error"))
        failure = self.dice.choice(FAILURES) if self.unwell and self.dice.random() < self.unwell else None
        if failure is not None and not failure.sent:
            return failure
        if failure is not None and failure.status is not None:
            return failure
        answer_id = self._bill(call.call_id, None, self.clock.now())
        self.works(self.dice.choice((1.0, 5.0, 40.0)))
        for _ in range(LOOP_TURNS if self.together else 0):
            await asyncio.sleep(0)
        body = _body(answer_id)
        if "-q" in call.call_id:
            body["choices"] = [{"index": 0, "message": {"role": "assistant", "content": "simple"}}]
        if mark == "long":
            body["choices"] = [{"index": 0, "message": {"role": "assistant", "content": "x" * LONG_CHARS}}]
        return failure or Response(200, body, request_id=f"req-{answer_id}")

    async def presence(self) -> Presence:
        return Presence.THERE

    # --- inside --------------------------------------------------------------------------------------------------

    def end_of(self, row: BatchRow) -> datetime:
        """When the batch that this row waits for will have something new to say."""
        batch = self.batches.get(row.provider_batch.id) if row.provider_batch is not None else None
        if batch is None:
            return self.clock.now()
        if (
            (batch.mishap is Mishap.FORGOTTEN or batch.endless)
            and batch.cancelled_at is None
            and row.submitted_at is not None
        ):
            return row.submitted_at + timedelta(hours=48)
        known = batch.created_at + UNKNOWN_FOR if batch.mishap is Mishap.UNKNOWN else batch.created_at
        return max(batch.ends_at(), known)

    def forgot(self, row: BatchRow) -> bool:
        """Does it answer 404 for this one, and go on doing so?"""
        batch = self.batches.get(row.provider_batch.id) if row.provider_batch is not None else None
        return batch is not None and batch.forgotten

    def progress(self) -> None:
        now = self.clock.now()
        for batch in list(self.batches.values()):
            if batch.ended is None and batch.ends_at() <= now:
                self._end(batch, batch.ends_at())

    def left(self, deployment: str) -> list[str]:
        """Of this deployment's: files, and batches that have not ended."""
        self.progress()
        files = [f"the file {file.name}" for file in self.files.values() if file.key.deployment == deployment]
        alive = [b for b in self.batches.values() if b.key.deployment == deployment and b.ended is None]
        return files + [f"the batch {batch.id} of {batch.key.text}" for batch in alive]

    def _refuses(self) -> bool:
        return self.refused_until is not None and self.clock.now() < self.refused_until

    def _wire(self) -> _Wire:
        return _Wire(self)

    def _id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}-{self._ids:04d}"

    def _file(self, name: str, content: list[bytes], key: SubmissionKey, output_of: str | None = None) -> File:
        file = File(self._id("file"), name, content, self.clock.now(), key, output_of)
        self.files[file.id] = file
        return file

    def _new_batch(self, key: SubmissionKey, input_ref: str, mishap: Mishap | None) -> Batch:
        lines = []
        for raw in self.files[input_ref].content:
            line = orjson.loads(raw)
            lines.append((line["custom_id"], _mark(line["body"])))
        takes = timedelta(seconds=self.dice.choice((20, 90, 400)))
        batch = Batch(self._id("batch"), key, input_ref, lines, self.clock.now(), takes, mishap)
        batch.faults = _faults(batch)
        if mishap is Mishap.SLOW and not batch.faults:
            batch.takes = SLOWLY
        self.batches[batch.id] = batch
        return batch

    def _listed(self) -> list[Batch]:
        self.progress()
        now = self.clock.now()
        return [b for b in self.batches.values() if b.created_at + LIST_LAG <= now and not b.forgotten]

    def _known(self, batch_id: str) -> Batch | None:
        """Whoever asks by its id has noted the batch: only then may it be forgotten."""
        self.progress()
        batch = self.batches.get(batch_id)
        if batch is None:
            return None
        age = self.clock.now() - batch.created_at
        batch.forgotten = batch.mishap is Mishap.FORGOTTEN
        return None if batch.forgotten or (batch.mishap is Mishap.UNKNOWN and age < UNKNOWN_FOR) else batch

    def _told(self, batch: Batch) -> ProviderBatch:
        self.progress()
        status = batch.ended or ProviderStatus.IN_PROGRESS
        if batch.ended is None and (batch.deaf or batch.cancelled_at is not None):
            status = ProviderStatus.CANCELLING
        return ProviderBatch(
            id=batch.id,
            status=status,
            input_ref=batch.input_ref,
            output_ref=batch.output_ref,
            error_ref=batch.error_ref,
            faults=batch.faults if status is ProviderStatus.FAILED else (),
            created_at=batch.created_at,
            ended_at=batch.ends_at() if status in TERMINAL else None,
        )

    def _owned(self) -> list[Owned]:
        now = self.clock.now()
        listed = self._listed()
        found = [Owned(OwnedKind.BATCH, b.id, b.key, b.created_at, self._told(b)) for b in listed]
        writers = {each.id: each.batch for each in found}
        for file in self.files.values():
            if file.created_at + LIST_LAG > now:
                continue
            if file.output_of is None:
                found.append(Owned(OwnedKind.INPUT, file.id, file.key, file.created_at))
            elif file.output_of in writers:
                writer = writers[file.output_of]
                found.append(Owned(OwnedKind.OUTPUT, file.id, file.key, file.created_at, writer))
        return found

    def _sight(self, digest: str) -> int:
        self._seen[digest] = self._seen.get(digest, 0) + 1
        return self._seen[digest]

    def _bill(self, custom_id: str, batch_id: str | None, at: datetime) -> str:
        answer_id = self._id("answer")
        self.billed.append(Billed(custom_id, answer_id, batch_id, at))
        return answer_id

    def _end(self, batch: Batch, at: datetime) -> None:
        if batch.faults:
            batch.ended = ProviderStatus.FAILED
            return
        if batch.mishap is Mishap.NO_OUTPUT:
            batch.ended = ProviderStatus.COMPLETED
            return
        done = self._done(batch)
        output: list[bytes] = []
        errors: list[bytes] = []
        late: list[bytes] = []
        expired = False
        for place, (custom_id, mark) in enumerate(batch.lines):
            digest = custom_id.rpartition("-")[0]
            late += self._answers.get(digest, [])[-1:]
            sight = self._sight(digest)
            once = sight == 1
            if place >= done or (mark == "expire-once" and once):
                expired = expired or batch.cancelled_at is None
                code = "batch_cancelled" if batch.cancelled_at is not None else "batch_expired"
                errors.append(_line(custom_id, None, {"code": code, "message": code}))
            elif mark == "missing-once" and once:
                # Too late for its own file: it turns up in the next one that asks for the same task.
                self._answers.setdefault(digest, []).append(_answer(custom_id, f"late-{custom_id}"))
            elif mark == "500" or (mark == "500-once" and once):
                errors.append(_line(custom_id, (500, _error("server_error")), None))
            elif mark == "refuse":
                errors.append(_line(custom_id, (400, _error("content_policy_violation")), None))
            else:
                answer_id = self._bill(custom_id, batch.id, at)
                output.append(_answer(custom_id, answer_id, as_text=mark == "string-body"))
        # Not alone: a file without a line of its batch is asked for again for minutes, which most plays are spared.
        strange = [_answer("of-nobody-1", "of-nobody")] if output else []
        output += [*late, *output[:1], *strange]
        self.dice.shuffle(output)
        if batch.cancelled_at is not None:
            batch.ended = ProviderStatus.CANCELLED
        else:
            batch.ended = ProviderStatus.EXPIRED if expired else ProviderStatus.COMPLETED
        if batch.mishap is Mishap.FORGOTTEN:
            return
        batch.output_ref = self._file(f"{batch.id}_output.jsonl", output, batch.key, batch.id).id
        if errors:
            batch.error_ref = self._file(f"{batch.id}_error.jsonl", errors, batch.key, batch.id).id

    def _done(self, batch: Batch) -> int:
        """How many of its lines, in their order, were run."""
        if batch.cancelled_at is not None:
            share = (batch.cancelled_at - batch.created_at) / batch.takes
            return min(len(batch.lines), int(len(batch.lines) * share))
        return (len(batch.lines) + 1) // 2 if batch.mishap is Mishap.EXPIRES else len(batch.lines)


class _Wire:
    """A request: its connection may break before it takes effect, or after that."""

    def __init__(self, provider: ModelProvider) -> None:
        self._dice, self._flaky, self._refuses = provider.dice, provider.flaky, provider._refuses

    def __enter__(self) -> None:
        if self._refuses():
            raise ProviderRefused(401, "invalid_api_key", "no such key")
        if self._flaky and self._dice.random() < self._flaky / 2:
            raise Unreachable("connection refused")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._flaky and self._dice.random() < self._flaky / 2:
            raise Unreachable("connection reset")


def _faults(batch: Batch) -> tuple[ValidationFault, ...]:
    if batch.mishap is Mishap.TOKEN_LIMIT:
        return (ValidationFault(code="token_limit_exceeded", message="too many tokens are enqueued"),)
    named = [number for number, (_, mark) in enumerate(batch.lines, start=1) if mark == "bad-line"]
    if named:
        return tuple(ValidationFault(code="invalid_line", message="this line", line=number) for number in named)
    if any(mark == "unnamed" for _, mark in batch.lines):
        return (ValidationFault(code="invalid_request", message="some line"),)
    return ()


def _mark(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def _error(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": code}}


def _body(answer_id: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "An answer."}, "finish_reason": "stop"}
    return {"id": answer_id, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def _answer(custom_id: str, answer_id: str, *, as_text: bool = False) -> bytes:
    body: Any = _body(answer_id)
    return _line(custom_id, (200, orjson.dumps(body).decode() if as_text else body), None)


def _line(custom_id: str, response: tuple[int, Any] | None, error: dict[str, str] | None) -> bytes:
    told = None if response is None else {"status_code": response[0], "request_id": "req", "body": response[1]}
    return orjson.dumps({"id": custom_id, "custom_id": custom_id, "response": told, "error": error}) + b"\n"
