"""What the lines of an ended batch come to: answered, dead, again. Decided on values, so that it can be repeated.

The first answer or burial of a ``custom_id`` is its outcome, whatever else the files say of it. A line that the batch
sent and that neither file speaks of is missing, and missing may yet succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, MutableMapping
from dataclasses import dataclass, field, replace

from .batches import ProviderBatch, ProviderStatus, ValidationFault
from .breaker import FEW
from .outcomes import (
    BATCH_CANCELLED,
    Again,
    Answered,
    Bury,
    Outcome,
    Response,
    backoff_s,
    judge_line,
    status_told,
)
from .provider_errors import ProviderError, spelt
from .records import Usage
from .result_lines import ResultLine
from .task import Endpoint
from .task_rows import MOST_UNCOUNTED, Strikes
from .whose_fault import Fault, fault_of_batch, names_model

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
    ``endpoint`` says what an answer looks like, and ``check`` has the last word on one. ``unused``: tokens of answers
    that were billed and are none. ``answered``: was any line; ``broken``: lines for which the provider itself failed.
    """

    finished: set[str] = field(default_factory=set)
    failed: MutableMapping[str, tuple[Again, Response | None]] = field(default_factory=dict)
    check: Callable[[str, Response | None], Outcome] = lambda _custom_id, _response: Answered()
    unused: Usage = field(default_factory=Usage)
    endpoint: Endpoint | None = None
    answered: bool = False
    broken: int = 0

    def take(self, line: ResultLine | None, expected: Container[str]) -> Finished | None:
        """The line where it settles its task; None where it settles nothing, or comes a second time."""
        if line is None or line.custom_id not in expected:
            return None
        if line.custom_id in self.finished:
            return None
        outcome = judge_line(
            line.response, line.error_code, line.error_message, error_type=line.error_type, endpoint=self.endpoint
        )
        if isinstance(outcome, Answered):
            self.answered = True
            outcome = self.check(line.custom_id, line.response)
        self.broken += of_provider(outcome, line.response)
        if isinstance(outcome, Answered | Bury):
            self.finished.add(line.custom_id)
            self.failed.pop(line.custom_id, None)
            return Finished(line.custom_id, outcome, line.response)
        if isinstance(outcome, Again):
            self.failed[line.custom_id] = (outcome, line.response)
        return None

    @property
    def outage(self) -> bool:
        """Did the provider fail on many lines and answer none? Then the lines are not at fault."""
        return not self.answered and self.broken > FEW

    def unanswered(
        self, expected: Collection[str], batch: ProviderBatch, *, given_up: bool = False, lost: str | None = None
    ) -> Iterator[tuple[str, Again | Bury, Response | None]]:
        """Yield every expected line that is not finished, in the order of the input, with the reason. Call it after all
        files are read. ``lost``: why answers may be missing that were billed."""
        alone = len(expected) == 1
        missing = NEVER_ENDED if given_up else _missing(batch, progress=bool(self.finished), alone=alone)
        if lost is not None:
            # Counted, because its lines may be billed each time that they go again. A line at fault, named or to be
            # found in halves, ends that too, and is no try of the others.
            of_line = not batch.has_run and speaks_of_its_lines(batch)
            counts = not of_line and not _kills_no_line(batch)
            missing = replace(missing, message=lost, unsure=True, counts=counts)
        for custom_id in expected:
            if custom_id not in self.finished:
                outcome, response = self.failed.get(custom_id, (missing, None))
                yield custom_id, self._resolved(outcome), response

    def _resolved(self, outcome: Again) -> Again | Bury:
        """Decide an unnamed refusal: it is the line's fault if the batch answered other lines, else the account's."""
        if not outcome.doubt:
            return outcome
        if outcome.account and self.answered:
            return replace(outcome, account=False, doubt=False, counts=True)
        return Bury(outcome.code, outcome.message) if self.answered else replace(outcome, account=True)


