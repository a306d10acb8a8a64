"""What may happen to a task, and what its row has to say to that."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum, auto

from .endings import Ending
from .lanes import Lane
from .records import Pointer, ResultDocument, Status
from .task import AcceptedTask
from .task_rows import ModelChoice, Strikes, TaskRow


@dataclass(frozen=True, slots=True)
class Accept:
    """A feeder that knows its tasks beforehand (``run``) writes them down before it queues them."""

    task: AcceptedTask


@dataclass(frozen=True, slots=True)
class ClaimCall:
    """Immediately before a real-time call. Nobody else may call before ``until``."""

    task: AcceptedTask
    holder: str
    until: datetime


@dataclass(frozen=True, slots=True)
class ClaimPart:
    """A drained task joins a part whose object is already durable."""

    task: AcceptedTask
    part_id: str


@dataclass(frozen=True, slots=True)
class Restage:
    """From an attempt that failed in a batch into its retry part. ``unsure`` is 1 where it may have been billed."""

    attempt: int
    from_parts: frozenset[str]
    part_id: str
    strikes: Strikes
    unsure: int = 0


@dataclass(frozen=True, slots=True)
class Carry:
    """From a part whose batch was written before the claim came (a drain that outlived its lease) into another part.

    The attempt has not begun, so it keeps its number. ``task`` is the copy that the new part holds, where that may be
    another than the one which was claimed.
    """

    from_parts: frozenset[str]
    part_id: str
    task: AcceptedTask | None = None


class Onward(Enum):
    """Where a task goes once its model is chosen."""

    CALL = auto()
    """Into the call that its claim is for."""
    BATCH = auto()
    """Back to a queue, LOW's: to choose was no attempt, and whoever claims it next has the same one before him."""


@dataclass(frozen=True, slots=True)
class Choose:
    """The claim's holder has chosen the model. ``spent_usd`` is what asking cost; ``unpriced``: and more, at a price
    that is not known; ``unsure`` is 1 where it brought no answer and may have been billed."""

    holder: str
    attempt: int
    choice: ModelChoice
    onward: Onward
    spent_usd: Decimal = Decimal(0)
    unsure: int = 0
    unpriced: bool = False


@dataclass(frozen=True, slots=True)
class Free:
    """From a part back onto a queue, where any lane's claim may take it: a batch would bring it too late.

    ``attempt`` and ``strikes`` are None where the task leaves a part that was in no batch: the row's own stand.
    Whoever frees sends the task's message *after* this took effect, and again whenever the verdict is ``REPEATED``: a
    message that comes before would be dropped, because the task is still in safe hands.
    """

    from_parts: frozenset[str]
    rescued_from: str
    attempt: int | None = None
    strikes: Strikes | None = None
    unsure: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """A call gives its task back to the queue. ``unsure`` is 1 where the provider may have billed it all the same."""

    holder: str
    attempt: int
    not_before: datetime
    strikes: Strikes
    unsure: int = 0


@dataclass(frozen=True, slots=True)
class Settle:
    """The end. The document is durable in this very write, or already durable where ``pointer`` says.

    ``unsure`` is 1 where the provider may have billed an attempt that brought no answer. ``strikes``: those after
    the last attempt, for what it cost; the row's count of failures stays what it was when that began. ``ending`` is
    what the metrics count; the row does not keep it.
    """

    holders: frozenset[str]
    attempt: int
    status: Status
    lane: Lane | None
    error_code: str | None = None
    document: ResultDocument | None = None
    pointer: Pointer | None = None
    unsure: int = 0
    strikes: Strikes | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """An operator's. ``task`` is needed where the task is staged: its part has it, and no message will bring it."""

    tenant: str
    task_id: str
    task: AcceptedTask | None = None


@dataclass(frozen=True, slots=True)
class Redrive:
    """A dead task goes round again. ``task`` names the new generation, so that a repetition is known as one;
    ``spent_usd`` is what the attempts so far have cost."""

    task: AcceptedTask
    spent_usd: Decimal


TaskEvent = Accept | ClaimCall | ClaimPart | Choose | Restage | Carry | Free | Release | Settle | Cancel | Redrive


class Verdict(StrEnum):
    APPLIED = "applied"
    REPEATED = "repeated"
    """This event, or this delivery of the task, took effect before: go on as if it had just now."""
    DUPLICATE = "duplicate"
    """Same content from another delivery, and the task is safe: drop it, count it."""
    CONFLICT = "conflict"
    """Same id, other content: refuse it; the first task is untouched."""
    BUSY = "busy"
    """A call in flight holds the task: come back when ``row.claimed_until`` has passed."""
    NOT_YET = "not_yet"
    """The task waits for its retry: come back at ``row.not_before``."""
    STALE = "stale"
    """The event speaks of an attempt that is no longer the task's: drop it."""
    CANCELLED = "cancelled"
    """The task of this claim was cancelled, and ``row`` has its record: deliver that, and do no work."""
    IN_VAIN = "in_vain"
    """An answer to a task that was cancelled meanwhile, or an attempt that may have been billed as one: it settles
    nothing, and ``row.repaid`` counts it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """``row`` is the row as it is after the decision; it is to be written only where ``changed``. ``before`` is the row
    that was changed, where one was."""

    verdict: Verdict
    row: TaskRow | None
    changed: bool = False
    before: TaskRow | None = field(default=None, compare=False, repr=False)
