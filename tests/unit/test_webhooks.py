"""lowtide.core.webhooks: whose delivery it is, and of when."""

from __future__ import annotations

import string
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.errors import ConfigError
from lowtide.core.webhooks import (
    BODY_BYTES,
    Delivery,
    Hint,
    Kind,
    Refusal,
    Unrelated,
    read,
    signature,
    signing_key,
)
from lowtide_local.simulator import webhooks as simulated

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
SECRET = "whsec_" + b64encode(b"the key of this test, 32 bytes..").decode()
OTHER = "whsec_" + b64encode(b"another key than the one of ours").decode()
KEY = signing_key(SECRET)


def event(**changes):
    told = {"id": "evt_1", "object": "event", "type": "batch.completed", "created_at": 1_772_445_600}
    return orjson.dumps({**told, "data": {"id": "batch_7"}, **changes})


def delivery(body=None, *, secret=SECRET, at=NOW, event_id="wh_1"):
    """As the simulated provider signs it, which shares no code with what verifies."""
    body, timestamp = event() if body is None else body, str(int(at.timestamp()))
    return Delivery(event_id, timestamp, simulated.signature(secret, event_id, timestamp, body), body)


def test_a_signed_delivery_is_a_hint_at_its_batch():
    assert read(delivery(), KEY, NOW) == Hint(provider_batch_id="batch_7", event_id="wh_1", kind=Kind.COMPLETED)


@pytest.mark.parametrize("kind", Kind)
def test_every_end_of_a_batch_is_a_hint(kind):
    found = read(delivery(event(type=kind.value)), KEY, NOW)
    assert isinstance(found, Hint)
    assert found.kind is kind


def test_the_providers_own_sdk_verifies_what_is_verified_here(monkeypatch):
    monkeypatch.setattr("time.time", NOW.timestamp)
    sent = delivery()
    names = {"webhook-id": sent.id, "webhook-timestamp": sent.timestamp}
    ours = signature(KEY, sent.id, sent.timestamp, sent.body)
    client = openai.OpenAI(api_key="any")
    client.webhooks.verify_signature(sent.body, names | {"webhook-signature": ours}, secret=SECRET)
    assert ours == sent.signatures


# --- forged -------------------------------------------------------------------------------------------------------

TEXT = st.text(string.printable, min_size=1, max_size=20)


@given(data=st.data(), body=st.binary(min_size=1, max_size=300))
def test_any_changed_byte_of_a_body_is_refused(data, body):
    sent = delivery(body)
    at = data.draw(st.integers(0, len(body) - 1))
    other = data.draw(st.integers(1, 255))
    changed = body[:at] + bytes([body[at] ^ other]) + body[at + 1 :]
    assert read(replace(sent, body=changed), KEY, NOW) is Refusal.FORGED


@given(data=st.data())
def test_any_changed_character_of_a_header_is_refused(data):
    sent = delivery()
    name = data.draw(st.sampled_from(["id", "timestamp", "signatures"]))
    given_ = getattr(sent, name)
    at = data.draw(st.integers(0, len(given_) - 1))
    other = data.draw(st.characters().filter(lambda character: character != given_[at]))
    changed = replace(sent, **{name: given_[:at] + other + given_[at + 1 :]})
    assert read(changed, KEY, NOW) in {Refusal.FORGED, Refusal.UNSIGNED}


@given(cut=st.integers(0, 300), added=st.binary(max_size=5))
def test_a_body_cut_short_or_drawn_out_is_refused(cut, added):
    sent = delivery()
    changed = sent.body[:cut] + added
    verdict = read(replace(sent, body=changed), KEY, NOW)
    assert (verdict is Refusal.FORGED) == (changed != sent.body)


@given(signatures=st.text(), body=st.binary(max_size=100), event_id=TEXT, timestamp=st.text(max_size=15))
def test_whatever_a_stranger_sends_is_refused_and_nothing_raises(signatures, body, event_id, timestamp):
    verdict = read(Delivery(event_id, timestamp, signatures, body), KEY, NOW)
    assert verdict in {Refusal.FORGED, Refusal.UNSIGNED}


def test_another_secret_signs_nothing():
    assert read(delivery(secret=OTHER), KEY, NOW) is Refusal.FORGED


def test_a_digest_spelt_otherwise_is_another_signature():
    """The last two bits of the 43rd character of a digest's base64 say nothing, so four spellings decode alike."""
    sent = delivery()
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    last = alphabet.index(sent.signatures[-2])
    respelt = sent.signatures[:-2] + alphabet[last ^ 1] + "="
    assert read(replace(sent, signatures=respelt), KEY, NOW) is Refusal.FORGED


