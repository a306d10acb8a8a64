"""What the lines of an ended batch come to: answered, dead, again. Decided on values, so that it can be repeated.

The first answer or burial of a ``custom_id`` is its outcome, whatever else the files say of it. A line that the batch
sent and that neither file speaks of is missing, and missing may yet succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field, replace

from .batches import ProviderBatch, ProviderStatus
from .outcomes import BATCH_CANCELLED, Again, Answered, Bury, Outcome, Response, judge_line
from .records import Usage
from .result_lines import ResultLine

TOKEN_LIMIT_CODES = frozenset({"token_limit_exceeded"})
TOKEN_LIMIT_WAITS_MIN = (5, 10, 20, 40, 80)
"""A batch is told of the limit after its creation, and room comes as slowly as other batches end."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A ``custom_id`` that this batch settles."""

    custom_id: str
    outcome: Answered | Bury
    response: Response | None


@dataclass
class Reading:
    """The state of one pass over the files: what was seen of which line.

    ``failed`` may hold a body for every line of the batch: whoever reads large files hands in a mapping on disk.
    ``check`` has the last word on an answer. ``unused``: tokens of answers that were billed and are none.
    """

    finished: set[str] = field(default_factory=set)
    failed: MutableMapping[str, tuple[Again, Response | None]] = field(default_factory=dict)
    unknown: int = 0
    check: Callable[[str, Response | None], Outcome] = lambda _custom_id, _response: Answered()
    unused: Usage = field(default_factory=Usage)

    def take(self, line: ResultLine | None, expected: Container[str]) -> Finished | None:
        """The line where it settles its task; None where it settles nothing, or comes a second time."""
        if line is None or line.custom_id not in expected:
            self.unknown += 1
            return None
        if line.custom_id in self.finished:
            return None
        outcome = judge_line(line.response, line.error_code, line.error_message)
        if isinstance(outcome, Answered):
            outcome = self.check(line.custom_id, line.response)
        if isinstance(outcome, Answered | Bury):
            self.finished.add(line.custom_id)
            self.failed.pop(line.custom_id, None)
            return Finished(line.custom_id, outcome, line.response)
        if isinstance(outcome, Again):
            self.failed[line.custom_id] = (outcome, line.response)
        return None

    def unanswered(
        self, expected: Iterable[str], batch: ProviderBatch, *, given_up: bool = False, lost: str | None = None
    ) -> Iterator[tuple[str, Again, Response | None]]:
        """Every expected line that is not finished, in the order of the input, with why. ``lost``: why answers may be
        missing that were billed."""
        missing = NEVER_ENDED if given_up else _missing(batch, progress=bool(self.finished))
        if lost is not None:
            missing = replace(missing, message=lost, unsure=True)
        for custom_id in expected:
            if custom_id not in self.finished:
                outcome, response = self.failed.get(custom_id, (missing, None))
                yield custom_id, outcome, response


def took_none(batch: ProviderBatch) -> bool:
    """Did it fail for the account's enqueued tokens: nothing ran, and the same file may run later."""
    return batch.status is ProviderStatus.FAILED and any(fault.code in TOKEN_LIMIT_CODES for fault in batch.faults)


WHOLE_SUBMISSIONS = 3
"""Times that a batch is submitted whole although it alone was over the token limit. Others may share the account; by
then it is larger than the limit itself."""


def too_large(submission: int, requests: int, *, alone: bool) -> bool:
    """Is a batch over the token limit to go again in halves, for it will not fit whole?"""
    return alone and requests > 1 and submission >= WHOLE_SUBMISSIONS


def token_limit_wait_s(setbacks: int) -> float:
    """5, 10, 20, 40, 80 minutes, and 80 from then on."""
    return 60.0 * TOKEN_LIMIT_WAITS_MIN[min(setbacks, len(TOKEN_LIMIT_WAITS_MIN) - 1)]


def named_faults(batch: ProviderBatch) -> dict[int, Bury]:
    """Of a batch that failed validation: the lines (from 1) that the provider named, each with its reason."""
    if batch.status is not ProviderStatus.FAILED:
        return {}
    return {
        fault.line: Bury(fault.code or "invalid_line", fault.message or "the provider refused this line")
        for fault in batch.faults
        if fault.line is not None
    }


def suspects(batch: ProviderBatch) -> bool:
    """Did it fail for one of its lines without saying which: then halves of it find out, and end at the culprit. One
    that is collected although it was over the token limit was too large whole, and goes the same way.

    A failure that does not speak of the input (``server_error``, or no code at all) says nothing about the lines: such
    a batch goes again whole, and its tries are counted.
    """
    if batch.status is not ProviderStatus.FAILED or named_faults(batch):
        return False
    return any(fault.code is not None and not fault.code.startswith(_PROVIDERS_OWN) for fault in batch.faults)


NEVER_ENDED = Again("batch_never_ended", "the batch had not ended when it was given up", unsure=True)

_PROVIDERS_OWN = ("server_", "internal_", "service_", "http_5", "rate_limit", "timeout")


def _missing(batch: ProviderBatch, *, progress: bool) -> Again:
    """``progress``: this batch settles some line, so that going again without a count comes to an end."""
    match batch.status:
        case ProviderStatus.FAILED:
            if progress:
                # Another line was at fault: this one has not had its try.
                return Again("batch_failed", "another line of its batch failed validation", counts=False)
            if took_none(batch):
                return Again("token_limit", "the account had no room for the batch", counts=False)
            fault = next(iter(batch.faults), None)
            code = (fault.code if fault else None) or "batch_failed"
            message = (fault.message if fault else None) or "the batch failed validation"
            return Again(code, message, counts=not suspects(batch))
        case ProviderStatus.EXPIRED:
            return Again("batch_expired", "the batch expired before this line ran")
        case ProviderStatus.CANCELLED:
            return Again(BATCH_CANCELLED, "the batch was cancelled before this line ran", counts=False)
        case _:
            return Again("missing", "neither the output nor the error file speaks of this line", unsure=True)
