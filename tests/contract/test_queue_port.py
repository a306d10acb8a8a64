from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from lowtide.core.errors import LowtideError, TooLarge
from lowtide.ports import Depth, Message, Outgoing, Queue
from tests.contract.cases import NOW
from tests.contract.conftest import Store

MIB = 1_048_576


@pytest.fixture
def queue(store: Store) -> Queue:
    return store.queue("low")


def send(queue: Queue, *bodies: str) -> None:
    queue.send([Outgoing(body) for body in bodies])


def receive(queue: Queue, *, limit: int = 10, visibility_s: int = 30) -> list[Message]:
    return queue.receive(limit, visibility_s=visibility_s)


def bodies(messages: list[Message]) -> list[str]:
    return sorted(message.body for message in messages)


def test_what_was_sent_is_received_as_it_was(queue: Queue) -> None:
    body = json.dumps({"text": "à la mode \u2028 \U0001f30a \\n"}, ensure_ascii=False)
    queue.send([Outgoing(body, group="acme", attributes={"code": "expired", "type": "héros"})])
    [message] = receive(queue)
    assert message.body == body
    assert message.group == "acme"
    assert message.attributes == {"code": "expired", "type": "héros"}
    assert message.sent_at == NOW
    assert message.receives == 1


def test_an_attribute_without_a_value_is_not_carried(queue: Queue) -> None:
    queue.send([Outgoing("{}", attributes={"code": "expired", "tenant": ""})])
    [message] = receive(queue)
    assert message.attributes == {"code": "expired"}


def test_sending_and_deleting_nothing_does_nothing(queue: Queue) -> None:
    queue.send([])
    queue.delete([])
    queue.defer([])
    assert queue.depth() == Depth(visible=0, in_flight=0, delayed=0)


def test_an_empty_queue_gives_nothing_at_once(queue: Queue) -> None:
    assert receive(queue) == []


def test_more_than_one_call_carries_go_in_and_come_out_whole(queue: Queue) -> None:
    sent = [f"body-{number:02}" for number in range(23)]
    send(queue, *sent)
    assert bodies(receive(queue, limit=50)) == sent


def test_a_receive_gives_no_more_than_its_limit_and_no_message_twice(queue: Queue) -> None:
    send(queue, *(f"body-{number:02}" for number in range(15)))
    first = receive(queue, limit=12)
    second = receive(queue, limit=12)
    assert len(first) == 12
    assert bodies(first + second) == [f"body-{number:02}" for number in range(15)]


def test_a_message_in_hand_is_hidden_until_its_visibility_ends(store: Store, queue: Queue) -> None:
    send(queue, "one")
    [first] = receive(queue, visibility_s=30)
    store.advance(29)
    assert receive(queue) == []
    store.advance(2)
    [again] = receive(queue)
    assert again.id == first.id
    assert again.receipt != first.receipt
    assert again.receives == 2
    assert again.sent_at == first.sent_at


def test_a_deleted_message_never_comes_back(store: Store, queue: Queue) -> None:
    send(queue, "one", "two")
    received = receive(queue)
    queue.delete(received)
    queue.delete(received)
    store.advance(3600)
    assert receive(queue) == []
    assert queue.depth() == Depth(visible=0, in_flight=0, delayed=0)


def test_deleting_one_leaves_its_neighbours(store: Store, queue: Queue) -> None:
    send(queue, "one", "two", "three")
    queue.delete([message for message in receive(queue) if message.body == "two"])
    store.advance(31)
    assert bodies(receive(queue)) == ["one", "three"]


def test_a_receipt_outlives_its_visibility_until_the_next_receive(store: Store, queue: Queue) -> None:
    send(queue, "one")
    received = receive(queue, visibility_s=30)
    store.advance(31)
    queue.delete(received)
    assert receive(queue) == []


def test_a_delayed_message_waits(store: Store, queue: Queue) -> None:
    queue.send([Outgoing("late", delay_s=60), Outgoing("now")])
    assert bodies(receive(queue)) == ["now"]
    store.advance(61)
    assert "late" in bodies(receive(queue))


def test_deferring_lengthens_the_wait(store: Store, queue: Queue) -> None:
    send(queue, "one")
    [message] = receive(queue, visibility_s=30)
    queue.defer([(message, 300)])
    store.advance(299)
    assert receive(queue) == []
    store.advance(2)
    assert bodies(receive(queue)) == ["one"]


def test_deferring_by_nothing_gives_the_message_back_at_once(queue: Queue) -> None:
    send(queue, "one", "two")
    received = receive(queue)
    queue.defer([(message, 0) for message in received])
    assert bodies(receive(queue)) == ["one", "two"]


def test_each_message_is_deferred_by_its_own_time(store: Store, queue: Queue) -> None:
    send(queue, "short", "long")
    queue.defer([(message, {"short": 10, "long": 100}[message.body]) for message in receive(queue)])
    store.advance(11)
    assert bodies(receive(queue, visibility_s=1000)) == ["short"]
    store.advance(90)
    assert bodies(receive(queue)) == ["long"]


