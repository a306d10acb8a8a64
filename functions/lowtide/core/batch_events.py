"""What can happen to a batch's row, and what became of it there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from .batch_rows import AwayFile, BatchRow, BatchTally, Made, Progress, ProviderBatch, Unanswered


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
    """A look at a running batch that has not ended, or that has ended and may yet name its files."""

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
    """The provider refused the batch, or took it and ran none of its lines. It is uploaded and submitted again later,
    under a new number. No attempt is counted. ``refused``: the batch or its file was at fault."""

    owner: str
    not_before: datetime
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Rescue:
    """The intent to cancel, before the provider is asked: repeated until the batch says that it is being cancelled."""

    owner: str


@dataclass(frozen=True, slots=True)
class Collect:
    """``tries``, ``real_time_before``, ``held_key``: see the row. ``released``: it has not ended, and is waited for no
    longer."""

    owner: str
    batch: ProviderBatch
    tries: int
    real_time_before: datetime | None = None
    released: bool = False
    held_key: str | None = None


@dataclass(frozen=True, slots=True)
class Miss:
    """A result file could not be read, or is given up."""

    owner: str
    file: AwayFile


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
    | Miss
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
