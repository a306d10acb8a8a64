"""Contact with the provider: is it there, does it take the account, does it know its batches.

The deployed functions leave a provider that is gone to alarms and operators. A run has a person in front of it, who is
told at once, and whose command ends when nothing gets through for a minute. While a batch is open at the provider it
waits a day instead: a laptop sleeps, a network is away, and the batch goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from typing import BinaryIO, NoReturn

from lowtide.core.batches import GRACE, ProviderBatch
from lowtide.core.collection import whole_fault
from lowtide.core.errors import BrokenOff, ProviderRefused, Redirected, Unreachable, Unsendable
from lowtide.core.outcomes import Response
from lowtide.core.quotes import unquoted
from lowtide.core.rescues import GIVEN_UP_AFTER
from lowtide.core.task import Endpoint
from lowtide.core.whose_fault import Fault, fault_of_batch, only_forbidden
from lowtide.core.wording import span
from lowtide.ports import AnswerApi, BatchApi, Call, Owned, Presence, SubmissionKey
from lowtide_local.cli.stop import Stop
from lowtide_local.engine.worker import Halted

SILENCE_S = 60.0
"""How long nothing gets through before the command ends. A restart of a server or of a router takes less."""

SILENCE_WITH_BATCH_S = 86_400.0
"""The same while a batch is open. A provider takes at most so long for one."""

PROBE_S = 2.0
"""Between two tries while nothing gets through: calls and polls may be resting for minutes by then."""

NO_BATCH = "no batch: "
"""Beginning of the reason for which a run ends because the provider refuses its batches."""

Notice = Callable[[str], None]
"""Takes one line for the person who waits."""


class Contact:
    """Since when nothing has got through to the provider, and whether it refuses the account."""

    def __init__(self, base_url: str, notice: Notice, batch_open: Callable[[], bool] = lambda: False) -> None:
        self.base_url = base_url
        self._batch_open = batch_open
        self.notice = notice
        self.refused: str | None = None
        self.batches: dict[str, ProviderBatch] = {}
        """Batches as last seen, by the provider's id."""
        self._silent_since: float | None = None
        self._reason = ""
        self._told = False
        self._quoted: set[str] = set()
        self._words: str | None = None
        """What the provider said last that was quoted."""

    def refuse_batches(self, code: str) -> None:
        """End the run: the provider refused a batch again and again. A person has to act before it is submitted once
        more. ``code`` serves where the provider said nothing in words."""
        self.refused = f"{NO_BATCH}{self._words or code}"

    def heard(self) -> None:
        self._silent_since = None
        if self._told:
            self._told = False
            self.notice(f"{self.base_url} answers again")

    def missed(self, reason: str) -> None:
        self._reason = reason
        if self._silent_since is None:
            self._silent_since = time.monotonic()

    @property
    def silent_s(self) -> float:
        """0.0 while calls get through, or none was made."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    @contextmanager
    def call(self, *, needed: bool = True) -> Iterator[None]:
        """Watch a batch call. If the call is not ``needed``, the run goes on although it is forbidden."""
        try:
            yield
        except BrokenOff:
            self.heard()
            raise
        except Unsendable as error:
            # It answered with a redirect, or was not asked for want of a key.
            if needed:
                self.refused = str(error)
            raise
        except Unreachable as error:
            self.missed(str(error))
            raise
        except ProviderRefused as refusal:
            self.heard()
            forgone = not needed and only_forbidden(refusal.error)
            if fault_of_batch(refusal.error) is Fault.ACCOUNT and not forgone:
                self.refused = refusal.message
            else:
                self.quote(refusal.message, refusal.error.sentence)
            raise
        self.heard()

    def quote(self, words: str, sentence: str | None = None) -> None:
        """Tell a person what the provider says, each thing once. Logs have its status and its code alone. ``sentence``:
        the same without a status before it."""
        self._words = sentence or words
        if words not in self._quoted:
            self._quoted.add(words)
            self.notice(f"{self.base_url} says: {words}")

    async def watch(self, probe: Callable[[], Awaitable[object]]) -> NoReturn:
        """Raises Stop after ``SILENCE_S`` without contact, ``SILENCE_WITH_BATCH_S`` while a batch is open at the
        provider, and Halted where the account is refused."""
        while True:
            await asyncio.sleep(min(PROBE_S, SILENCE_S / 4))
            if self.refused is not None:
                raise Halted(self.refused)
            if self.silent_s:
                with suppress(Unreachable, ProviderRefused):
                    await probe()
            if not self.silent_s:
                continue
            waiting = self._batch_open()
            if not self._told:
                self._told = True
                how_long = f"{SILENCE_S:.0f} s"
                if waiting:
                    how_long = (
                        f"{span(SILENCE_WITH_BATCH_S)}, because a batch is open there (Ctrl-C keeps what was done)"
                    )
                self.notice(f"cannot reach {self.base_url} ({self._reason}); trying for {how_long}")
            if self.silent_s > (SILENCE_WITH_BATCH_S if waiting else SILENCE_S):
                raise Stop(
                    f"no contact with {self.base_url} for {_rounded(self.silent_s)}; what was done is kept: "
                    "repeat the command when it is back"
                )


def _rounded(seconds: float) -> str:
    return f"{SILENCE_S:.0f} s" if seconds < 2 * SILENCE_S else span(seconds)


class WatchedAnswers:
    """A ports.AnswerApi. The run's name goes with every call's id: a provider may serve several runs of one file."""

    def __init__(self, api: AnswerApi, contact: Contact, run: str) -> None:
        self._api = api
        self._contact = contact
        self._run = run

    async def answer(self, call: Call) -> Response:
        response = await self._api.answer(replace(call, call_id=call_name(self._run, call.call_id)))
        if response.status is not None:
            self._contact.heard()
        elif not response.sent:
            self._contact.missed(response.fault or "no connection")
        return response

    async def presence(self) -> Presence:
        found = await self._api.presence()
        if found is not Presence.ABSENT:
            self._contact.heard()
        return found


def call_name(run: str, call_id: str) -> str:
    return f"{run}.{call_id}"


class WatchedBatches:
    """A ports.BatchApi. Notices are given once for each batch."""

    def __init__(self, api: BatchApi, contact: Contact) -> None:
        self._api = api
        self._contact = contact
        self._told: set[str] = set()

    async def prepare(self, key: SubmissionKey, lines: BinaryIO) -> str | None:
        with self._contact.call():
            return await self._api.prepare(key, lines)

    async def create(self, key: SubmissionKey, endpoint: Endpoint, input_ref: str | None) -> ProviderBatch:
        with self._contact.call():
            return await self._api.create(key, endpoint, input_ref)

    async def find(self, key: SubmissionKey, input_ref: str | None) -> ProviderBatch | None:
        with self._contact.call():
            found = await self._api.find(key, input_ref)
        if found is None:
            self._tell(
                f"batch {key.batch_id}: whether it was created is not known; looked for at the provider for "
                f"{span(GRACE.total_seconds())} before it is created again"
            )
        return found

    async def get(self, provider_batch_id: str) -> ProviderBatch | None:
        with self._contact.call():
            batch = await self._api.get(provider_batch_id)
        if batch is None:
            self._tell(
                f"{self._contact.base_url} does not know {provider_batch_id}, which it made; unless it comes to know "
                f"it again, its tasks are sent anew {span(GIVEN_UP_AFTER.total_seconds())} after it was submitted"
            )
        else:
            self._contact.batches[batch.id] = batch
            if (whole := whole_fault(batch)) is not None:
                self._contact.quote(unquoted(whole[1].sentence))
        return batch

    async def results(self, batch: ProviderBatch, *, partial: bool = False) -> AsyncIterator[bytes]:
        with self._contact.call():
            async for line in self._api.results(batch, partial=partial):
                yield line

    async def cancel(self, provider_batch_id: str) -> None:
        with self._contact.call():
            await self._api.cancel(provider_batch_id)

    async def clean(self, refs: Sequence[str]) -> None:
        """A provider that will not delete must not keep a run from ending: its files are named instead."""
        try:
            with self._contact.call(needed=False):
                await self._api.clean(refs)
        except ProviderRefused as refusal:
            if refusal.status in _PASSING or refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            self._left(refusal.message, refs)
        except Redirected as error:
            self._left(str(error), refs)

    def _left(self, why: str, refs: Sequence[str]) -> None:
        self._tell(f"left at the provider, which will not delete them ({why}): {', '.join(refs)}")

    async def owned(self, deployment: str) -> AsyncIterator[Owned]:
        with self._contact.call(needed=False):
            async for each in self._api.owned(deployment):
                yield each

    async def supported(self) -> bool:
        with self._contact.call():
            return await self._api.supported()

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._contact.notice(text)


_PASSING = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)
"""Refusals that pass, or that end the run in another way."""
