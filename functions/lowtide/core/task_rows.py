"""A task's row: what is remembered of a task, from its first claim to a month after its end."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from .lanes import Lane
from .model import Stored, Usd, Utc
from .records import Pointer, ResultDocument
from .task import AcceptedTask, task_key
from .tiers import Tier


class TaskState(StrEnum):
    QUEUED = "queued"
    CALLING = "calling"
    STAGED = "staged"
    TOMBSTONE = "tombstone"
    """Cancelled before anybody brought the task. It is no accepted task yet, and may never be one."""
    CANCELLING = "cancelling"
    """Cancelled while its message is on its way, which will meet this row and write the record."""
    ANSWERED = "answered"
    DEAD = "dead"
    CANCELLED = "cancelled"


SETTLED = frozenset({TaskState.ANSWERED, TaskState.DEAD, TaskState.CANCELLED})
"""Ended, with a record."""

_AT_WORK = frozenset({TaskState.QUEUED, TaskState.CALLING, TaskState.STAGED})


MOST_UNCOUNTED = 2
"""Most calls of one task that may be billed and use up no try: during an outage, or on flex until the timeout."""


class Strikes(Stored):
    """What a task has been through: carried from attempt to attempt, on its row or on its line in a part."""

    failures: int = 0
    """Attempts that used up one of the allowed tries."""
    flex_refusals: int = 0
    """How often flex had no capacity for it, which costs nothing but time."""
    flex_stalls: int = 0
    """Calls on flex that took all their time, each of which may have been billed."""
    forgiven: int = 0
    """Calls that failed during what looked like an outage. They used up no try."""
    unsure: int = 0
    """Batches that brought it nothing, each of which may have been billed."""
    lane_unknown: bool = False
    """The provider did not have the lane that was asked for, flex or priority."""
    doubted_at: Utc | None = None
    """The moment of the call that was first refused without naming the request."""
    spent_usd: Usd = Decimal(0)
    """Billed by attempts that did not answer."""
    billed: tuple[int, ...] = ()
    """The numbers of those attempts."""
    unpriced: bool = False
    """One of them has no known price."""
    first_failed_at: Utc | None = None
    last_failed_at: Utc | None = None

    @property
    def exhausted(self) -> bool:
        """Has the task had ``MOST_UNCOUNTED`` such calls? Then every further failure uses up a try."""
        return self.uncounted_left == 0

    @property
    def uncounted_left(self) -> int:
        """How many calls that use up no try it may still have."""
        return max(0, MOST_UNCOUNTED - self.forgiven - self.flex_stalls)

    @property
    def total_usd(self) -> Decimal | None:
        """What all of them cost; None where that is not known."""
        return None if self.unpriced else self.spent_usd

    def after(self, earlier: Strikes) -> Strikes:
        """With the billed attempts of ``earlier`` as well: a redriven task's line in a part knows only their cost."""
        billed = tuple(sorted({*earlier.billed, *self.billed}))
        return self.model_copy(update={"billed": billed, "unpriced": earlier.unpriced or self.unpriced})

    def paying(self, later: Strikes) -> Strikes:
        """With the money of ``later``, and nothing else of it."""
        money = later.after(self)
        return self.model_copy(
            update={"spent_usd": money.spent_usd, "billed": money.billed, "unpriced": money.unpriced}
        )


class ModelChoice(Stored):
    """Which model a task of type ``auto`` got, and why. ``question_id`` is what the provider billed the question under;
    None where it billed none."""

    profile: str
    model: str
    reason: str
    question_id: str | None = None


class TaskRow(Stored):
    """``choice`` is made once, and outlives redrives.

    ``origin`` is the delivery that made the row. ``holder`` is the call or the part that the present attempt belongs
    to. ``generation`` counts the redrives. ``token_digest`` is of the task token that came with the last claim: it is
    told the end with the task; every other token is told when its own message comes."""

    rev: int = 0
    tenant: str
    task_id: str
    content_hash: str
    origin: str
    tier: Tier
    type: str | None
    model: str
    accepted_at: Utc
    deadline_at: Utc
    state: TaskState
    attempt: int = 0
    generation: int = 0
    repaid: int = 0
    in_vain: bool = False
    """Cancelled, and what its last attempt came to all the same is counted in ``repaid``."""
    strikes: Strikes = Strikes()
    choice: ModelChoice | None = None
    holder: str | None = None
    rescued_from: str | None = None
    """The batch or the part that would have brought it too late."""
    claimed_at: Utc | None = None
    """The moment of the last claim, by a call or by the drain that put the task into a part."""
    claimed_until: Utc | None = None
    not_before: Utc | None = None
    settled_at: Utc | None = None
    lane: Lane | None = None
    error_code: str | None = None
    document: ResultDocument | None = None
    pointer: Pointer | None = None
    token_digest: str | None = None

    @property
    def key(self) -> str:
        return task_key(self.tenant, self.task_id)

    def speaks_of(self, task: AcceptedTask) -> bool:
        """Is ``task`` a copy of the row's own, in its present life? A conflict has the same key and other content."""
        return (self.content_hash, self.generation) == (task.content_hash, task.generation)

    @property
    def active(self) -> bool:
        """Is it worked on. What waits to be told that it is cancelled may be forgotten like what has ended."""
        return self.state in _AT_WORK

    @property
    def redriving(self) -> bool:
        """Redriven and not claimed since: the message may not have been sent. Until then the row keeps the record that
        the redrive replaces, with the letter that has the task."""
        return self.state is TaskState.QUEUED and (self.document is not None or self.pointer is not None)

    @property
    def buried(self) -> bool:
        """What an operator finds among the dead: it died, or it was redriven and nobody has taken it up since."""
        return self.state is TaskState.DEAD or self.redriving


def strikes_of(row: TaskRow | None) -> Strikes:
    """None: nobody has touched the task yet, or its row was not read."""
    return Strikes() if row is None else row.strikes


def born(task: AcceptedTask) -> TaskRow:
    """The row of a task that nobody has touched yet."""
    return TaskRow(
        tenant=task.tenant,
        task_id=task.task_id,
        content_hash=task.content_hash,
        origin=task.origin,
        tier=task.tier,
        type=task.type,
        model=task.model,
        accepted_at=task.accepted_at,
        deadline_at=task.deadline_at,
        state=TaskState.QUEUED,
        generation=task.generation,
        token_digest=task.token_digest,
    )
