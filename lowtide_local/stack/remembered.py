"""What moto's DynamoDB and S3 answer to a read is remembered until something is written there.

An idle poller asks the same each minute, and moto takes some 10 ms to answer. A read depends on nothing but what was
written before it, no clock included, so the same question has the same answer until the next write.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import moto.backends
import moto.core.responses
from botocore.client import BaseClient
from botocore.response import StreamingBody

READS = {
    "dynamodb": frozenset({"BatchGetItem", "GetItem", "Query", "Scan"}),
    "s3": frozenset({"GetObject", "HeadObject", "ListObjectsV2"}),
}


@contextmanager
def reads_remembered() -> Iterator[None]:
    """For as long as it is held. Every other operation on a service, a failed one too, forgets its answers. A read
    that fails is made again."""
    make_call = BaseClient._make_api_call  # type: ignore[attr-defined]  # noqa: SLF001
    answers: dict[str, dict[tuple[str, str, str], bytes]] = {service: {} for service in READS}

    def call(client: Any, operation: str, request: dict[str, Any]) -> Any:
        service = client.meta.service_model.service_name
        if service not in READS:
            return make_call(client, operation, request)
        if operation not in READS[service]:
            try:
                return make_call(client, operation, request)
            finally:
                answers[service].clear()
        question = (client.meta.endpoint_url, operation, repr(request))
        known = answers[service].get(question)
        if known is None:
            known = answers[service][question] = _kept(make_call(client, operation, request))
        return _given(known)

    with patch.object(BaseClient, "_make_api_call", call):
        yield


@contextmanager
def looked_up_once() -> Iterator[None]:
    """Which methods a class has and which module a service is in: moto looks at each request, and neither changes."""
    names = "method_names_from_class"
    with (
        patch.object(moto.backends, "get_backend", cache(moto.backends.get_backend)),
        patch.object(moto.core.responses, names, cache(getattr(moto.core.responses, names))),
    ):
        yield


def _kept(answer: dict[str, Any]) -> bytes:
    if "Body" in answer:
        answer |= {"Body": answer["Body"].read()}
    return pickle.dumps(answer)


def _given(known: bytes) -> dict[str, Any]:
    """A copy: callers may change what they are given."""
    answer: dict[str, Any] = pickle.loads(known)  # noqa: S301 - what _kept wrote
    if "Body" in answer:
        answer |= {"Body": StreamingBody(io.BytesIO(answer["Body"]), len(answer["Body"]))}
    return answer