def of_provider(outcome: Outcome, response: Response | None) -> bool:
    """Did the provider itself fail on this line?"""
    if not isinstance(outcome, Again) or response is None:
        return False
    status = status_told(response)
    return status is not None and status >= _SERVER_FAULT


def took_none(batch: ProviderBatch) -> bool:
    """Did it fail for the account's enqueued tokens: nothing ran, and the same file may run later. Such a batch may
    have said before that it was at work."""
    if batch.has_run:
        return False
    codes = {spelt(fault.code) for fault in batch.faults if fault.code}
    return batch.status is ProviderStatus.FAILED and not codes.isdisjoint(TOKEN_LIMIT_CODES)


WHOLE_SUBMISSIONS = 3
"""Times that a batch is submitted whole although it alone was over the token limit. Others may share the account; by
then it is larger than the limit itself."""


def too_large(submission: int, requests: int, *, alone: bool) -> bool:
    """Is a batch over the token limit to go again in halves, for it will not fit whole?"""
    return alone and requests > 1 and submission >= WHOLE_SUBMISSIONS


def token_limit_wait_s(setbacks: int) -> float:
    """5, 10, 20, 40, 80 minutes, and 80 from then on."""
    return 60.0 * TOKEN_LIMIT_WAITS_MIN[min(setbacks, len(TOKEN_LIMIT_WAITS_MIN) - 1)]


WHOLE_TRIES = 3
"""Times that a batch is submitted whole after refusals of the batch or its file. Then the fault is no passing one."""


def refused_wait_s(refusals: int, *, base_s: float, cap_s: float, seed: str) -> float:
    """Return the seconds to wait after so many refusals. The first waits are short, because a new upload may not be
    known everywhere at once. Later ones are those of the token limit."""
    if refusals < WHOLE_TRIES:
        return backoff_s(refusals, base_s=base_s, cap_s=cap_s, seed=seed)
    return token_limit_wait_s(refusals - WHOLE_TRIES)


def whole_fault(batch: ProviderBatch) -> tuple[Fault, ProviderError] | None:
    """Return why a batch failed as a whole: for its account (even if a line is named), for the batch or its file, or
    because the provider failed. Return None if some line may be at fault, or may have been billed. Nothing of such a
    batch ran."""
    if batch.status is not ProviderStatus.FAILED or took_none(batch) or batch.may_have_run or batch.error_ref:
        return None
    return _fault_of_all(batch)


def _fault_of_all(batch: ProviderBatch) -> tuple[Fault, ProviderError] | None:
    told = [(fault_of_batch(_error(fault)), fault) for fault in batch.faults]
    named = bool(named_faults(batch))
    for whose in (Fault.ACCOUNT, Fault.BATCH, Fault.ITEM, Fault.NOW, Fault.PROVIDER):
        for found, fault in told:
            if found is whose and (whose is Fault.ACCOUNT or not named):
                return None if whose is Fault.ITEM else (whose, _error(fault))
    return None if named else (Fault.PROVIDER, _NO_REASON)


def _kills_no_line(batch: ProviderBatch) -> bool:
    """Did it fail for the account, or for itself? That uses up no try of a line, though the batch had begun."""
    whole = _fault_of_all(batch) if batch.status is ProviderStatus.FAILED else None
    return whole is not None and whole[0] in (Fault.ACCOUNT, Fault.BATCH)


def refused_model(batch: ProviderBatch) -> Bury | None:
    """Return the reason why every line of a failed batch is dead: the model that all of them ask for is unknown."""
    if batch.status is not ProviderStatus.FAILED:
        return None
    for fault in batch.faults:
        if fault.line is None and names_model(_error(fault)):
            return Bury(fault.code or "model_not_found", fault.message or "the provider does not have this model")
    return None


def speaks_of_a_line(code: str) -> bool:
    """May this code of a failed batch be about one of its lines?"""
    return fault_of_batch(ProviderError(None, code=code)) is Fault.ITEM


