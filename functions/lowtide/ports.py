"""What the steps need of the world, as small Protocols. Each says what it promises when repeated and when cut off.

Ports take many at a time: AWS bills and answers per call, SQLite commits per transaction. Storage ports block; the
two provider ports are async, because waiting for answers is most of what a consumer does. ``tests/contract`` holds
every adapter to these docstrings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

from .core import batches, holds, pace_events, parts, tasks
from .core.admission import Level
from .core.batches import BatchRow, ProviderBatch
from .core.charges import Seller, seller
from .core.dead import DeadFilter
from .core.holds import HoldRow
from .core.lanes import Lane
from .core.outcomes import Response
from .core.outward import Callback, Event
from .core.pace_rows import PaceRow
from .core.parts import PartRow
from .core.prices import PriceTable
from .core.receipts import Receipt
from .core.routes import Routes
from .core.task import Endpoint
from .core.tasks import TaskRow
from .core.tiers import Tier

T = TypeVar("T")


class Clock(Protocol):
    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None: ...


# --- queues -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outgoing:
    """``group`` is the tenant (SQS fair queues, MessageGroupId). ``body`` is at most 1 MiB of UTF-8 with its
    ``attributes``, of which there are ten at most. Neither may hold a character that SQS refuses
    (``core.attributes``): such a message is an error each time it is sent."""

    body: str
    group: str = "default"
    delay_s: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One receive of a message. ``receipt`` is good for this receive only; ``id`` is the message's for life."""

    id: str
    receipt: str
    body: str
    sent_at: datetime
    receives: int
    group: str = "default"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Depth:
    visible: int
    in_flight: int
    delayed: int


class Queue(Protocol):
    """At least once, in no order. A message received and not deleted comes back when its visibility ends."""

    def send(self, messages: Sequence[Outgoing]) -> None:
        """All are durable when it returns; raises TooLarge before anything is sent, or LowtideError when some
        could not be sent (then some may have been: sending again may repeat them)."""
        ...

    def receive(self, limit: int, *, visibility_s: int) -> list[Message]:
        """Up to ``limit`` messages (any number; the adapter calls as often as it must), fewer or none where there
        are no more. Does not wait."""
        ...

    def delete(self, messages: Sequence[Message]) -> None:
        """Idempotent. A stale receipt deletes nothing and is no error."""
        ...

    def defer(self, messages: Sequence[tuple[Message, int]]) -> None:
        """Sets how many seconds from now each becomes visible again (0: at once; at most 12 h). A stale receipt
        changes nothing and is no error."""
        ...

    def depth(self) -> Depth:
        """Approximate on AWS."""
        ...


class Levels(Protocol):
    """How high the tiers' queues stand, a few seconds ago and as far as is known."""

    def look(self, tiers: Sequence[Tier]) -> Mapping[Tier, Level]: ...

    def mark(self, tier: Tier, oldest_s: float) -> None:
        """Messages were taken up just now, the oldest of which had waited so long. A hint: it may be dropped."""
        ...


# --- objects ----------------------------------------------------------------------------------------------------


class Objects(Protocol):
    """Whole objects by key (``parts/…``, ``batches/…``, ``results/…``). A put is atomic and replaces; read after
    write is consistent."""

    def put(self, key: str, data: bytes | BinaryIO) -> None: ...

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Raises NotFound."""
        ...

    def lines(self, key: str) -> Iterator[bytes]:
        r"""The object's lines, without their ``\\n``, split on that byte only, in bounded memory. Raises NotFound."""
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A real file handle to read the object from (an upload streams from it). Raises NotFound."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Idempotent."""
        ...

    def keys(self, prefix: str) -> Iterator[str]: ...


# --- rows -------------------------------------------------------------------------------------------------------

