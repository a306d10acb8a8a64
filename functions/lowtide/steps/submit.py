"""Submit: a sealed batch to the provider, at most once.

Intent first, then the call. Whoever wakes in ``submitting`` looks at the provider for a batch with our key, and creates
again only past a grace period, under a fresh intent: the provider's list lags.
"""

from __future__ import annotations

from datetime import timedelta

from lowtide.core.batches import (
    GRACE,
    NOT_ASKED_FOR,
    BatchRow,
    BatchState,
    Intend,
    Made,
    Postpone,
    ProviderBatch,
    ProviderStatus,
    Run,
    Upload,
    ValidationFault,
    may_intend_again,
)
from lowtide.core.collection import WHOLE_TRIES, speaks_of_a_line
from lowtide.core.errors import ProviderRefused, Unreachable, Unsendable
from lowtide.core.outcomes import backoff_s, believed_s
from lowtide.core.pace_events import Sign
from lowtide.core.pace_rows import account_key
from lowtide.core.whose_fault import Fault, fault_of_batch, only_forbidden
from lowtide.ports import BatchApi, SubmissionKey, System

from .give_back import give_back
from .imposed_waits import SAID_BEYOND_S, say_wait
from .lease import LeasedBatch, leased
from .rescue import call_off, too_late
from .submission_gate import Held, admit, batches_key_of, refuse, tell
from .token_room import has_room

_MAY_HIDE_A_BATCH = frozenset({408, 409, *range(500, 600)})
"""Statuses that come of timeouts and of gateways too, whatever became of the request behind them."""

FRESH = GRACE / 4
"""How old an intent may be when the creation that it speaks of begins."""


async def submit(system: System, row: BatchRow) -> BatchRow:
    """Takes ``row`` as far towards ``running`` as it goes now. Repeat it until it is there."""
    late = too_late(system, row)
    # For the provider's sake only: what is called off asks it for nothing, unless it may have been created.
    put_off = row.not_before is not None and system.clock.now() < row.not_before
    if put_off and not late and not (row.called_off and row.state in NOT_ASKED_FOR):
        return row
    if row.state is BatchState.SEALED and not (late or row.called_off) and not has_room(system, row):
        return row
    given = admit(system, row, submission_key(system, row).text, called_off=late or row.called_off)
    if isinstance(given, Held):
        system.metrics.count("submissions_held", reason=given.value)
        system.metrics.log("submission_held", batch_id=row.batch_id, reason=given.value)
        return row
    sign = Sign.UNUSED
    try:
        with leased(system, row) as batch:
            if batch is None:
                return row
            if late:
                call_off(system, batch)
            submission = _Submission(system, batch)
            try:
                await submission.advance()
            finally:
                sign = submission.sign
            return batch.row
    finally:
        # Also where a step of ours failed: the next probe of the account waits for the end of this one.
        tell(system, given, sign)


def submission_key(system: System, row: BatchRow) -> SubmissionKey:
    return SubmissionKey(system.deployment, row.batch_id, row.submission)


