"""A batch's row, and the one function that moves it.

::

    (none) ──Start──▶ open ──Seal──▶ sealed ──Upload──▶ uploading ──Intend──▶ submitting ──Run──▶ running
                                       ▲                                          │ ▲
                                       │                       Intend again, past ├─┘
                                       │                       the grace          ▼
                                       └──────────────Return──────────────── (running)

    running ──Collect──▶ collecting ──Clean──▶ cleaning ──Done──▶ done
                           ↺ Checkpoint: a shard more is settled

    uploading, submitting, collecting, cleaning ──Postpone──▶ the same, later

    open … running ──Stop──▶ the same, on its way to an early end
    sealed … running ──Rescue──▶ the same, to be cancelled for a deadline

Intent comes first, then the call: ``submitting`` is written before the provider is asked to create. Whoever wakes in
``submitting`` looks at the provider before creating, waits out a grace period and intends again. ``Return`` takes a
submission back whole, with a new number, so that a look-up does not find the old one. Every event but ``Start``,
``Keep`` and an operator's ``Stop`` names the lease it acts under, and every write is conditional on ``rev`` as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never

from .holds import Scope
from .model import Utc, Value
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


class ValidationFault(Value):
    """One entry of a failed batch's ``errors.data``. ``line`` counts from 1."""

    code: str | None = None
    message: str | None = None
    line: int | None = None
    param: str | None = None


class ProviderBatch(Value):
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

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL


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


class BatchTally(Value):
    """What became of a batch's lines. ``in_vain`` was billed for answers that settled nothing: to tasks that
    had been cancelled, or not what was asked for."""

    answered: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    rescued: int = 0
    """Unanswered, and too near their deadline for another batch."""
    in_vain: Usage = Usage()


class Progress(Value):
    """How far a collection came: so many shards are settled, ``tally`` is theirs.

    ``digest`` says whom they settled, and how: a later reading may pass over them only where it comes to the same.
    """

    shards: int
    digest: str
    tally: BatchTally


class BatchRow(Value):
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
    not_before: Utc | None = None
    input_ref: str | None = None
    intent_at: Utc | None = None
    refused: bool = False
    """The creation that ``intent_at`` speaks of surely made nothing."""
    submitted_at: Utc | None = None
    provider_batch: ProviderBatch | None = None
    polls: int = 0
    next_poll_at: Utc | None = None
    rescued_at: Utc | None = None
    """Since when it is to be cancelled for a deadline."""
    collected_at: Utc | None = None
    real_time_before: Utc | None = None
    """What is due before it and not answered goes to a faster lane, not into another batch."""
    held: tuple[Scope, ...] = ()
    """The holds in force when collecting began: what they cover, and is not answered, waits in a part."""
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


@dataclass(frozen=True, slots=True)
class Start:
    batch: BatchRow


@dataclass(frozen=True, slots=True)
class Stop:
    """An operator cancels the batch. Whoever has it in hand goes by this from the next write on."""

    unanswered: Unanswered


@dataclass(frozen=True, slots=True)
class Keep:
    """Its file was written anew at ``at``, whoever has the batch in hand."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """Taken by who works on a batch, given back with ``until`` in the past. The loser goes home."""

    owner: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Seal:
    owner: str
    file_key: str
    manifest_key: str
    requests: int
    bytes: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Upload:
    owner: str


@dataclass(frozen=True, slots=True)
class Intend:
    """``input_ref`` is the provider's handle of the uploaded input, ``None`` where creation carries it inline."""

    owner: str
    input_ref: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """``found``: by looking at the provider, after a creation whose reply nobody noted."""

    owner: str
    batch: ProviderBatch
    found: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A look at a running batch that has not ended."""

    owner: str
    batch: ProviderBatch
    next_poll_at: datetime


@dataclass(frozen=True, slots=True)
class Postpone:
    """The provider would not have it now: the same step again, later. ``made``: what it may have made all the same."""

    owner: str
    not_before: datetime
    made: Made


@dataclass(frozen=True, slots=True)
class Return:
    """The provider took it and then ran none of it (token limit): submitted anew later, no attempt counted."""

    owner: str
    not_before: datetime


@dataclass(frozen=True, slots=True)
class Rescue:
    """The intent to cancel, before the provider is asked: repeated until the batch says that it is being cancelled."""

    owner: str


@dataclass(frozen=True, slots=True)
class Collect:
    """``real_time_before``, ``held``: see the row. ``released``: it has not ended, and is waited for no longer."""

    owner: str
    batch: ProviderBatch
    real_time_before: datetime | None = None
    released: bool = False
    held: tuple[Scope, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A shard more is settled, and more will follow: whoever collects next passes over these."""

    owner: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Clean:
    owner: str
    tally: BatchTally


