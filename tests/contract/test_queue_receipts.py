"""Receipts that are no longer good. Only the embedded engine can show it: moto takes any receipt there ever was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lowtide.ports import Message, Outgoing, Queue
from tests.contract.conftest import FACTORIES, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with FACTORIES["embedded"](tmp_path) as made:
        yield made


def twice_received(store: Store) -> tuple[Queue, Message, Message]:
    queue = store.queue("low")
    queue.send([Outgoing("one")])
    [stale] = queue.receive(1, visibility_s=30)
    store.advance(31)
    [fresh] = queue.receive(1, visibility_s=30)
    return queue, stale, fresh


def test_a_stale_receipt_deletes_nothing(store: Store) -> None:
    queue, stale, _ = twice_received(store)
    queue.delete([stale])
    store.advance(31)
    assert [message.body for message in queue.receive(1, visibility_s=30)] == ["one"]


def test_a_stale_receipt_defers_nothing(store: Store) -> None:
    queue, stale, _ = twice_received(store)
    queue.defer([(stale, 0)])
    assert queue.receive(1, visibility_s=30) == []
    queue.defer([(stale, 3600)])
    store.advance(31)
    assert len(queue.receive(1, visibility_s=30)) == 1


def test_a_stale_receipt_among_fresh_ones_stops_none_of_them(store: Store) -> None:
    queue, stale, fresh = twice_received(store)
    queue.delete([stale, fresh])
    store.advance(31)
    assert queue.receive(1, visibility_s=30) == []


def test_a_receipt_of_one_queue_deletes_nothing_in_another(store: Store) -> None:
    queue, _, fresh = twice_received(store)
    store.queue("high").delete([fresh])
    store.advance(31)
    assert len(queue.receive(1, visibility_s=30)) == 1


def test_a_message_that_came_back_is_no_longer_the_first_receivers_to_defer(store: Store) -> None:
    queue = store.queue("low")
    queue.send([Outgoing("one")])
    [message] = queue.receive(1, visibility_s=30)
    store.advance(31)
    queue.defer([(message, 600)])
    assert len(queue.receive(1, visibility_s=30)) == 1
