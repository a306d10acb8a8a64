"""Provider batches through the Batch API of OpenAI and of those that speak its protocol.

Answers are read as plain JSON and leniently: compatible servers leave fields out. Nothing is sent twice.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Any, BinaryIO

import httpx2

from lowtide.core.batches import ProviderBatch
from lowtide.core.errors import ProviderRefused, Unreachable
from lowtide.core.task import Endpoint
from lowtide.ports import Clock, Owned, OwnedKind, SubmissionKey

from .client import Client, is_openai
from .downloads import lines_of
from .pages import pages
from .reading import moment_of, provider_batch
from .wire import exchange, path_of

_KEPT = {"anchor": "created_at", "seconds": 2_592_000}
"""Thirty days, the longest that OpenAI takes: files that outlive us all the same go by themselves."""
_KEPT_FORM = {f"expires_after[{name}]": str(value) for name, value in _KEPT.items()}
"""The same in a form."""
LOOK_BACK = timedelta(hours=49)
"""How far ``find`` looks where the input's own age is unknown: a submission is given up after 48 hours."""
CLOCK_SKEW = timedelta(minutes=5)
_FILE_PAGES = 10
"""A file that was handed over a moment ago is among the newest thousand."""
_BATCH_PAGES = 1_000
"""Of 100: twice what two days hold at 2,000 creations an hour."""
_SWEPT_BACK = timedelta(days=7)
"""How far ``owned`` looks: a sweep is hourly, and a batch is over after three days at the latest."""
_SWEPT_PAGES = 100
"""Of 100 in each list, the newest first: a sweep ends, however many others share the account."""
_ABSENT = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})


class OpenAIBatches:
    """A ports.BatchApi. Calls raise Unreachable or ProviderRefused."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        # Others may refuse a field that they do not know.
        self._sets_expiry = is_openai(client)

    async def prepare(self, key: SubmissionKey, lines: BinaryIO) -> str | None:
        """Looks first for a whole file of our name: ``lowtide-{key}.jsonl``."""
        name = file_name(key)
        size = lines.seek(0, 2)
        lines.seek(0)
        found = await self._file_named(name, size)
        if found is not None:
            return found
        form = {"purpose": "batch", **(_KEPT_FORM if self._sets_expiry else {})}
        body = await exchange(self._client.upload("/files", form, name, lines))
        return _id_of(body, "an uploaded file")

    async def create(self, key: SubmissionKey, endpoint: Endpoint, input_ref: str | None) -> ProviderBatch:
        """A 5xx is raised as ProviderRefused and, like Unreachable, may hide a creation."""
        order: dict[str, Any] = {
            "input_file_id": input_ref,
            "endpoint": endpoint.value,
            "completion_window": "24h",
            "metadata": {"lowtide_key": key.text, "lowtide_deployment": key.deployment},
        }
        if self._sets_expiry:
            order["output_expires_after"] = _KEPT
        body = await self._post("/batches", order)
        _id_of(body, "a created batch")
        return provider_batch(body)

    async def find(self, key: SubmissionKey, input_ref: str | None) -> ProviderBatch | None:
        """Newest first, back to when the input was handed over: no batch is older than its input."""
        horizon = await self._horizon(input_ref)
        listed = pages(lambda after: self._page("/batches", after), limit=_BATCH_PAGES)
        async for page in listed:
            for row in page:
                metadata = row.get("metadata")
                ours = isinstance(metadata, Mapping) and metadata.get("lowtide_key") == key.text
                if ours or (input_ref and row.get("input_file_id") == input_ref):
                    return provider_batch(row)
            if _all_before(page, horizon):
                return None
        return None

    async def get(self, provider_batch_id: str) -> ProviderBatch | None:
        try:
            body = await self._get(path_of("batches", provider_batch_id))
        except ProviderRefused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        _id_of(body, "a batch")
        return provider_batch(body)

    async def results(self, batch: ProviderBatch, *, partial: bool = False) -> AsyncIterator[bytes]:
        """A file that is named and not there raises ProviderRefused: it must not pass for a file without lines."""
        for ref in batch.result_refs:
            async for line in lines_of(self._client, ref, partial=partial):
                yield line

    async def cancel(self, provider_batch_id: str) -> None:
        try:
            await self._post(f"{path_of('batches', provider_batch_id)}/cancel")
        except ProviderRefused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return
            if error.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT):
                raise
            batch = await self.get(provider_batch_id)
            if batch is not None and not batch.ended:
                raise

    async def clean(self, refs: Sequence[str]) -> None:
        """Tries them all before it raises for one. Where nothing can be deleted (405, 501), nothing is left to do."""
        refused: ProviderRefused | None = None
        for ref in refs:
            if not ref:
                continue
            try:
                await exchange(self._client.delete(path_of("files", ref)))
            except ProviderRefused as error:
                refused = refused if error.status in _ABSENT else error
        if refused is not None:
            raise refused

    async def owned(self, deployment: str) -> AsyncIterator[Owned]:
        """By metadata, by the input's name, or as the output of a batch so found. Both lists are read whole before
        anything comes, so that what is deleted meanwhile does not break their pages."""
        files = [row async for row in self._recent("/files", order="desc")]
        keys = {str(row.get("id")): _key_named(deployment, row) for row in files}
        writers: dict[str, tuple[SubmissionKey, ProviderBatch]] = {}
        for row in [row async for row in self._recent("/batches")]:
            batch = provider_batch(row)
            if (key := _key_marked(deployment, row) or keys.get(batch.input_ref or "")) is None:
                continue
            writers |= {ref: (key, batch) for ref in (batch.output_ref, batch.error_ref) if ref}
            yield Owned(OwnedKind.BATCH, batch.id, key, batch.created_at, batch)
        for row in files:
            file_id, created_at = str(row.get("id")), moment_of(row.get("created_at"))
            if (named := keys[file_id]) is not None:
                yield Owned(OwnedKind.INPUT, file_id, named, created_at)
            elif file_id in writers:
                key, batch = writers[file_id]
                yield Owned(OwnedKind.OUTPUT, file_id, key, created_at, batch)

    async def supported(self) -> bool:
        """By ``GET /batches``: absent (404, 405, 501) or no list is no; any other answer to the request itself is
        yes. A key that is refused (401, 403) and a 5xx tell nothing and raise ProviderRefused.
        """
        try:
            body = await self._get("/batches?limit=1")
        except ProviderRefused as error:
            if error.status in _ABSENT:
                return False
            tells_nothing = error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
            if tells_nothing or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            return True
        return isinstance(body, Mapping) and isinstance(body.get("data"), list)

    async def _horizon(self, input_ref: str | None) -> datetime:
        """Before it, no batch of ours can have been created."""
        created = None
        if input_ref:
            try:
                file = await self._get(path_of("files", input_ref))
                created = moment_of(file.get("created_at")) if isinstance(file, Mapping) else None
            except ProviderRefused as error:
                if error.status not in _ABSENT:
                    raise
        return created - CLOCK_SKEW if created is not None else self._clock.now() - LOOK_BACK

    async def _file_named(self, name: str, size: int) -> str | None:
        listed = pages(
            lambda after: self._page("/files", after, purpose="batch", order="desc"), limit=_FILE_PAGES, partial=True
        )
        try:
            async for page in listed:
                for row in page:
                    whole = row.get("bytes") in (None, size) and row.get("status") != "error"
                    if row.get("filename") == name and whole:
                        return _id_of(row, "a file")
        except ProviderRefused as error:
            if error.status not in _ABSENT:
                raise
        return None

    async def _recent(self, path: str, **query: str) -> AsyncIterator[Mapping[str, Any]]:
        """The rows of a list that have an id, as far back as a sweep looks; none where there is no such list."""
        horizon = self._clock.now() - _SWEPT_BACK
        listed = pages(lambda after: self._page(path, after, **query), limit=_SWEPT_PAGES, partial=True)
        try:
            async for page in listed:
                for row in page:
                    if isinstance(row.get("id"), str) and row["id"]:
                        yield row
                if _all_before(page, horizon):
                    return
        except ProviderRefused as error:
            if error.status not in _ABSENT:
                raise

    async def _page(self, path: str, after: str | None, **query: str) -> Any:
        asked = {"limit": "100", **query} | ({"after": after} if after is not None else {})
        return await self._get(f"{path}?{httpx2.QueryParams(asked)}")

    async def _get(self, path: str) -> Any:
        return await exchange(self._client.get(path))

    async def _post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return await exchange(self._client.post(path, body))


def file_name(key: SubmissionKey) -> str:
    """Ends in ``.jsonl``, as it must. A key that has to be changed for it keeps apart by a digest."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", key.text)
    if safe != key.text:
        safe = f"{safe}-{sha256(key.text.encode()).hexdigest()[:12]}"
    return f"lowtide-{safe}.jsonl"