@dataclass(frozen=True, slots=True)
class Done:
    owner: str


BatchEvent = (
    Start
    | Stop
    | Keep
    | Lease
    | Seal
    | Upload
    | Intend
    | Run
    | Seen
    | Postpone
    | Return
    | Rescue
    | Collect
    | Checkpoint
    | Clean
    | Done
)


class BatchVerdict(StrEnum):
    APPLIED = "applied"
    REPEATED = "repeated"
    REFUSED = "refused"
    """Another holds the lease, or the batch is not where this event starts from."""


@dataclass(frozen=True, slots=True)
class BatchDecision:
    verdict: BatchVerdict
    row: BatchRow | None
    changed: bool = False


_FROM: dict[type, frozenset[BatchState]] = {
    Seal: frozenset({BatchState.OPEN}),
    Upload: frozenset({BatchState.SEALED, BatchState.UPLOADING}),
    Intend: frozenset({BatchState.UPLOADING, BatchState.SUBMITTING}),
    Run: frozenset({BatchState.SUBMITTING}),
    Seen: frozenset({BatchState.RUNNING}),
    Postpone: frozenset({BatchState.UPLOADING, BatchState.SUBMITTING, BatchState.COLLECTING, BatchState.CLEANING}),
    Return: frozenset({BatchState.RUNNING}),
    Rescue: frozenset({BatchState.SEALED, BatchState.UPLOADING, BatchState.SUBMITTING, BatchState.RUNNING}),
    Collect: frozenset({BatchState.RUNNING, BatchState.COLLECTING}),
    Checkpoint: frozenset({BatchState.COLLECTING}),
    Clean: frozenset({BatchState.COLLECTING}),
    Done: frozenset({BatchState.OPEN, BatchState.CLEANING}),
}


_ENDED = frozenset({BatchState.COLLECTING, BatchState.CLEANING, BatchState.DONE})


def transition(row: BatchRow | None, event: BatchEvent, now: datetime) -> BatchDecision:
    """What ``event`` does to ``row`` at ``now``. Total: every state takes every event."""
    if isinstance(event, Start):
        if row is None:
            return BatchDecision(BatchVerdict.APPLIED, event.batch, changed=True)
        return BatchDecision(BatchVerdict.REPEATED, row)
    if row is None:
        return BatchDecision(BatchVerdict.REFUSED, None)
    if isinstance(event, Stop):
        return _stop(row, event)
    if isinstance(event, Keep):
        return _keep(row, event)
    if isinstance(event, Lease):
        if row.state is BatchState.DONE:
            return BatchDecision(BatchVerdict.REFUSED, row)
        free = row.lease in (None, event.owner) or row.lease_until is None or row.lease_until <= now
        if not free:
            return BatchDecision(BatchVerdict.REFUSED, row)
        held = row.model_copy(update={"lease": event.owner, "lease_until": event.until})
        return BatchDecision(BatchVerdict.APPLIED, held, changed=True)
    if row.lease != event.owner or row.state not in _FROM[type(event)]:
        return BatchDecision(BatchVerdict.REFUSED, row)
    return BatchDecision(BatchVerdict.APPLIED, row.model_copy(update=_changes(row, event, now)), changed=True)