class _Submission:
    def __init__(self, system: System, batch: LeasedBatch) -> None:
        self._system = system
        self._batch = batch
        self._creating = False
        self.sign = Sign.UNUSED
        """What the provider has said of the account so far."""
        self._api: BatchApi = system.batch_apis[batch.row.lot.provider]

    async def advance(self) -> None:
        try:
            if self._batch.row.state in NOT_ASKED_FOR:
                await self._upload()
            elif self._batch.row.state is BatchState.SUBMITTING:
                await self._look()
        except Unsendable as error:
            self._log("provider_unreachable", reason=str(error))
            self._halted(account_key(self._batch.row.lot.provider), Made.MAYBE if self._looking else Made.NOTHING)
        except Unreachable as error:
            # Whether it took effect is unknown: the row says how far we meant to go, and the next one looks.
            self._log("provider_unreachable", reason=str(error))
        except ProviderRefused as refusal:
            await self._refused(refusal)

    async def _upload(self) -> None:
        batch = self._batch
        if not batch.apply(Upload(batch.owner)):
            return
        if batch.row.called_off:
            # A file that somebody uploaded before the order, and did not note, is the sweep's to find.
            if batch.apply(Intend(batch.owner, None)):
                await self._create()
            return
        if batch.row.file_key is None:
            raise AssertionError("a sealed batch has its file")
        with self._system.objects.open(batch.row.file_key) as lines:
            input_ref = await self._api.prepare(self._key, lines)
        self.sign = Sign.ANSWERED
        if self._intend(input_ref):
            await self._create()

    async def _look(self) -> None:
        batch = self._batch
        found = await self._api.find(self._key, batch.row.input_ref)
        self.sign = Sign.ANSWERED
        if found is not None:
            self._log("submission_found", provider_batch_id=found.id)
            batch.apply(Run(batch.owner, found, found=True))
        elif may_intend_again(batch.row, self._system.clock.now()) and self._intend(batch.row.input_ref):
            await self._create()

    def _intend(self, input_ref: str | None) -> bool:
        """With a stamp that is still fresh: others count the grace period from it, however long the write took."""
        batch = self._batch
        while batch.apply(Intend(batch.owner, input_ref)):
            stamped = batch.row.intent_at
            if stamped is not None and self._system.clock.now() < stamped + FRESH:
                return True
        return False

    async def _create(self) -> None:
        batch = self._batch
        if batch.row.called_off:
            # Called off before it was created: to be collected like one that was cancelled before its first line.
            never_ran = ProviderBatch(id="", status=ProviderStatus.CANCELLED, input_ref=batch.row.input_ref)
            batch.apply(Run(batch.owner, never_ran))
            return
        self._creating = True
        created = await self._api.create(self._key, batch.row.lot.endpoint, batch.row.input_ref)
        batch.apply(Run(batch.owner, created))
        self._log("batch_submitted", provider_batch_id=created.id, requests=batch.row.requests)

    async def _refused(self, refusal: ProviderRefused) -> None:
        """An answer, but not every one says that nothing was made: then whoever comes next waits out the grace."""
        batch, now = self._batch, self._system.clock.now()
        self._log("submission_refused", status=refusal.status, code=refusal.code)
        self._system.metrics.count("submissions_refused")
        fault = fault_of_batch(refusal.error)
        # Of what an earlier creation made, a look that was refused says nothing.
        made = Made.MAYBE if self._looking or refusal.status in _MAY_HIDE_A_BATCH else Made.NOTHING
        if fault is Fault.ACCOUNT:
            lot = batch.row.lot
            forbidden = only_forbidden(refusal.error)
            self._halted(batches_key_of(batch.row) if forbidden else account_key(lot.provider), made)
            return
        self.sign = Sign.ANSWERED
        if made is Made.MAYBE or fault in (Fault.NOW, Fault.PROVIDER):
            wait_s = self._wait_s(refusal)
            if (refusal.retry_after_s or 0.0) > SAID_BEYOND_S:
                say_wait(self._system, wait_s, refusal.retry_after_s, batch_id=batch.row.batch_id, code=refusal.code)
            batch.apply(Postpone(batch.owner, now + timedelta(seconds=wait_s), made))
            return
        tried_whole = batch.row.refusals + 1 >= WHOLE_TRIES and batch.row.requests > 1
        if fault is Fault.ITEM or (fault is Fault.UNNAMED and tried_whole):
            self._judge_by_line(refusal)
            return
        await give_back(self._system, batch, self._api, refusal.error, retry_after_s=refusal.retry_after_s)

    def _judge_by_line(self, refusal: ProviderRefused) -> None:
        """Treat the batch like one that failed validation: halves of it show whether a line is at fault, or fit where
        the whole was too large."""
        batch = self._batch
        code = refusal.code if refusal.code and speaks_of_a_line(refusal.code) else f"http_{refusal.status}"
        fault = ValidationFault(code=code, message=refusal.message)
        refused = ProviderBatch(id="", status=ProviderStatus.FAILED, input_ref=batch.row.input_ref, faults=(fault,))
        if batch.row.state is BatchState.UPLOADING:
            batch.apply(Intend(batch.owner, None))
        batch.apply(Run(batch.owner, refused))

    def _halted(self, key: str, made: Made) -> None:
        """Tell the row that the provider refuses the account or its batches, or that there is no key. Submissions wait
        for an operator."""
        self.sign = Sign.UNUSED
        self._system.metrics.count("account_refused")
        refused = refuse(self._system, key, self._key.text)
        if refused is not None and refused.retry_at is not None:
            self._batch.apply(Postpone(self._batch.owner, refused.retry_at, made))

    @property
    def _looking(self) -> bool:
        return self._batch.row.state is BatchState.SUBMITTING and not self._creating

    def _wait_s(self, refusal: ProviderRefused) -> float:
        retries, row = self._system.routes.retries, self._batch.row
        wait = backoff_s(row.setbacks + 1, base_s=retries.batch_base_s, cap_s=retries.cap_s, seed=row.batch_id)
        return max(wait, believed_s(refusal.retry_after_s) or 0.0)

    @property
    def _key(self) -> SubmissionKey:
        return submission_key(self._system, self._batch.row)

    def _log(self, event: str, **fields: object) -> None:
        self._system.metrics.log(event, batch_id=self._batch.row.batch_id, **fields)