def _key_named(deployment: str, row: Mapping[str, Any]) -> SubmissionKey | None:
    """The key that an input's name carries, if it is one of this deployment's."""
    name = row.get("filename")
    if not isinstance(name, str):
        return None
    # The name is the key's but for what had to be changed; whichever key makes this very name is the one.
    text = name.removeprefix("lowtide-").removesuffix(".jsonl")
    batch_id, _, rest = text[len(deployment) + 1 :].rpartition(".")
    key = SubmissionKey.of_deployment(deployment, f"{deployment}.{batch_id}.{rest.partition('-')[0]}")
    return key if key is not None and file_name(key) == name else None


def _key_marked(deployment: str, row: Mapping[str, Any]) -> SubmissionKey | None:
    """The key in a batch's metadata, if it is one of this deployment's."""
    metadata = row.get("metadata")
    if not isinstance(metadata, Mapping) or metadata.get("lowtide_deployment") != deployment:
        return None
    return SubmissionKey.of_deployment(deployment, str(metadata.get("lowtide_key")))


def _id_of(body: Any, what: str) -> str:
    """Raises Unreachable where the answer cannot be read: it may have taken effect, and looking again tells."""
    found = body.get("id") if isinstance(body, Mapping) else None
    if not isinstance(found, str) or not found:
        raise Unreachable(f"the provider answered with {what} that has no id")
    return found


def _all_before(page: Sequence[Mapping[str, Any]], horizon: datetime) -> bool:
    """Is this page, and so every later one, too old? Not where the server lists its oldest first."""
    moments = [moment_of(row.get("created_at")) for row in page]
    known = [moment for moment in moments if moment is not None]
    if not known or len(known) < len(moments):
        return False
    return known[0] < horizon and known[0] >= known[-1]
