"""The simulated provider: everything that it knows, and nothing that moves by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from lowtide.core.batches import TERMINAL, ValidationFault
from lowtide.core.task import Endpoint
from lowtide.ports import Clock

from . import batches
from .asked import Asked, read_request
from .batches import Batch, Outcome
from .billing import BilledLine, statement
from .downloads import Break, Delivery, Downloads
from .fates import Fate, Judge
from .files import FileStore, StoredFile, page
from .inputs import BatchInput, read_input
from .limits import RateLimits
from .refusals import ApiError, flex_unavailable, invalid, quota_exceeded, rate_limited
from .scenario import Mishap, MishapKind, Scenario, WindowKind
from .webhooks import Event, Postman

_METADATA_PAIRS = 16
_BREAKS = {MishapKind.DOWNLOAD_RESET: Break.RESET, MishapKind.DOWNLOAD_TRUNCATED: Break.TRUNCATED}


class SimulatedProvider:
    """Files, batches, calls and what they cost, on any clock.

    Passive: a batch's progress is a function of the moment, worked out when somebody asks. Its methods answer with the
    bodies of the API and raise ApiError; ``build_app`` puts HTTP in front of them.
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
        self._judge = Judge(scenario)
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
        seconds = (self.clock.now() - self._started_at).total_seconds()
        for window in self.scenario.windows:
            if not window.from_s <= seconds < window.to_s:
                continue
            left = max(1, round(window.to_s - seconds))
            if window.kind is WindowKind.OUTAGE:
                raise ApiError(503, "The service is unavailable.", retry_after_s=min(left, 60))
            if window.kind is WindowKind.RATE_LIMIT and spends:
                raise rate_limited(min(left, max(1, self.scenario.calls.retry_after_s)))
            if window.kind is WindowKind.QUOTA and spends:
                raise quota_exceeded()

    def _open_windows(self) -> set[WindowKind]:
        seconds = (self.clock.now() - self._started_at).total_seconds()
        return {window.kind for window in self.scenario.windows if window.from_s <= seconds < window.to_s}

    # --- calls ---------------------------------------------------------------------------------------------------

    def call(self, endpoint: Endpoint, body: object, call_id: str | None) -> Fate:
        """Judges and bills one real-time request; whoever brings the answer waits ``latency_s`` first."""
        self._calls += 1
        nth = self.scenario.calls.every_nth_rate_limited
        if nth and self._calls % nth == 0:
            raise rate_limited(self.scenario.calls.retry_after_s)
        asked = read_request(endpoint, body)
        now = self.clock.now()
        try:
            self._limits.admit(asked, now)
        except ApiError:
            self.limited += 1
            raise
        if asked.service_tier == "flex" and WindowKind.NO_FLEX in self._open_windows():
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
        self.progress()
        content = self._files.get(file_id, self.clock.now()).content
        return self.downloads.deliver(file_id, content, headers)

    def delete_file(self, file_id: str) -> dict[str, Any]:
        return self._files.delete(file_id, self.clock.now())

    def list_files(self, *, purpose: str | None, after: str | None, limit: int, newest_first: bool) -> dict[str, Any]:
        self.progress()
        files = [file for file in self._files.open(self.clock.now()) if purpose in (None, file.purpose)]
        ordered = files if newest_first else files[::-1]
        return page(((file.id, file.body) for file in ordered), after=after, limit=limit)

    # --- batches -------------------------------------------------------------------------------------------------

    def create_batch(self, body: object) -> tuple[dict[str, Any], bool]:
        """The new batch, and whether the reply is to be lost."""
        if not isinstance(body, dict):
            raise invalid("We expected a JSON object as the body.", None)
        if body.get("endpoint") not in set(Endpoint):
            raise invalid("Invalid 'endpoint': no batches of it are simulated.", "endpoint", "invalid_value")
        if body.get("completion_window") != "24h":
            raise invalid("Invalid 'completion_window': expected '24h'.", "completion_window", "invalid_value")
        metadata = body.get("metadata")
        if metadata is not None and (not isinstance(metadata, dict) or len(metadata) > _METADATA_PAIRS):
            raise invalid("Invalid 'metadata': expected at most 16 pairs.", "metadata")
        self.progress()
        now = self.clock.now()
        source = self._files.get(str(body.get("input_file_id")), now)
        if source.purpose != "batch":
            raise invalid("The input file's purpose is not 'batch'.", "input_file_id")
        batch = self._new_batch(source, Endpoint(body["endpoint"]), metadata, now)
        self._batches[batch.id] = self._running[batch.id] = batch
        self.progress()
        return batch.body(now), batch.befalls(MishapKind.REPLY_LOST) is not None

    def batch(self, batch_id: str) -> dict[str, Any]:
        self.progress()
        return self._batch(batch_id).body(self.clock.now())

    def cancel_batch(self, batch_id: str) -> dict[str, Any]:
        self.progress()
        batch = self._batch(batch_id)
        batch.cancel(self.clock.now())
        self.progress()
        return batch.body(self.clock.now())

    def list_batches(self, *, after: str | None, limit: int) -> dict[str, Any]:
        """Newest first. What was created a moment ago may not be in it yet."""
        self.progress()
        now = self.clock.now()
        known = now - timedelta(seconds=self.scenario.batch.list_lag_s)
        listed = [batch for batch in reversed(self._batches.values()) if batch.timeline.created_at <= known]
        return page(((batch.id, batch.body(now)) for batch in listed), after=after, limit=limit)

    def progress(self) -> None:
        """Runs what has ended since the last look: its files, its bill, its webhook."""
        now = self.clock.now()
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
        self.progress()
        now = self.clock.now()
        return {
            "now": now.isoformat(),
            "files": [file.body for file in self._files.open(now)],
            "batches": [batch.body(now) for batch in self._batches.values()],
            "requests": dict(self.requests),
        }

    def models(self) -> dict[str, Any]:
        created = int(self._started_at.timestamp())
        listed = [
            {"id": name, "object": "model", "created": created, "owned_by": "simulated"}
            for name in self.scenario.models
        ]
        return {"object": "list", "data": listed}

    # --- inside --------------------------------------------------------------------------------------------------

    def _batch(self, batch_id: str) -> Batch:
        batch = self._batches.get(batch_id)
        if batch is None:
            raise ApiError(404, f"No batch found with id '{batch_id}'.", code="not_found")
        return batch

    def _new_batch(
        self, source: StoredFile, endpoint: Endpoint, metadata: dict[str, str] | None, now: datetime
    ) -> Batch:
        weather, markers = self.scenario.batch, self.scenario.markers
        given = read_input(source.content, endpoint, max_requests=weather.max_requests, markers=markers)
        ordinal = len(self._batches) + 1
        mishaps = [mishap for mishap in weather.mishaps if _befalls(mishap, ordinal, given, source.content)]
        faults = list(given.faults) or _faults(mishaps) or self._token_limit(given, mishaps)
        unfinished = any(
            isinstance(line.asked, Asked) and "expire" in self._judge.next_marks(line.asked) for line in given.lines
        )
        timeline = batches.timeline(self.scenario, ordinal, mishaps, now, invalid=bool(faults), unfinished=unfinished)
        return Batch(
            self._id("batch_"), ordinal, endpoint, source.id, metadata, given, mishaps, timeline, faults=faults
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
        message = (
            f"Enqueued token limit reached for {given.model}. Limit: {limit or 0} enqueued tokens. "
            "Please try again once some in_progress batches have been completed."
        )
        return [ValidationFault(code="token_limit_exceeded", message=message)]

    def _write_files(self, batch: Batch, outcome: Outcome, at: datetime) -> None:
        if outcome.output:
            batch.output_file_id = self._output(batch, "output", outcome.output, at)
        if outcome.errors:
            batch.error_file_id = self._output(batch, "error", outcome.errors, at)
        elif batch.befalls(MishapKind.BLANK_ERROR_FILE_ID):
            batch.error_file_id = ""

    def _output(self, batch: Batch, kind: str, lines: list[bytes], at: datetime) -> str:
        name = f"{batch.id}_{kind}.jsonl"
        stored = self._files.add(StoredFile(self._id("file-"), name, "batch_output", b"".join(lines), at))
        for mishap, how in _BREAKS.items():
            if (befallen := batch.befalls(mishap)) is not None:
                self.downloads.will_break(stored.id, how, befallen.downloads)
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