R = TypeVar("R")
E_contra = TypeVar("E_contra", contravariant=True)
D = TypeVar("D")
R_co = TypeVar("R_co", covariant=True)
E_co = TypeVar("E_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Change(Generic[R_co, E_co]):
    """``seen`` is the row as last seen; ``None`` guesses that there is none."""

    key: str
    event: E_co
    seen: R_co | None = None


class Rows(Protocol[R, E_contra, D]):
    """Rows that move only through a pure transition function.

    ``apply`` decides and writes each change on its own: it calls the kind's ``transition`` on the row as it is, and
    writes the outcome on the condition that the row is still that one (``rev``), again until it holds. So a change
    that was cut off either took effect whole or not at all, and the verdict of repeating it says so. Verdicts come
    back in the order of the changes; changes to the same key are applied in that order.

    A change may carry the row as it was last seen: a good guess saves a read, a wrong one costs a retry.
    ``rev`` is the adapter's: 1 when a row is born, one more with every write; decisions return the row as written.
    """

    def get(self, keys: Sequence[str]) -> list[R | None]:
        """Consistent reads, in the order of the keys. Raises NewerSchema where a newer release wrote all of these
        rows, and Unfinished where it wrote some: its outcomes are the rows and the errors."""
        ...

    def apply(self, changes: Sequence[Change[R, E_contra]], now: datetime) -> list[D]:
        """Raises Contended when a row would not hold still. Raises Unfinished when some changes took effect and some
        failed: its outcomes are the decisions and the errors."""
        ...

    def active(self) -> list[R]:
        """Every row whose ``active`` holds, oldest first; on AWS from an index, so it may lag by a moment. It
        proposes; the conditional write decides. (Not of tasks: they are too many to list.)

        On AWS, where two releases may work on one table, a row that a newer release wrote is left out. A hold of
        that kind stands as one of all LOW, here as in ``get`` and ``apply``."""
        ...


Tasks = Rows[TaskRow, tasks.TaskEvent, tasks.Decision]
Parts = Rows[PartRow, parts.PartEvent, parts.PartDecision]
Batches = Rows[BatchRow, batches.BatchEvent, batches.BatchDecision]
Holds = Rows[HoldRow, holds.HoldEvent, holds.HoldDecision]
Paces = Rows[PaceRow, pace_events.PaceEvent, pace_events.PaceDecision]
"""Active: the breaker is not closed."""


class DeadTasks(Protocol):
    """The one list of tasks there is: those that died."""

    def find(self, wanted: DeadFilter) -> Iterator[TaskRow]:
        """Every task that is buried (``TaskRow.buried``) and that ``wanted`` takes, the last to die first, as
        consistent reads. On AWS found by an index that may lag by a moment; what moves meanwhile may be in or not."""
        ...


class Ledger(Protocol):
    """The sum of receipts, kept as entries that may be put again."""

    def put(self, entries: Sequence[tuple[str, Receipt]]) -> None:
        """Each entry replaces the one of the same name: a repeated put changes nothing."""
        ...

    def add(self, entries: Sequence[tuple[str, Receipt]]) -> frozenset[str]:
        """Does the same, and returns the names that were not there before. Of several at once with a name, one has it
        in what it returns. Dearer than ``put`` where there are many.

        Raises Unfinished where some were added and some were not. Its outcomes are by name, each name once: whether it
        was new, or the error."""
        ...

    def standing(self, names: Sequence[str]) -> frozenset[str]:
        """Those of the names that have an entry."""
        ...

    def total(self) -> Receipt:
        """The sum of all entries."""
        ...


# --- the provider -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One real-time request. ``call_id`` goes with it as X-Client-Request-Id, so that both sides can count it."""

    endpoint: Endpoint
    body: Mapping[str, Any]
    lane: Lane
    call_id: str
    timeout_s: float
    traceparent: str | None = None


class Presence(StrEnum):
    THERE = "there"
    """It answers. Also the value if there was no key to ask with."""
    UNWELCOME = "unwelcome"
    """It answers and refuses the key."""
    ABSENT = "absent"
    """It does not answer, or answers with a 5xx."""


class AnswerApi(Protocol):
    async def answer(self, call: Call) -> Response:
        """One HTTP request, no retries; every failure is a value. Only cancellation raises."""
        ...

    async def presence(self) -> Presence:
        """Ask whether the provider is there and takes the key. One request that buys nothing. A server that does not
        know the request is there all the same. Only cancellation raises."""
        ...


@dataclass(frozen=True, slots=True)
class SubmissionKey:
    """What a submission is found again by: goes into the provider's metadata and the input's file name."""

    deployment: str
    batch_id: str
    submission: int

    @property
    def text(self) -> str:
        return f"{self.deployment}.{self.batch_id}.{self.submission}"

    @classmethod
    def of_deployment(cls, deployment: str, text: str) -> SubmissionKey | None:
        """The key whose ``text`` this is, where it is one of this deployment's. A batch's id has no dot, so the keys of
        ``a`` and of ``a.b`` cannot be taken for each other's."""
        batch_id, _, submission = text.removeprefix(f"{deployment}.").rpartition(".")
        if "." in batch_id or not submission.isdecimal():
            return None
        key = cls(deployment, batch_id, int(submission))
        return key if key.text == text else None


class OwnedKind(StrEnum):
    BATCH = "batch"
    INPUT = "input"
    OUTPUT = "output"
    """An output or error file."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A batch or a file at the provider that carries a deployment's id.

    ``batch`` is the batch itself, or the one that wrote an output; None for an input. ``created_at`` is None where the
    provider does not say.
    """

    kind: OwnedKind
    id: str
    key: SubmissionKey
    created_at: datetime | None
    batch: ProviderBatch | None = None


class BatchApi(Protocol):
    """A provider's batches. Calls raise Unreachable (Unsendable where nothing was done and an operator has to act) or
    ProviderRefused, and never retry by themselves."""

    async def prepare(self, key: SubmissionKey, lines: BinaryIO) -> str | None:
        """Hands over the input; returns the provider's handle of it, or None where creation carries it inline.
        Looks first for an input already handed over under this key, so repeating it leaves no second one."""
        ...

    async def create(self, key: SubmissionKey, endpoint: Endpoint, input_ref: str | None) -> ProviderBatch:
        """Exactly one request. When it raises Unreachable the batch may exist: ``find`` tells, after a while."""
        ...

    async def find(self, key: SubmissionKey, input_ref: str | None) -> ProviderBatch | None:
        """The batch created under this key or from this input. The provider's list lags behind creations."""
        ...

    async def get(self, provider_batch_id: str) -> ProviderBatch | None:
        """None where the provider does not know it (any more)."""
        ...

    def results(self, batch: ProviderBatch, *, partial: bool = False) -> AsyncIterator[bytes]:
        r"""Every line of the output file, then of the error file, without the ``\n``, blank ones too, in bounded
        memory: a line of many megabytes may come in pieces, cut between two objects. Each file is known to be complete
        before its first line. Repeating it gives the same lines in the same order.

        ``partial``: of a file whose download breaks off at every try, what came, before BrokenOff is raised."""
        ...

    async def cancel(self, provider_batch_id: str) -> None:
        """Idempotent; a batch that has ended stays as it is."""
        ...

    async def clean(self, refs: Sequence[str]) -> None:
        """Deletes files at the provider. Idempotent."""
        ...

    def owned(self, deployment: str) -> AsyncIterator[Owned]:
        """Every batch and file of the last days that carries this deployment's id, and nothing that may be another's.
        A file that an owned batch wrote comes after that batch. Nothing where the provider has no lists."""
        ...

    async def supported(self) -> bool:
        """Asks the endpoint whether it has a Batch API at all. Raises Unreachable."""
        ...


# --- outward ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """``id`` is the end's (core/outward.py). ``url`` is that of an allow-listed queue; ``result`` says where the record
    is kept, and is there only where ``body`` leaves the answer out."""

    url: str
    body: str
    id: str
    result: str | None = None
    traceparent: str | None = None


class Replies(Protocol):
    def send(self, replies: Sequence[Reply]) -> None:
        """Each at least once. An address that is gone or forbidden is reported as a metric and dropped: the record is
        in the results all the same. Raises LowtideError when some could not be sent for now (then others may have been:
        sending again repeats them)."""
        ...


class Events(Protocol):
    def send(self, events: Sequence[Event]) -> None:
        """Each at least once, in no order, with its own id every time. Raises LowtideError when some could not be sent
        (then some may have been: sending again repeats them)."""
        ...


class Callbacks(Protocol):
    """Wakes whoever sleeps on a task token."""

    @property
    def taken(self) -> bool:
        """Does this deployment wake anybody. Where it does not, tasks with a token are refused at the door."""
        ...

    def send(self, callbacks: Sequence[Callback]) -> None:
        """Each at least once; a token is good for one. Whoever has stopped waiting, or may not be woken by us, is
        reported as a metric and dropped. Raises LowtideError when some could not be sent."""
        ...


class Metrics(Protocol):
    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        """Adds to a metric of this invocation. Few dimensions, never a task's id."""
        ...

    def measure(self, name: str, value: float, **dimensions: str) -> None:
        """One value of a metric whose values are kept apart, so that it has percentiles."""
        ...

    def log(self, event: str, **fields: object) -> None:
        """One structured line: ids, sizes, hashes and reasons; never a prompt, an answer or a key."""
        ...


class Offload(Protocol):
    async def __call__(self, work: Callable[[], T]) -> T:
        """Runs blocking storage work while calls are in flight: on a thread for AWS, in place when embedded."""
        ...


@dataclass(frozen=True, slots=True)
class System:
    """Everything that the steps are handed, built in one place (``wiring`` on AWS, ``engine`` on one machine)."""

    deployment: str
    routes: Routes
    prices: PriceTable
    clock: Clock
    intake: Queue
    tiers: Mapping[Tier, Queue]
    levels: Levels
    dead_letters: Queue
    stranded: Queue
    """Where a message goes by itself that was received a thousand times from the intake or a tier."""
    objects: Objects
    tasks: Tasks
    parts: Parts
    batches: Batches
    paces: Paces
    holds: Holds
    ledger: Ledger
    answers: Mapping[str, AnswerApi]
    """By provider."""
    batch_apis: Mapping[str, BatchApi]
    """By provider."""
    replies: Replies
    events: Events
    callbacks: Callbacks
    metrics: Metrics
    offload: Offload
    own_prices: Mapping[str, PriceTable] = field(default_factory=dict)
    """The deployment's price tables, by their paths."""

    def seller(self, provider: str) -> Seller:
        """Return what this provider's answers are priced by."""
        return seller(self.routes.providers.get(provider), self.prices, self.own_prices)
