"""A provider's word on its batch is read as far as our row has room for it."""

from __future__ import annotations

from typing import Any

import pytest

from lowtide.adapters.openai.reading import MOST_FAULT_BYTES, MOST_FAULTS, provider_batch


def failed(faults: object, **more: object) -> dict[str, Any]:
    return {"id": "batch_1", "status": "failed", "errors": {"data": faults}} | more


@pytest.mark.parametrize("text", ["x", "x" * 10_000, "\U0001f600" * 10_000, "\x01" * 10_000])
def test_the_first_faults_are_kept_and_never_more_than_their_share_of_a_row(text):
    many = [{"code": text, "message": text, "param": text, "line": number} for number in range(1, 5_001)]
    batch = provider_batch(failed(many))
    assert 0 < len(batch.faults) <= MOST_FAULTS
    assert [fault.line for fault in batch.faults] == list(range(1, len(batch.faults) + 1))
    assert len(batch.model_dump_json().encode()) < MOST_FAULT_BYTES + 2_000


def test_a_fault_of_ordinary_size_is_kept_as_it_was_said():
    [fault] = provider_batch(failed([{"code": "invalid_url", "message": "No.", "param": "url", "line": 7}])).faults
    assert (fault.code, fault.message, fault.param, fault.line) == ("invalid_url", "No.", "url", 7)


def test_a_usage_without_measure_is_not_kept():
    assert provider_batch(failed([], usage={"total_tokens": 5})).usage == {"total_tokens": 5}
    assert provider_batch(failed([], usage={"notes": "x" * 100_000})).usage is None