def _stop(row: BatchRow, event: Stop) -> BatchDecision:
    if row.stop is event.unanswered:
        return BatchDecision(BatchVerdict.REPEATED, row)
    if row.state in _ENDED:
        return BatchDecision(BatchVerdict.REFUSED, row)
    # Nobody is to wait for the next look or the next try: there is something to do at once.
    stopped = row.model_copy(update={"stop": event.unanswered, "not_before": None, "next_poll_at": None, "polls": 0})
    return BatchDecision(BatchVerdict.APPLIED, stopped, changed=True)


def _keep(row: BatchRow, event: Keep) -> BatchDecision:
    if not row.active:
        return BatchDecision(BatchVerdict.REFUSED, row)
    if row.kept_at is not None and row.kept_at >= event.at:
        return BatchDecision(BatchVerdict.REPEATED, row)
    return BatchDecision(BatchVerdict.APPLIED, row.model_copy(update={"kept_at": event.at}), changed=True)


def _changes(row: BatchRow, event: BatchEvent, now: datetime) -> dict[str, object]:
    match event:
        case Seal():
            return {
                "state": BatchState.SEALED,
                "file_key": event.file_key,
                "manifest_key": event.manifest_key,
                "requests": event.requests,
                "bytes": event.bytes,
                "tokens": event.tokens,
            }
        case Upload():
            return {"state": BatchState.UPLOADING}
        case Intend():
            return {"state": BatchState.SUBMITTING, "input_ref": event.input_ref, "intent_at": now, "refused": False}
        case Run():
            return {
                "state": BatchState.RUNNING,
                "provider_batch": event.batch,
                "found": row.found or event.found,
                "submitted_at": now,
                "not_before": None,
                "polls": 0,
                "next_poll_at": None,
            }
        case Seen():
            return {"provider_batch": event.batch, "polls": row.polls + 1, "next_poll_at": event.next_poll_at}
        case Postpone():
            put_off = {"not_before": event.not_before, "setbacks": row.setbacks + 1}
            return put_off | {"refused": row.state is BatchState.SUBMITTING and event.made is Made.NOTHING}
        case Return():
            return {
                "state": BatchState.SEALED,
                "submission": row.submission + 1,
                "setbacks": row.setbacks + 1,
                "not_before": event.not_before,
                "input_ref": None,
                "intent_at": None,
                "submitted_at": None,
                "provider_batch": None,
            }
        case Rescue():
            # As with an operator's stop, nobody is to wait for the next look or the next try.
            return {"rescued_at": row.rescued_at or now, "not_before": None, "next_poll_at": None, "polls": 0}
        case Collect():
            if row.collected_at is not None:
                return {"provider_batch": event.batch}
            return {
                "state": BatchState.COLLECTING,
                "provider_batch": event.batch,
                # Stamped once: what is written while collecting is a pure function of these.
                "collected_at": now,
                "real_time_before": event.real_time_before,
                "held": event.held,
                "released": event.released,
            }
        case Checkpoint():
            return {"progress": event.progress}
        case Clean():
            return {"state": BatchState.CLEANING, "tally": event.tally}
        case Done():
            return {"state": BatchState.DONE, "done_at": now, "lease": None, "lease_until": None}
        case Start() | Stop() | Keep() | Lease():
            raise AssertionError("handled by transition")
        case _:
            assert_never(event)


GRACE = timedelta(minutes=2)
"""How long a provider's list of batches may lag behind a creation whose reply was lost, with a margin."""


def may_intend_again(row: BatchRow, now: datetime) -> bool:
    """May whoever woke in ``submitting``, and found nothing at the provider, create?"""
    return row.refused or (row.intent_at is not None and now >= row.intent_at + GRACE)
