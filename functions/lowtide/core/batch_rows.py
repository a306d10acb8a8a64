"""A batch's row: what is kept of it, and what the provider says of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from .model import Stored, Utc
from .parts import Lot
from .records import Usage


class BatchState(StrEnum):
    OPEN = "open"
    SEALED = "sealed"
    UPLOADING = "uploading"
    SUBMITTING = "submitting"
    RUNNING = "running"
    COLLECTING = "collecting"
    CLEANING = "cleaning"
    DONE = "done"


NOT_ASKED_FOR = frozenset({BatchState.OPEN, BatchState.SEALED, BatchState.UPLOADING})
"""No creation was asked for yet, so nothing can be running at the provider."""


class ProviderStatus(StrEnum):
    """The provider's own words for where a batch is. Others exist elsewhere; they count as in progress."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


TERMINAL = frozenset(
    {ProviderStatus.COMPLETED, ProviderStatus.FAILED, ProviderStatus.EXPIRED, ProviderStatus.CANCELLED}
)


class ValidationFault(Stored):
    """One entry of a failed batch's ``errors.data``. ``line`` counts from 1."""

    code: str | None = None
    message: str | None = None
    line: int | None = None
    param: str | None = None
    type: str | None = None


class RequestCounts(Stored):
    """What the provider says of a batch's requests. None: it does not say."""

    total: int | None = None
    completed: int | None = None
    failed: int | None = None


class ProviderBatch(Stored):
    """What the provider says of a batch. Counts and usage may be absent, and are never trusted over the files."""

    id: str
    status: ProviderStatus
    input_ref: str | None = None
    output_ref: str | None = None
    error_ref: str | None = None
    faults: tuple[ValidationFault, ...] = ()
    created_at: Utc | None = None
    ended_at: Utc | None = None
    usage: dict[str, Any] | None = None
    counts: RequestCounts = RequestCounts()
    began: bool = False
    """The provider said at some time that it worked on the lines: in its own words, or by the time of its beginning."""

    @property
    def may_have_run(self) -> bool:
        """Tell whether it may have answered, and billed, a line. Only a server that counts can say that nothing was
        completed; of any other, it counts whether the batch ever began."""
        counts = self.counts
        completed_none = counts.completed == 0 and bool(counts.total or counts.failed)
        return self.has_run or (self.began and not completed_none)

    @property
    def has_run(self) -> bool:
        """Tell whether it says that it answered a line."""
        return self.output_ref is not None or bool(self.counts.completed) or self._used_tokens

    @property
    def _used_tokens(self) -> bool:
        told = (self.usage or {}).items()
        return any("token" in name and isinstance(value, int | float) and value > 0 for name, value in told)

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def result_refs(self) -> tuple[str, ...]:
        """Ids of its result files: first the one with answers, then the one with failures."""
        return tuple(dict.fromkeys(ref for ref in (self.output_ref, self.error_ref) if ref))

    def with_only(self, ref: str) -> ProviderBatch:
        """Return the batch as if this were its one result file."""
        return self.model_copy(update={"output_ref": ref, "error_ref": None})

    def after(self, known: ProviderBatch) -> ProviderBatch:
        """Return this look with what an earlier one said: a server that drops a file's name still has the file, and
        what was counted as completed, or used tokens, did so."""
        if known.id != self.id:
            return self
        fewer = (self.counts.completed or 0) < (known.counts.completed or 0)
        kept = {
            "output_ref": self.output_ref or known.output_ref,
            "error_ref": self.error_ref or known.error_ref,
            "counts": known.counts if fewer else self.counts,
            "usage": self.usage if self._used_tokens else known.usage or self.usage,
            "began": self.began or known.began,
        }
        return self.model_copy(update=kept)


class Made(StrEnum):
    """What a refusal says of the creation that it refused."""

    NOTHING = "nothing"
    MAYBE = "maybe"
    """A batch, for all that is known: nobody creates another before the grace period is over."""


class Unanswered(StrEnum):
    """What is to become of the tasks of a cancelled batch that it has not answered."""

    AGAIN = "again"
    """They go into a later batch; the attempt is not counted."""
    CANCEL = "cancel"
    """They are cancelled with it."""