def _error(fault: ValidationFault) -> ProviderError:
    return ProviderError(None, code=fault.code, type=fault.type, param=fault.param, message=fault.message)


def bought_enough(strikes: Strikes, tries: int) -> bool:
    """Was a line in so many batches that may have billed it that it goes on by calls, which say what they cost?"""
    return strikes.unsure >= tries + MOST_UNCOUNTED


def named_faults(batch: ProviderBatch) -> dict[int, Bury]:
    """Of a batch that failed validation: the lines (from 1) that the provider named, each with its reason."""
    if batch.status is not ProviderStatus.FAILED:
        return {}
    return {
        fault.line: Bury(fault.code or "invalid_line", fault.message or "the provider refused this line")
        for fault in batch.faults
        if fault.line is not None and (fault.code is None or fault_of_batch(_error(fault)) not in _NO_LINES)
    }


def suspects(batch: ProviderBatch) -> bool:
    """Did it fail for one of its lines without saying which: then halves of it find out, and end at the culprit. One
    that is collected although it was over the token limit was too large whole, and goes the same way.

    A failure that does not speak of the input (``server_error``, or no code at all) says nothing about the lines: such
    a batch goes again whole.
    """
    return not named_faults(batch) and not batch.has_run and speaks_of_its_lines(batch)


def speaks_of_its_lines(batch: ProviderBatch) -> bool:
    """Did it fail for one of its lines, named or not: then the others are innocent."""
    if batch.status is not ProviderStatus.FAILED:
        return False
    return bool(named_faults(batch)) or any(fault_of_batch(_error(fault)) is Fault.ITEM for fault in batch.faults)


def _ran_none(batch: ProviderBatch) -> bool:
    """Do its counts say that not one of its lines had its try?"""
    counts = batch.counts
    return not batch.result_refs and bool(counts.total) and counts.completed == 0 and not counts.failed


NEVER_ENDED = Again("batch_never_ended", "the batch had not ended when it was given up", unsure=True)

_NO_REASON = ProviderError(None, code="batch_failed", message="the batch failed, and the provider does not say why")
_SERVER_FAULT = 500
_NO_LINES = frozenset({Fault.ACCOUNT, Fault.NOW, Fault.PROVIDER})
"""Faults that kill no line, even if the provider names the line."""


def _missing(batch: ProviderBatch, *, progress: bool, alone: bool) -> Again:
    """``progress``: this batch settles some line, so that going again without a count comes to an end. A sentence about
    a whole batch may quote one of its lines, which no other tenant may read: only a line that is ``alone`` gets it."""
    match batch.status:
        case ProviderStatus.FAILED:
            if (whole := _fault_of_all(batch)) is not None and not took_none(batch):
                whose, error = whole
                # A fault of the provider that the batch met when it was at work ended its try.
                paid = batch.may_have_run and not progress
                counts, account = paid and not _kills_no_line(batch), whose is Fault.ACCOUNT
                message = error.sentence if alone else f"the batch failed ({error.name})"
                return Again(error.name, message, counts=counts, account=account, unsure=paid)
            if progress:
                # Another line was at fault: this one has not had its try.
                return Again("batch_failed", "another line of its batch failed validation", counts=False)
            if took_none(batch):
                return Again("token_limit", "the account had no room for the batch", counts=False)
            fault = next(iter(batch.faults), None)
            code = (fault.code if fault else None) or "batch_failed"
            counts = not suspects(batch)
            # A failure that does not count ends no task: the batch goes on in halves, until a line is alone.
            told = fault.message if fault and (alone or not counts) else None
            return Again(code, told or f"the batch failed validation ({code})", counts=counts)
        case ProviderStatus.EXPIRED:
            return Again("batch_expired", "the batch expired before this line ran", counts=not _ran_none(batch))
        case ProviderStatus.CANCELLED:
            return Again(BATCH_CANCELLED, "the batch was cancelled before this line ran", counts=False)
        case _:
            return Again("missing", "neither the output nor the error file speaks of this line", unsure=True)
