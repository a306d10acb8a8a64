"""Result files: the files that an ended batch names, read one after the other.

A file that cannot be read is given up alone: the other file is settled, and the lines of this one are missing. The
batch's row says since when it is away, so that another process goes on waiting where this one stopped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Container
from contextlib import suppress

from lowtide.core.batches import Away, AwayFile, BatchRow, Miss, ProviderBatch
from lowtide.core.errors import BrokenOff, Garbled, ProviderRefused, Unreachable, Unsendable, safely_told
from lowtide.core.provider_words import code_text, message_text
from lowtide.core.result_files import given_up_at, in_reading_order, may_be_left, since_when, why_away
from lowtide.core.result_lines import ResultLine, ResultReader, Unread
from lowtide.ports import BatchApi, System

from .lease import LeasedBatch
from .unread import UnreadLines

_REASON_CHARACTERS = 200
"""Characters of the reason that the row keeps. It has the status and the code: the sentence may quote a prompt."""
_STRANGER = "it is about no line of this batch"


class ResultFiles:
    """One pass over the files that ``named`` names. ``sent`` holds the ``custom_id`` of every line of the batch.
    ``away``: once all were read, why one of them could not be had, which is not given up yet."""

    def __init__(
        self, system: System, batch: LeasedBatch, named: ProviderBatch, sent: Container[str], unread: UnreadLines
    ) -> None:
        self._system = system
        self._batch = batch
        self._api: BatchApi = system.batch_apis[batch.row.lot.provider]
        self._named = named
        self._sent = sent
        self._unread = unread
        self.away: ProviderRefused | Unreachable | None = None

    async def lines(self) -> AsyncGenerator[tuple[ResultLine, int]]:
        """Return every line about a task of this batch, with its size in bytes, also where another file is away. Raises
        Unreachable or ProviderRefused where the account is at fault, or where a file broke off amid its lines."""
        # A provider that names no files may have results all the same.
        for ref in in_reading_order(self._batch.row, self._named.result_refs) or ("",):
            begun, came = self._unread.mark(), False
            try:
                async for each in self._file(ref):
                    came = True
                    yield each
            except (ProviderRefused, Unreachable) as error:
                self._unread.back_to(begun)
                if not self._gives_up(ref, error):
                    if came:
                        raise
                    self.away = self.away or error
                    continue
                with suppress(ProviderRefused, Unreachable):
                    async for each in self._file(ref, partial=isinstance(error, BrokenOff)):
                        yield each

    async def _file(self, ref: str, *, partial: bool = False) -> AsyncGenerator[tuple[ResultLine, int]]:
        """Read one file; with ``partial``, whatever came of a download that breaks off. Raises Garbled where not one
        line of it is about this batch."""
        alone, reader = self._named.with_only(ref) if ref else self._named, ResultReader()
        ours = 0
        broken: ProviderRefused | Unreachable | None = None
        begun = self._unread.count
        try:
            async for raw in self._api.results(alone, partial=True) if partial else self._api.results(alone):
                given = list(reader.feed(raw))
                for each in given:
                    if isinstance(each, Unread):
                        self._unread.add(ref, each)
                    elif each.custom_id in self._sent:
                        ours += 1
                        yield each, len(raw) // len(given)
                    else:
                        self._unread.add(ref, Unread(reader.line, _STRANGER, raw, code_text(each.custom_id)))
        except (ProviderRefused, Unreachable) as error:
            broken = error
        for unread in reader.end():
            self._unread.add(ref, unread)
        if broken is None and ours == 0 and (self._unread.count > begun or self._should_hold_answers(ref)):
            broken = Garbled(f"the result file {ref} came, and not one line of it is about this batch")
        if broken is not None:
            raise broken

    def _should_hold_answers(self, ref: str) -> bool:
        return ref == self._named.output_ref and (self._named.counts.completed or 0) > 0

    def _gives_up(self, ref: str, error: ProviderRefused | Unreachable) -> bool:
        """Note on the row that the file is away, and tell whether it is given up. Raises the error again where the
        account is at fault: then nothing is given up."""
        row, now = self._batch.row, self._system.clock.now()
        why = why_away(error)
        if why is None:
            raise error
        if why is Away.BARRED and ref != self._named.output_ref and self._named.output_ref is not None:
            why = Away.FAILURES_BARRED
        known = next((each for each in row.away if each.ref == ref), None)
        since = since_when(row, ref, why, now)
        away = AwayFile(ref=ref, why=why, reason=message_text(safely_told(error), _REASON_CHARACTERS), since=since)
        if now >= given_up_at(away) or (known is not None and known.given_up):
            away = away.model_copy(update={"given_up": True})
        if known is None or (known.why, known.given_up) != (away.why, away.given_up):
            self._batch.apply(Miss(self._batch.owner, away))
            self._tell(away)
        return away.given_up

    def _tell(self, away: AwayFile) -> None:
        metrics, batch_id = self._system.metrics, self._batch.row.batch_id
        if away.given_up:
            metrics.count("result_files_given_up")
        event = "result_file_given_up" if away.given_up else "result_file_away"
        until = given_up_at(away).isoformat()
        metrics.log(event, batch_id=batch_id, file=away.ref, reason=away.reason, until=until)


async def delete_files(system: System, api: BatchApi, row: BatchRow) -> None:
    """Delete the files of a collected batch at the provider. A file that was given up may stay, and any file may after
    two days of refusals: the log names it, and it expires there."""
    seen = row.provider_batch
    given_up = [file.ref for file in row.away if file.given_up]
    named = (row.input_ref, *(() if seen is None else seen.result_refs))
    try:
        await api.clean([ref for ref in named if ref and ref not in given_up])
    except (ProviderRefused, Unsendable) as error:
        if not may_be_left(row, error, system.clock.now()):
            raise
        system.metrics.log("files_left", batch_id=row.batch_id, reason=safely_told(error))
    if given_up:
        try:
            await api.clean(given_up)
        except (ProviderRefused, Unreachable) as error:
            system.metrics.log("files_left", batch_id=row.batch_id, reason=safely_told(error))
