from __future__ import annotations

import time

import pytest

from lowtide.core.errors import LowtideError
from lowtide.ports import Outgoing
from lowtide_local.engine.engine import Engine
from tests.contract.cases import NOW
from tests.contract.conftest import StillClock


def test_messages_come_in_the_order_in_which_they_became_visible(engine: Engine, clock: StillClock) -> None:
    queue = engine.queue("low")
    queue.send([Outgoing("late", delay_s=50), Outgoing("first"), Outgoing("second")])
    queue.defer([(queue.receive(1, visibility_s=30)[0], 20)])
    clock.advance(60)
    assert [message.body for message in queue.receive(9, visibility_s=30)] == ["second", "first", "late"]


def test_ids_and_receipts_are_the_same_in_every_run(engine: Engine) -> None:
    queue = engine.queue("low")
    queue.send([Outgoing("one"), Outgoing("two")])
    assert [(m.id, m.receipt) for m in queue.receive(9, visibility_s=0)] == [("low-1", "1.1"), ("low-2", "2.1")]


def test_an_id_is_never_given_twice(engine: Engine) -> None:
    queue = engine.queue("low")
    queue.send([Outgoing("one")])
    queue.delete(queue.receive(1, visibility_s=30))
    queue.send([Outgoing("two")])
    assert [message.id for message in queue.receive(1, visibility_s=30)] == ["low-2"]


def test_a_queue_tells_when_to_look_again(engine: Engine, clock: StillClock) -> None:
    queue = engine.queue("low")
    assert queue.next_visible_at() is None
    queue.send([Outgoing("later", delay_s=90)])
    assert (queue.next_visible_at() or NOW).timestamp() == NOW.timestamp() + 90
    queue.send([Outgoing("now")])
    assert queue.next_visible_at() == NOW
    queue.receive(1, visibility_s=30)
    assert (queue.next_visible_at() or NOW).timestamp() == NOW.timestamp() + 30


@pytest.mark.parametrize("visibility_s", [-1, 43_201])
def test_a_visibility_that_sqs_would_refuse_is_refused(engine: Engine, visibility_s: int) -> None:
    with pytest.raises(ValueError, match="43200"):
        engine.queue("low").receive(1, visibility_s=visibility_s)


@pytest.mark.parametrize("message", [Outgoing(""), Outgoing("{}", attributes={"code": "\x1b"}), Outgoing("\ud800")])
def test_one_text_that_sqs_would_refuse_stops_all_before_any_is_sent(engine: Engine, message: Outgoing) -> None:
    with pytest.raises(LowtideError):
        engine.queue("low").send([Outgoing("good"), message])
    assert engine.queue("low").depth().visible == 0


def test_twelve_hours_count_from_the_receive_however_often_it_is_deferred(engine: Engine, clock: StillClock) -> None:
    queue = engine.queue("low")
    queue.send([Outgoing("one")])
    [message] = queue.receive(1, visibility_s=43_200)
    clock.advance(43_000)
    queue.defer([(message, 43_200)])
    clock.advance(200)
    assert len(queue.receive(1, visibility_s=30)) == 1


def test_ten_thousand_messages_go_through_in_seconds(engine: Engine) -> None:
    """Measured at about 0.3 s; quadratic work would take minutes."""
    queue = engine.queue("low")
    began = time.perf_counter()
    queue.send([Outgoing(f'{{"n":{number}}}', group="acme") for number in range(10_000)])
    received = 0
    while messages := queue.receive(10, visibility_s=30):
        queue.defer([(message, 60) for message in messages])
        queue.delete(messages)
        received += len(messages)
    assert received == 10_000
    assert time.perf_counter() - began < 15