def test_a_message_deferred_and_then_deleted_is_gone(store: Store, queue: Queue) -> None:
    send(queue, "one")
    received = receive(queue)
    queue.defer([(received[0], 60)])
    queue.delete(received)
    store.advance(61)
    assert receive(queue) == []


def test_a_message_is_deferred_by_twelve_hours_at_most(store: Store, queue: Queue) -> None:
    send(queue, "one")
    queue.defer([(receive(queue)[0], 1_000_000)])
    store.advance(43_201)
    assert bodies(receive(queue)) == ["one"]


def test_depth_tells_visible_from_in_flight_from_delayed(queue: Queue) -> None:
    queue.send([Outgoing("a"), Outgoing("b"), Outgoing("c"), Outgoing("d", delay_s=60)])
    receive(queue, limit=1)
    assert queue.depth() == Depth(visible=2, in_flight=1, delayed=1)


def test_queues_do_not_share_messages(store: Store) -> None:
    send(store.queue("low"), "one")
    assert receive(store.queue("high")) == []
    assert bodies(receive(store.queue("low"))) == ["one"]


def test_a_body_of_exactly_one_mebibyte_is_taken(queue: Queue) -> None:
    send(queue, "a" * MIB)
    assert len(receive(queue)[0].body) == MIB


def test_large_bodies_are_sent_however_many_calls_it_takes(queue: Queue) -> None:
    sent = [letter * 600_000 for letter in "abc"]
    send(queue, *sent)
    assert bodies(receive(queue)) == sent


@pytest.mark.parametrize(
    "too_large",
    [
        pytest.param(Outgoing("a" * (MIB + 1)), id="characters"),
        # 2 bytes each: half as many characters as bytes.
        pytest.param(Outgoing("é" * (MIB // 2 + 1)), id="bytes"),
        pytest.param(Outgoing("a" * MIB, attributes={"code": "expired"}), id="attributes"),
    ],
)
def test_a_message_too_large_in_bytes_stops_all_before_any_is_sent(queue: Queue, too_large: Outgoing) -> None:
    with pytest.raises(TooLarge):
        queue.send([Outgoing("small"), too_large])
    assert receive(queue) == []


def test_a_delay_beyond_a_quarter_of_an_hour_is_refused(queue: Queue) -> None:
    with pytest.raises(LowtideError):
        queue.send([Outgoing("one", delay_s=901)])
    assert queue.depth().delayed == 0


def test_sent_at_is_when_it_was_sent_not_when_it_was_received(store: Store, queue: Queue) -> None:
    store.advance(5)
    send(queue, "one")
    store.advance(100)
    [message] = receive(queue)
    assert message.sent_at == NOW + timedelta(seconds=5)
    assert isinstance(message.sent_at, datetime)
    assert message.sent_at.utcoffset() == timedelta(0)


NO_QUEUE_TAKES = {
    "an empty body": Outgoing(""),
    "a NUL": Outgoing("a\x00b"),
    "an escape in an attribute": Outgoing("{}", attributes={"type": "\x1b[31m"}),
    "a form feed in an attribute": Outgoing("{}", attributes={"type": "\x0c"}),
    "a space in a name": Outgoing("{}", attributes={"two words": "1"}),
    "a name that begins with a dot": Outgoing("{}", attributes={".hidden": "1"}),
    "two dots in a name": Outgoing("{}", attributes={"a..b": "1"}),
    "a name of 257 characters": Outgoing("{}", attributes={"x" * 257: "1"}),
    "eleven attributes": Outgoing("{}", attributes={f"a{n}": "1" for n in range(11)}),
}
EVERY_QUEUE_TAKES = ["\t\n\r", "\x7f\x85", "\ue000\ufffd", "\U0001fffe", "größe", "'\"<&>"]


def test_a_message_that_no_queue_takes_is_an_error_and_is_not_sent(queue: Queue) -> None:
    for what, message in NO_QUEUE_TAKES.items():
        with pytest.raises(LowtideError):
            queue.send([message])
        assert receive(queue) == [], what


def test_every_character_that_a_queue_takes_comes_out_as_it_went_in(queue: Queue) -> None:
    queue.send([Outgoing(text, attributes={"type": text}) for text in EVERY_QUEUE_TAKES])
    messages = receive(queue)
    assert {message.body for message in messages} == set(EVERY_QUEUE_TAKES)
    assert all(message.attributes == {"type": message.body} for message in messages)


def test_ten_attributes_are_carried(queue: Queue) -> None:
    attributes = {f"a_{n}.b-c": str(n) for n in range(10)}
    queue.send([Outgoing("{}", attributes=attributes)])
    assert receive(queue)[0].attributes == attributes