@pytest.mark.parametrize("order", [1, -1])
def test_one_of_several_signatures_is_enough_while_a_secret_is_rotated(order):
    sent, old = delivery(), delivery(secret=OTHER)
    both = " ".join([sent.signatures, old.signatures, "v1a,AAAA", "nonsense"][::order])
    assert isinstance(read(replace(sent, signatures=both), KEY, NOW), Hint)


def test_a_signature_of_another_version_is_none():
    sent = delivery()
    assert read(replace(sent, signatures=sent.signatures.replace("v1,", "v2,")), KEY, NOW) is Refusal.FORGED


# --- stale --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "taken"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_a_delivery_is_good_for_five_minutes_either_way(seconds, taken):
    verdict = read(delivery(at=NOW - timedelta(seconds=seconds)), KEY, NOW)
    assert isinstance(verdict, Hint) if taken else verdict is Refusal.STALE


def test_a_fresh_time_on_an_old_delivery_is_forged():
    old = delivery(at=NOW - timedelta(days=1))
    assert read(replace(old, timestamp=str(int(NOW.timestamp()))), KEY, NOW) is Refusal.FORGED


# --- of the wrong form --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["id", "timestamp", "signatures"])
def test_a_delivery_without_a_header_is_unsigned(header):
    assert read(replace(delivery(), **{header: ""}), KEY, NOW) is Refusal.UNSIGNED


@pytest.mark.parametrize("timestamp", ["now", "-1", "1772445600.0", " 1772445600", "١٧٧٢٤٤٥٦٠٠", "9" * 13])
def test_a_time_that_is_no_whole_second_is_unsigned_even_where_it_is_signed(timestamp):
    body = event()
    signed = Delivery("wh_1", timestamp, simulated.signature(SECRET, "wh_1", timestamp, body), body)
    assert read(signed, KEY, NOW) is Refusal.UNSIGNED


def test_a_time_beyond_every_calendar_is_stale():
    body, timestamp = event(), "9" * 12
    signed = Delivery("wh_1", timestamp, simulated.signature(SECRET, "wh_1", timestamp, body), body)
    assert read(signed, KEY, NOW) is Refusal.STALE


def test_a_body_beyond_its_size_is_not_even_hashed():
    assert read(delivery(b"x" * (BODY_BYTES + 1)), KEY, NOW) is Refusal.TOO_LARGE
    assert read(delivery(b"x" * BODY_BYTES), KEY, NOW) is Refusal.UNREADABLE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 2000,
        event(type=5),
        event(data=None),
        event(data={}),
        event(data={"id": 7}),
        event(data={"id": ""}),
        event(data={"id": "batch 7"}),
        event(data={"id": "b" * 257}),
    ],
)
def test_what_is_signed_and_no_event_is_unreadable(body):
    assert read(delivery(body), KEY, NOW) is Refusal.UNREADABLE


@pytest.mark.parametrize("kind", ["response.completed", "eval.run.failed", "batch.in_progress", ""])
def test_an_event_about_something_else_is_taken_and_left(kind):
    assert read(delivery(event(type=kind, data={"id": "resp_1"})), KEY, NOW) == Unrelated()


LEAF = st.none() | st.booleans() | st.integers(0, 9) | TEXT | st.sampled_from([kind.value for kind in Kind])
NEAR = st.dictionaries(st.sampled_from(["type", "data", "id"]), LEAF | st.dictionaries(st.sampled_from(["id"]), LEAF))


@given(told=LEAF | NEAR)
def test_whatever_is_signed_has_a_verdict(told):
    assert isinstance(read(delivery(orjson.dumps(told)), KEY, NOW), Refusal | Unrelated | Hint)


# --- the secret ---------------------------------------------------------------------------------------------------


def test_a_secret_may_end_in_a_newline():
    assert signing_key(f" {SECRET}\n") == b"the key of this test, 32 bytes.."


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "sk-12345",
        SECRET.removeprefix("whsec_"),
        "whsec_no base64!",
        "whsec_é",
        "whsec_c2hvcnQ=",
        SECRET[:-9],
    ],
)
def test_a_secret_that_cannot_sign_is_the_deployers_fault_and_is_not_quoted(secret):
    with pytest.raises(ConfigError, match="store it as the provider shows it") as raised:
        signing_key(secret)
    assert len(secret) < 7 or secret not in str(raised.value)
