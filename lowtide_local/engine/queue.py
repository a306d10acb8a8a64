"""A queue in SQLite, as strict as SQS: what would be refused there is refused here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice, takewhile, zip_longest

import orjson

from lowtide.core.errors import LowtideError, TooLarge
from lowtide.core.returns import MOST_RECEIVES
from lowtide.ports import Clock, Depth, Message, Outgoing

from .database import Database
from .moments import from_ms, to_ms

MESSAGE_BYTES = 1_048_576
"""SQS's limit for a message with its attributes, in bytes of UTF-8."""
LONGEST_DELAY_S = 900
"""SQS's limit: a quarter of an hour."""
LONGEST_VISIBILITY_S = 43_200
"""SQS's limit, counted from the receive: twelve hours."""

STRANDED = "stranded"
UNLIMITED = frozenset({STRANDED, "dead-letters"})
"""Queues without a redrive policy."""

_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
"""Characters that SQS takes in no message (its list follows XML's). JSON escapes them. The two that are missing here,
U+FFFE and U+FFFF, the adapter for SQS escapes itself."""
MOST_ATTRIBUTES = 10
"""SQS's limit for the attributes of one message."""

_NAME = re.compile(r"(?!.{257})[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)*")
"""What SQS takes as an attribute's name: 256 characters at most."""


class SqliteQueue:
    """A ports.Queue. Messages come in the order in which they became visible; nothing is forgotten after 14 days.

    Where more wait than are received, the tenants have them by turns, as SQS's fair queues see to it: nobody's ten
    messages wait behind another's million.
    """

    def __init__(self, database: Database, name: str, clock: Clock) -> None:
        self._database = database
        self._name = name
        self._clock = clock
        self._last_served = ""
        """The tenant that had the last message received while more waited."""

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Raises TooLarge, or LowtideError for what SQS would not take; nothing is sent then."""
        for message in messages:
            _check(message)
        now = self._now_ms()
        rows: list[tuple[object, ...]] = [
            (
                self._name,
                self._name,
                now + 1000 * message.delay_s,
                now,
                message.group,
                _attributes_json(message),
                message.body,
            )
            for message in messages
        ]
        with self._database.transaction():
            self._database.execute_many(
                "INSERT INTO messages (queue, sent_to, visible_at, sent_at, tenant, attributes, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def receive(self, limit: int, *, visibility_s: int) -> list[Message]:
        if not 0 <= visibility_s <= LONGEST_VISIBILITY_S:
            raise ValueError(f"a visibility of {visibility_s} s; SQS takes 0 to {LONGEST_VISIBILITY_S}")
        now = self._now_ms()
        with self._database.transaction():
            place = {number: place for place, number in enumerate(self._next(max(limit, 0), now))}
            if not place:
                return []
            rows = self._database.execute(
                "SELECT id, receives + 1, sent_to, sent_at, tenant, attributes, body FROM messages "
                "WHERE id IN (SELECT value FROM json_each(?))",
                (orjson.dumps(list(place)).decode(),),
            )
            found = sorted(rows.fetchall(), key=lambda row: place[row[0]])
            if self._strand([row[0] for row in found if row[1] > MOST_RECEIVES], now):
                return self.receive(limit, visibility_s=visibility_s)
            self._database.execute_many(
                "UPDATE messages SET visible_at = ?, receives = receives + 1, received_at = ? WHERE id = ?",
                [(now + 1000 * visibility_s, now, row[0]) for row in found],
            )
        return [
            Message(
                id=f"{sent_to}-{number}",
                receipt=f"{number}.{receives}",
                body=body,
                sent_at=from_ms(sent_at),
                receives=receives,
                group=tenant,
                attributes=orjson.loads(attributes),
            )
            for number, receives, sent_to, sent_at, tenant, attributes, body in found
        ]

    def _strand(self, numbers: Sequence[int], now: int) -> bool:
        """A message received too often goes to another queue instead, with its id and its count: a redrive policy."""
        if self._name in UNLIMITED:
            return False
        moved: list[tuple[object, ...]] = [(STRANDED, now, number) for number in numbers]
        self._database.execute_many("UPDATE messages SET queue = ?, visible_at = ? WHERE id = ?", moved)
        return bool(moved)

    def _next(self, limit: int, now: int) -> list[int]:
        """The messages to hand out, by their numbers."""
        oldest = self._database.execute(
            "SELECT id, tenant FROM messages WHERE queue = ? AND visible_at <= ? ORDER BY visible_at, id LIMIT ?",
            (self._name, now, limit + 1),
        ).fetchall()
        if len(oldest) <= limit:
            return [number for number, _ in oldest]
        turns = []
        for tenant in self._tenants_in_turn(limit):
            mine = self._database.execute(
                "SELECT id FROM messages WHERE queue = ? AND tenant = ? AND visible_at <= ? "
                "ORDER BY visible_at, id LIMIT ?",
                (self._name, tenant, now, limit),
            ).fetchall()
            turns.append([(number, tenant) for (number,) in mine])
        rounds = (each for together in zip_longest(*turns) for each in together if each is not None)
        chosen = list(islice(rounds, limit))
        if chosen:
            self._last_served = chosen[-1][1]
        return [number for number, _ in chosen] or [number for number, _ in oldest[:limit]]

    def _tenants_in_turn(self, most: int) -> Iterator[str]:
        """Whoever comes after the one served last, then from the first again."""
        last = self._last_served
        later = list(islice(self._tenants(last), most))
        yield from later
        earlier = takewhile(lambda tenant: tenant <= last, self._tenants(""))
        yield from islice(earlier, most - len(later))

    def _tenants(self, after: str) -> Iterator[str]:
        """Those with a message here, ascending; a seek in the index for each, however many messages it has."""
        while True:
            found = self._database.execute(
                "SELECT tenant FROM messages WHERE queue = ? AND tenant > ? ORDER BY tenant LIMIT 1",
                (self._name, after),
            ).fetchone()
            if found is None:
                return
            after = found[0]
            yield after

    def delete(self, messages: Sequence[Message]) -> None:
        with self._database.transaction():
            self._database.execute_many(
                "DELETE FROM messages WHERE id = ? AND receives = ? AND queue = ?",
                [(*_receipt(message), self._name) for message in messages],
            )

    def defer(self, messages: Sequence[tuple[Message, int]]) -> None:
        """A message whose visibility has ended is no longer this receiver's to defer."""
        now = self._now_ms()
        with self._database.transaction():
            self._database.execute_many(
                "UPDATE messages SET visible_at = min(?, received_at + ?) "
                "WHERE id = ? AND receives = ? AND queue = ? AND visible_at > ?",
                [
                    (
                        now + 1000 * max(seconds, 0),
                        1000 * LONGEST_VISIBILITY_S,
                        *_receipt(message),
                        self._name,
                        now,
                    )
                    for message, seconds in messages
                ],
            )

    def depth(self) -> Depth:
        now = self._now_ms()
        [visible] = self._database.execute(
            "SELECT count(*) FROM messages WHERE queue = ? AND visible_at <= ?", (self._name, now)
        ).fetchone()
        in_flight, delayed = self._database.execute(
            "SELECT count(nullif(receives, 0)), count(*) - count(nullif(receives, 0)) FROM messages "
            "WHERE queue = ? AND visible_at > ?",
            (self._name, now),
        ).fetchone()
        return Depth(visible=visible, in_flight=in_flight, delayed=delayed)

    def waiting(self) -> tuple[int, datetime | None]:
        """How many messages are visible, and when the oldest of them was sent."""
        waiting, since = self._database.execute(
            "SELECT count(*), min(sent_at) FROM messages WHERE queue = ? AND visible_at <= ?",
            (self._name, self._now_ms()),
        ).fetchone()
        return waiting, None if since is None else from_ms(since)

    def next_visible_at(self) -> datetime | None:
        """When the next message that is there becomes visible; a moment past: now. None where there is none."""
        found = self._database.execute("SELECT min(visible_at) FROM messages WHERE queue = ?", (self._name,)).fetchone()
        return None if found[0] is None else from_ms(found[0])

    def _now_ms(self) -> int:
        return to_ms(self._clock.now())