class BatchTally(Stored):
    """What became of a batch's lines. ``in_vain`` was billed for answers that settled nothing: to tasks that
    had been cancelled, or not what was asked for."""

    answered: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    rescued: int = 0
    """Unanswered, and too near their deadline for another batch."""
    in_vain: Usage = Usage()
    unread: int = 0
    """Lines of its files that settle nothing: they cannot be read, or are about no line of this batch."""


class Away(StrEnum):
    """Reasons why a result file that a batch names could not be read."""

    GONE = "gone"
    """The provider does not have it (404, 410 and other refusals that no repetition mends), or it holds something
    else."""
    KEPT_BACK = "kept_back"
    """It is there, and not to be had: a download that breaks off at every try."""
    BARRED = "barred"
    """An operator has to act first: the key may not read it (403), or its address redirects to another."""
    FAILURES_BARRED = "failures_barred"
    """The same of the file with failures, where another has the answers."""
    UNWELL = "unwell"
    """The provider fails us (5xx, 429, no answer)."""


class AwayFile(Stored):
    """A result file that could not be read at the last try. ``given_up``: its lines count as missing."""

    ref: str
    why: Away
    reason: str
    since: Utc
    given_up: bool = False


class Progress(Stored):
    """How far a collection came: so many shards are settled, ``tally`` is theirs.

    ``digest`` says whom they settled, and how: a later reading may pass over them only where it comes to the same.
    ``cuts``: after how many ends a shard was closed before it was full, because a file was away.
    """

    shards: int
    digest: str
    tally: BatchTally
    cuts: tuple[int, ...] = ()


class BatchRow(Stored):
    """``requests`` and ``bytes`` are known once it is sealed; ``tokens``, an estimate, is its parts' until then.

    ``submission`` counts creations on purpose.
    """

    rev: int = 0
    batch_id: str
    lot: Lot
    part_ids: tuple[str, ...]
    created_at: Utc
    tightest_deadline: Utc
    state: BatchState = BatchState.OPEN
    lease: str | None = None
    lease_until: Utc | None = None
    file_key: str | None = None
    manifest_key: str | None = None
    requests: int = 0
    bytes: int = 0
    tokens: int = 0
    submission: int = 1
    found: bool = False
    setbacks: int = 0
    refusals: int = 0
    """Times that the provider refused the batch itself or its file."""
    not_before: Utc | None = None
    input_ref: str | None = None
    intent_at: Utc | None = None
    refused: bool = False
    """The creation that ``intent_at`` speaks of surely made nothing."""
    submitted_at: Utc | None = None
    provider_batch: ProviderBatch | None = None
    polls: int = 0
    next_poll_at: Utc | None = None
    unnamed_since: Utc | None = None
    """Moment of the first look that found it ended without a file that it may yet name."""
    away: tuple[AwayFile, ...] = ()
    """Result files that could not be read when they were last asked for."""
    rescued_at: Utc | None = None
    """Since when it is to be cancelled for a deadline."""
    collected_at: Utc | None = None
    tries: int = 0
    """That a task has, as it was when collecting began: whoever reads the files again divides the lines alike."""
    real_time_before: Utc | None = None
    """What is due before it and not answered goes to a faster lane, not into another batch."""
    held_key: str | None = None
    """Of the object with the holds in force when collecting began: what they cover, and is not answered, waits in a
    part."""
    released: bool = False
    """Given up before its end: it may bill its lines yet."""
    progress: Progress | None = None
    tally: BatchTally = BatchTally()
    stop: Unanswered | None = None
    """An operator has cancelled the batch; once it is collected, nothing of this changes any more."""
    kept_at: Utc | None = None
    """When its file was last written anew, so that it outlives the bucket's lifecycle."""
    done_at: Utc | None = None

    @property
    def key(self) -> str:
        return self.batch_id

    @property
    def active(self) -> bool:
        return self.state is not BatchState.DONE

    @property
    def called_off(self) -> bool:
        """Is it to be cancelled at the provider, or not to be created at all?"""
        return self.stop is not None or self.rescued_at is not None
