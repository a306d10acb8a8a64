"""The embedded queue hands out by turns among tenants, as SQS's fair queues do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lowtide.ports import Outgoing
from lowtide_local.engine.database import Durability
from lowtide_local.engine.engine import Engine
from tests.contract.conftest import StillClock


@pytest.fixture
def queue(tmp_path):
    with Engine.open(tmp_path, StillClock(datetime(2026, 3, 2, 10, tzinfo=UTC)), Durability.RELAXED) as engine:
        yield engine.queue("normal")


def send(queue, tenant: str, count: int) -> None:
    queue.send([Outgoing(body=f"{tenant} {number}", group=tenant) for number in range(count)])


def taken(queue, limit: int) -> list[str]:
    messages = queue.receive(limit, visibility_s=60)
    queue.delete(messages)
    return [message.body for message in messages]


def test_ten_messages_do_not_wait_behind_a_thousand(queue):
    send(queue, "big", 1_000)
    send(queue, "small", 10)
    received = taken(queue, 20)
    assert [body for body in received if body.startswith("small")] == [f"small {number}" for number in range(10)]


def test_each_tenant_has_its_own_in_the_order_in_which_it_sent_them(queue):
    for tenant in ("b", "a", "c"):
        send(queue, tenant, 3)
    received = taken(queue, 8)
    for tenant in ("a", "b", "c"):
        mine = [body for body in received if body.startswith(tenant)]
        assert mine == sorted(mine)
        assert 2 <= len(mine) <= 3


def test_more_tenants_than_are_received_at_once_have_their_turn_one_after_the_other(queue):
    for number in range(30):
        send(queue, f"t{number:02}", 2)
    received = [body for _ in range(6) for body in taken(queue, 5)]
    assert sorted(received) == [f"t{number:02} 0" for number in range(30)]


def test_what_is_in_flight_takes_no_turn(queue):
    send(queue, "a", 1)
    send(queue, "b", 3)
    assert len(queue.receive(1, visibility_s=60)) == 1
    assert len(queue.receive(2, visibility_s=60)) == 2
    assert [message.body for message in queue.receive(5, visibility_s=60)] == ["b 2"]


def test_all_of_a_tenant_alone_come_in_the_order_in_which_they_were_sent(queue):
    send(queue, "only", 25)
    assert [body for _ in range(3) for body in taken(queue, 10)] == [f"only {number}" for number in range(25)]