def _receipt(message: Message) -> tuple[int, int]:
    """The message's number and the receive's."""
    number, receive = message.receipt.split(".")
    return int(number), int(receive)


def _check(message: Outgoing) -> None:
    attributes = _carried(message)
    texts = (message.body, *(text for name, value in attributes.items() for text in (name, "String", value)))
    if not message.body or any(_REFUSED.search(text) for text in texts):
        raise LowtideError("a message that is empty or holds control characters; send JSON")
    size = sum(len(text.encode()) for text in texts)
    if size > MESSAGE_BYTES:
        raise TooLarge(f"a message of {size} bytes; a queue takes {MESSAGE_BYTES}: let an object carry it")
    if len(attributes) > MOST_ATTRIBUTES or not all(map(_NAME.fullmatch, attributes)):
        raise LowtideError(
            f"attributes {sorted(attributes)}; a queue takes {MOST_ATTRIBUTES}, named in A-Z, a-z, 0-9, _-."
        )
    if not 0 <= message.delay_s <= LONGEST_DELAY_S:
        raise LowtideError(f"a delay of {message.delay_s} s; a queue takes 0 to {LONGEST_DELAY_S}")


def _carried(message: Outgoing) -> dict[str, str]:
    """Leave out empty attributes: SQS has none."""
    return {name: value for name, value in message.attributes.items() if value}


def _attributes_json(message: Outgoing) -> str:
    return orjson.dumps(_carried(message)).decode()
