"""The simulated provider: everything that it knows, and nothing that moves by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from lowtide.core.batches import TERMINAL, ValidationFault
from lowtide.ports import Clock

from . import batches
from .asked import Asked, read_request
from .batches import Batch, Outcome
from .billing import BilledLine, statement
from .catalog import Catalog
from .dialects import written
from .downloads import Break, Delivery, Downloads
from .endpoints import Endpoint
from .fates import Fate, Judge
from .files import FileStore, StoredFile, page
from .inputs import BatchInput, no_input, no_room, read_input
from .limits import RateLimits
from .orders import Order, read_order
from .refusals import ApiError, flex_unavailable, invalid, quota_exceeded, rate_limited
from .scenario import Mishap, MishapKind, ResultKind, Scenario, Window, WindowKind
from .webhooks import Event, Postman

_BREAKS = {MishapKind.DOWNLOAD_RESET: Break.RESET, MishapKind.DOWNLOAD_TRUNCATED: Break.TRUNCATED}


class SimulatedProvider:
    """Files, batches, calls and what they cost, on any clock.

    Passive: a batch's progress is a function of the moment, worked out when somebody asks. Its methods answer with the
    bodies of the API and raise ApiError; ``build_app`` puts HTTP in front of them. Each reads the clock once, so that
    an answer is of one moment: a batch that ends between two readings would be ``completed`` without its files.
    """

    def __init__(self, scenario: Scenario, clock: Clock) -> None:
        self.scenario = scenario
        self.clock = clock
        self.billed: list[BilledLine] = []
        """Every line that was charged for, oldest first; call ``progress`` before reading it."""
        self.requests: Counter[str] = Counter()
        """Requests by route."""
        self.postman = Postman(scenario.webhook)
        self._started_at = clock.now()
        created = int(self._started_at.timestamp())
        self.models = Catalog(scenario.models, strict=scenario.strict_models, created=created)
        self._judge = Judge(scenario, self.models)
        self._limits = RateLimits(scenario.limits)
        self.limited = 0
        """Calls that a rate limit of the scenario refused."""
        self._files = FileStore()
        self._batches: dict[str, Batch] = {}
        self._running: dict[str, Batch] = {}
        self.downloads = Downloads(scenario.ranges)
        self._ids = 0
        self._calls = 0

    # --- the weather ---------------------------------------------------------------------------------------------

    def check(self, *, spends: bool) -> None:
        """Raises ApiError where a window refuses this request; ``spends``: it is a call or a new batch."""
        now = self.clock.now()
        for window in self._open_windows(now):
            left = max(1, round(window.to_s - self._age_s(now)))
            if window.kind is WindowKind.OUTAGE:
                raise ApiError(503, "The service is unavailable.", retry_after_s=min(left, 60))
            if window.kind is WindowKind.RATE_LIMIT and spends:
                raise rate_limited(min(left, max(1, self.scenario.calls.retry_after_s)))
            if window.kind is WindowKind.QUOTA and spends:
                raise quota_exceeded()

    def _age_s(self, now: datetime) -> float:
        return (now - self._started_at).total_seconds()

    def _open_windows(self, now: datetime) -> list[Window]:
        return [window for window in self.scenario.windows if window.from_s <= self._age_s(now) < window.to_s]

    # --- calls ---------------------------------------------------------------------------------------------------

    def call(self, endpoint: str, body: object, call_id: str | None) -> Fate:
        """Judges and bills one real-time request; whoever brings the answer waits ``latency_s`` first."""
        self._calls += 1
        nth = self.scenario.calls.every_nth_rate_limited
        if nth and self._calls % nth == 0:
            raise rate_limited(self.scenario.calls.retry_after_s)
        asked = read_request(Endpoint(endpoint), body)
        now = self.clock.now()
        try:
            self._limits.admit(asked, now)
        except ApiError:
            self.limited += 1
            raise
        no_flex = any(window.kind is WindowKind.NO_FLEX for window in self._open_windows(now))
        if asked.service_tier == "flex" and no_flex:
            raise flex_unavailable()
        fate = self._judge.call(asked, now)
        if fate.usage is not None:
            self.billed.append(batches.billed(asked, fate, now, batch_id=None, line_id=call_id))
        return fate

    def limits_of(self, body: object) -> dict[str, str]:
        """The headers that tell of the limits of a call's model."""
        model = body.get("model") if isinstance(body, dict) else None
        return self._limits.headers(model, self.clock.now()) if isinstance(model, str) else {}

    # --- files ---------------------------------------------------------------------------------------------------

    def upload(self, filename: str, purpose: str, content: bytes, *, kept_s: int | None = None) -> dict[str, Any]:
        now = self.clock.now()
        return self._files.upload(self._id("file-"), filename, purpose, content, now, kept_s=kept_s).body

    def file(self, file_id: str) -> dict[str, Any]:
        return self._files.get(file_id, self.clock.now()).body

    def download(self, file_id: str, headers: Mapping[str, str]) -> Delivery:
        """``headers`` of the request, in lower case."""
        now = self.progress()
        content = self._files.get(file_id, now).content
        return self.downloads.deliver(file_id, content, headers, now)

    def delete_file(self, file_id: str) -> dict[str, Any]:
        return self._files.delete(file_id, self.clock.now())

    def list_files(self, *, purpose: str | None, after: str | None, limit: int, newest_first: bool) -> dict[str, Any]:
        now = self.progress()
        files = [file for file in self._files.open(now) if purpose in (None, file.purpose)]
        ordered = files if newest_first else files[::-1]
        return page(((file.id, file.body) for file in ordered), after=after, limit=limit)

    # --- batches -------------------------------------------------------------------------------------------------

    def create_batch(self, body: object) -> tuple[dict[str, Any], bool]:
        """The new batch, and whether the reply is to be lost."""
        order = read_order(body)
        now = self.progress()
        batch = self._new_batch(order, now)
        self._batches[batch.id] = self._running[batch.id] = batch
        self._progress(now)
        return batch.body(now), batch.befalls(MishapKind.REPLY_LOST) is not None

    def batch(self, batch_id: str) -> dict[str, Any]:
        now = self.progress()
        return self._batch(batch_id).body(now)

    def cancel_batch(self, batch_id: str) -> dict[str, Any]:
        now = self.progress()
        batch = self._batch(batch_id)
        batch.cancel(now)
        self._progress(now)
        return batch.body(now)

    def list_batches(self, *, after: str | None, limit: int) -> dict[str, Any]:
        """Newest first. What was created a moment ago may not be in it yet."""
        now = self.progress()
        known = now - timedelta(seconds=self.scenario.batch.list_lag_s)
        listed = [batch for batch in reversed(self._batches.values()) if batch.timeline.created_at <= known]
        return page(((batch.id, batch.body(now)) for batch in listed), after=after, limit=limit)

    def progress(self) -> datetime:
        """Runs what has ended since the last look: its files, its bill, its webhook. Returns the moment of this
        look."""
        now = self.clock.now()
        self._progress(now)
        return now

    def _progress(self, now: datetime) -> None:
        for batch in list(self._running.values()):
            phase = batch.timeline.at(now)
            if phase.status not in TERMINAL:
                continue
            del self._running[batch.id]
            batch.outcome = outcome = batches.run(batch, phase, self._judge, self.scenario)
            self.billed.extend(outcome.billed)
            self._write_files(batch, outcome, phase.since)
            self.postman.tell(Event(self._id("evt_"), f"batch.{phase.status.value}", batch.id, phase.since))

    # --- what only a simulated provider tells ----------------------------------------------------------------------

    def billing(self) -> dict[str, Any]:
        self.progress()
        return statement(self.billed)

    def state(self) -> dict[str, Any]:
        """``{"now", "files": [file], "batches": [batch], "requests": {route: count}}``."""
        now = self.progress()
        return {
            "now": now.isoformat(),
            "files": [file.body for file in self._files.open(now)],
            "batches": [batch.body(now) for batch in self._batches.values()],
            "requests": dict(self.requests),
        }

    # --- inside --------------------------------------------------------------------------------------------------

    def _batch(self, batch_id: str) -> Batch:
        batch = self._batches.get(batch_id)
        if batch is None:
            raise ApiError(404, f"No batch found with id '{batch_id}'.", code="not_found")
        return batch

    def _new_batch(self, order: Order, now: datetime) -> Batch:
        content, given = self._given(order, now)
        ordinal = len(self._batches) + 1
        mishaps = [mishap for mishap in self.scenario.batch.mishaps if _befalls(mishap, ordinal, given, content)]
        faults = list(given.faults) or _faults(mishaps) or self._token_limit(given, mishaps)
        unfinished = any(
            isinstance(line.asked, Asked) and "expire" in self._judge.next_marks(line.asked) for line in given.lines
        )
        return Batch(
            self._id("batch_"),
            ordinal,
            order.endpoint,
            order.input_file_id,
            order.metadata,
            given,
            mishaps,
            batches.timeline(self.scenario, ordinal, mishaps, now, invalid=bool(faults), unfinished=unfinished),
            order.output_kept_s,
            faults,
        )

    def _given(self, order: Order, now: datetime) -> tuple[bytes, BatchInput]:
        """The input as it is now: a file that is deleted later is missed by nobody."""
        try:
            source = self._files.get(order.input_file_id, now)
        except ApiError:
            return b"", no_input(order.input_file_id)
        if source.purpose != "batch":
            raise invalid("The input file's purpose is not 'batch'.", "input_file_id")
        most, markers = self.scenario.batch.max_requests, self.scenario.markers
        knows = self.models.knows
        return source.content, read_input(
            source.content, order.endpoint, max_requests=most, markers=markers, knows=knows
        )

    def _token_limit(self, given: BatchInput, mishaps: list[Mishap]) -> list[ValidationFault]:
        """What is running for the model counts until it ends."""
        limit = self.scenario.batch.max_enqueued_tokens
        enqueued = sum(
            batch.given.tokens
            for batch in self._running.values()
            if batch.given.model == given.model and not batch.timeline.invalid
        )
        over = limit is not None and enqueued + given.tokens > limit
        if not over and not any(mishap.kind is MishapKind.TOKEN_LIMIT for mishap in mishaps):
            return []
        return [no_room(given.model, limit or 0)]

    def _write_files(self, batch: Batch, outcome: Outcome, at: datetime) -> None:
        for kind, lines in ((ResultKind.OUTPUT, outcome.output), (ResultKind.ERROR, outcome.errors)):
            if lines:
                batch.file_ids[kind] = self._result(batch, kind, lines, at)
        if batch.befalls(MishapKind.BLANK_ERROR_FILE_ID):
            batch.file_ids.setdefault(ResultKind.ERROR, "")

    def _result(self, batch: Batch, kind: ResultKind, lines: list[bytes], at: datetime) -> str:
        dialect = batch.befalls(MishapKind.DIALECT)
        spoken = dialect.dialects if dialect is not None and kind in dialect.files else ()
        expires_at = None if batch.output_kept_s is None else at + timedelta(seconds=batch.output_kept_s)
        name = f"{batch.id}_{kind}.jsonl"
        stored = StoredFile(self._id("file-"), name, "batch_output", written(lines, spoken), at, expires_at)
        self._files.add(stored)
        for mishap, how in _BREAKS.items():
            if (befallen := batch.befalls(mishap)) is not None:
                self.downloads.will_break(stored.id, how, befallen.downloads)
        if (gone := batch.befalls(MishapKind.FILE_GONE)) is not None and kind in gone.files:
            until = None if gone.seconds is None else at + timedelta(seconds=gone.seconds)
            self.downloads.will_refuse(stored.id, gone.status, until)
        return stored.id

    def _id(self, prefix: str) -> str:
        """New for every provider that is started, so that one never takes an older one's file for its own."""
        self._ids += 1
        text = f"{self.scenario.seed} {self._started_at.isoformat()} {prefix} {self._ids}"
        return prefix + sha256(text.encode()).hexdigest()[:24]


def _befalls(mishap: Mishap, ordinal: int, given: BatchInput, content: bytes) -> bool:
    return (
        (mishap.batches is None or ordinal in mishap.batches)
        and (mishap.model is None or mishap.model == given.model)
        and (mishap.contains is None or mishap.contains.encode() in content)
    )


def _faults(mishaps: list[Mishap]) -> list[ValidationFault]:
    for mishap in mishaps:
        if mishap.kind is MishapKind.FAILS_VALIDATION:
            lines = mishap.lines or (None,)
            message = "The request is not valid." if mishap.lines else "The batch failed validation."
            return [ValidationFault(code="invalid_request", message=message, line=line) for line in lines]
    return []
