"""The task message: what is taken, and that every refusal names field, problem and remedy."""

import json
import os
import string
import subprocess
import sys
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.acceptance import accept
from lowtide.core.errors import Refused
from lowtide.core.jsontext import carriable, decode
from lowtide.core.message import MESSAGE_BYTES, TaskMessage, content_hash, parse_task, split_message
from lowtide.core.parts import PartLine
from lowtide.core.routes import Routes
from lowtide.core.task import Endpoint
from lowtide.core.tiers import Tier

SHARED = Path(os.environ.get("LOWTIDE_SHARED", Path(__file__).resolve().parents[3] / "shared"))
WORKLOAD = SHARED / "tools" / "make_workload.py"

ROUTES = Routes.load(files("lowtide").joinpath("routes.toml").read_text(encoding="utf-8"))

CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Where is my card?"}]}


def task(**changes):
    return {
        "task_id": "t_1",
        "type": "email_draft",
        "request": {"url": "/v1/chat/completions", "body": CHAT},
    } | changes


def with_body(body, url="/v1/chat/completions"):
    return task(request={"url": url, "body": body})


def refusal(raw):
    with pytest.raises(Refused) as caught:
        parse_task(raw)
    assert "\n" not in caught.value.message
    return caught.value


# --- what is taken ----------------------------------------------------------------------------------------------


def test_the_example_of_the_contract_is_taken_with_every_field():
    message = parse_task(
        {
            "task_id": "t_8a7b6c5d",
            "type": "content_generation",
            "priority": "LOW",
            "deadline_seconds": 86400,
            "tenant": "acme",
            "tags": {"team": "growth"},
            "created_at": "2026-02-28T10:00:00Z",
            "retry_count": 2,
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "request": {"url": "/v1/chat/completions", "body": CHAT},
            "reply_to": "https://sqs.eu-central-1.amazonaws.com/1/replies",
        }
    )
    assert (message.tenant, message.priority, message.deadline_seconds) == ("acme", Tier.LOW, 86400)
    assert message.tags == {"team": "growth"}
    assert message.request is not None
    assert (message.request.url, message.request.body) == (Endpoint.CHAT, CHAT)


@pytest.mark.parametrize(
    ("given_as", "tier"),
    [(tier.value, tier) for tier in Tier] + [(1, Tier.CRITICAL), (2, Tier.NORMAL), (3, Tier.LOW)],
)
def test_a_priority_is_a_tier_or_a_number_from_one_to_three(given_as, tier):
    assert parse_task(task(priority=given_as)).priority is tier


def test_a_priority_makes_the_type_optional():
    raw = task(priority="HIGH")
    del raw["type"]
    assert parse_task(raw).type is None


def test_a_payload_takes_the_place_of_a_request():
    raw = task(payload={"text": "…"})
    del raw["request"]
    assert parse_task(raw).payload == {"text": "…"}


def test_a_null_field_is_as_good_as_none():
    message = parse_task(task(priority=None, tenant=None, tags=None, payload=None, deadline_at=None))
    assert (message.priority, message.tenant, message.tags) == (None, "default", {})


def test_a_deadline_with_an_offset_is_read_as_utc():
    message = parse_task(task(deadline_at="2026-02-28T12:00:00+02:00"))
    assert message.deadline_at == datetime(2026, 2, 28, 10, tzinfo=UTC)


def test_a_bare_batch_line_is_a_low_task_without_a_type():
    line = {"custom_id": "row-7", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    message = parse_task(line)
    assert (message.task_id, message.priority, message.type, message.tenant) == ("row-7", Tier.LOW, None, "default")
    assert message.request is not None
    assert message.request.body == CHAT


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/chat/completions", CHAT | {"max_tokens": None, "stream": False, "n": 2, "service_tier": "auto"}),
        ("/v1/chat/completions", CHAT | {"service_tier": "fast"}),
        ("/v1/chat/completions", CHAT | {"service_tier": "scale"}),
        ("/v1/chat/completions", CHAT | {"anything_else": {"passes": ["through"]}}),
        ("/v1/responses", {"model": "gpt-5", "input": "Hello", "background": False}),
        ("/v1/responses", {"model": "gpt-5", "input": [{"role": "user", "content": "Hello"}]}),
        ("/v1/responses", {"model": "gpt-5", "prompt": {"id": "pmpt_1"}}),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hello"}),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["Hello", "you"]}),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": [[1, 2], [3]]}),
    ],
)
def test_a_body_that_the_provider_may_take_passes_untouched(url, body):
    message = parse_task(with_body(body, url))
    assert message.request is not None
    assert message.request.body == body


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"task_id": ""}, "invalid_task", "task_id"),
        ({"task_id": None}, "invalid_task", "task_id"),
        ({"task_id": 7}, "invalid_task", "task_id"),
        ({"task_id": "x" * 129}, "invalid_task", "task_id"),
        ({"task_id": "two words"}, "invalid_task", "task_id"),
        ({"task_id": "trailing\n"}, "invalid_task", "task_id"),
        ({"task_id": "ümlaut"}, "invalid_task", "task_id"),
        ({"type": ""}, "invalid_task", "type"),
        ({"type": None}, "invalid_task", "type"),
        ({"type": "a\nb"}, "invalid_task", "type"),
        ({"priority": "URGENT"}, "invalid_task", "priority"),
        ({"priority": "low"}, "invalid_task", "priority"),
        ({"priority": True}, "invalid_task", "priority"),
        ({"priority": 1.0}, "invalid_task", "priority"),
        ({"priority": 0}, "invalid_task", "priority"),
        ({"priority": ["LOW"]}, "invalid_task", "priority"),
        ({"deadline_seconds": 0}, "invalid_deadline", "deadline_seconds"),
        ({"deadline_seconds": -1}, "invalid_deadline", "deadline_seconds"),
        ({"deadline_seconds": True}, "invalid_deadline", "deadline_seconds"),
        ({"deadline_seconds": "60"}, "invalid_deadline", "deadline_seconds"),
        ({"deadline_seconds": 1e12}, "invalid_deadline", "deadline_seconds"),
        ({"deadline_at": "2026-02-28T10:00:00"}, "invalid_deadline", "deadline_at"),
        ({"deadline_at": "tomorrow"}, "invalid_deadline", "deadline_at"),
        ({"deadline_at": 1_800_000_000}, "invalid_deadline", "deadline_at"),
        ({"deadline_at": "9999-12-31T23:59:59-12:00"}, "invalid_deadline", "deadline_at"),
        ({"deadline_seconds": 60, "deadline_at": "2030-01-01T00:00:00Z"}, "invalid_deadline", "deadline_at"),
        ({"request": None}, "invalid_task", "request"),
        ({"request": "hello"}, "invalid_task", "request"),
        ({"payload": {"text": "beside a request"}}, "invalid_task", "payload"),
        ({"request": None, "payload": ["no object"]}, "invalid_task", "payload"),
        ({"request": {"url": "/v1/fine_tuning/jobs", "body": CHAT}}, "unsupported_endpoint", "request.url"),
        ({"request": {"url": "/v1/completions", "body": CHAT}}, "unsupported_endpoint", "request.url"),
        ({"request": {"url": "/v1/v1/chat/completions", "body": CHAT}}, "unsupported_endpoint", "request.url"),
        ({"request": {"body": CHAT}}, "unsupported_endpoint", "request.url"),
        ({"request": {"url": "/v1/chat/completions"}}, "invalid_task", "request.body"),
        ({"request": {"url": "/v1/chat/completions", "body": CHAT, "x": 1}}, "unknown_field", "request.x"),
        ({"tenant": {"name": "acme"}}, "invalid_task", "tenant"),
        ({"tenant": "two words"}, "invalid_task", "tenant"),
        ({"tenant": ""}, "invalid_task", "tenant"),
        ({"tags": {"team": 7}}, "invalid_task", "tags.team"),
        ({"tags": ["growth"]}, "invalid_task", "tags"),
        ({"traceparent": "00-zz"}, "invalid_task", "traceparent"),
        ({"reply_to": 5}, "invalid_task", "reply_to"),
        ({"colour": "blue"}, "unknown_field", "colour"),
        ({"colour": None}, "unknown_field", "colour"),
    ],
)
def test_a_field_that_breaks_its_rule_is_named_with_a_remedy(changes, code, field):
    refused = refusal(task(**changes))
    assert (refused.code, refused.field) == (code, field)
    assert refused.message.startswith(f"{field} ")
    assert any(remedy in refused.message for remedy in (": give ", ": remove ", ": keep "))


@pytest.mark.parametrize(
    ("url", "body", "field"),
    [
        ("/v1/chat/completions", CHAT | {"model": ""}, "model"),
        ("/v1/chat/completions", CHAT | {"model": " "}, "model"),
        ("/v1/chat/completions", CHAT | {"model": None}, "model"),
        ("/v1/chat/completions", {"messages": CHAT["messages"]}, "model"),
        ("/v1/chat/completions", CHAT | {"messages": []}, "messages"),
        ("/v1/chat/completions", CHAT | {"messages": "hello"}, "messages"),
        ("/v1/chat/completions", {"model": "gpt-5"}, "messages"),
        ("/v1/chat/completions", CHAT | {"messages": ["hello"]}, "messages.0"),
        ("/v1/chat/completions", CHAT | {"messages": [*CHAT["messages"], {"content": "?"}]}, "messages.1"),
        ("/v1/chat/completions", CHAT | {"max_tokens": 0}, "max_tokens"),
        ("/v1/chat/completions", CHAT | {"max_completion_tokens": -5}, "max_completion_tokens"),
        ("/v1/chat/completions", CHAT | {"max_completion_tokens": True}, "max_completion_tokens"),
        ("/v1/chat/completions", CHAT | {"n": 1.5}, "n"),
        ("/v1/chat/completions", CHAT | {"n": "2"}, "n"),
        ("/v1/chat/completions", CHAT | {"service_tier": "turbo"}, "service_tier"),
        ("/v1/chat/completions", CHAT | {"service_tier": ["flex"]}, "service_tier"),
        ("/v1/responses", {"model": "gpt-5"}, "input"),
        ("/v1/responses", {"model": "gpt-5", "input": ""}, "input"),
        ("/v1/responses", {"model": "gpt-5", "input": [], "prompt": {"id": "p"}}, "input"),
        ("/v1/responses", {"model": "gpt-5", "input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ("/v1/embeddings", {"model": "e", "input": []}, "input"),
        ("/v1/embeddings", {"model": "e", "input": ["", "x"]}, "input"),
        ("/v1/embeddings", {"model": "e", "input": 5}, "input"),
    ],
)
def test_a_body_that_the_provider_would_refuse_is_refused_before_it_costs_a_call(url, body, field):
    refused = refusal(with_body(body, url))
    assert (refused.code, refused.field) == ("invalid_request", f"request.body.{field}")
    assert ": give " in refused.message


@pytest.mark.parametrize("asked", [{"stream": True}, {"stream_options": {"include_usage": True}}, {"background": True}])
def test_what_a_queue_cannot_honour_is_refused_with_the_reason(asked):
    refused = refusal(with_body(CHAT | asked))
    assert (refused.code, refused.field) == ("unsupported_field", f"request.body.{next(iter(asked))}")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"custom_id": "two words"}, "custom_id"),
        ({"method": "GET"}, "method"),
        ({"url": "/v1/moderations"}, "url"),
        ({"body": CHAT | {"messages": []}}, "body.messages"),
        ({"tenant": "acme"}, "tenant"),
    ],
)
def test_a_broken_batch_line_is_refused_in_its_own_words(changes, field):
    line = {"custom_id": "row-7", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    refused = refusal(line | changes)
    assert refused.field == field
    assert refused.task_id == (line | changes)["custom_id"]


@pytest.mark.parametrize("raw", [None, True, 5, 1.5, "task", [], [task()]])
def test_what_is_no_object_is_no_task(raw):
    refused = refusal(raw)
    assert (refused.code, refused.field, refused.task_id) == ("invalid_task", None, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**70, "\ud800", {1: "x"}, object()])
def test_what_no_json_can_carry_is_refused(value):
    assert refusal(task(payload={"x": value}, request=None)).code == "invalid_json"


@pytest.mark.parametrize("levels", [100, 150, 197, 254, 400])
def test_nesting_beyond_what_can_be_carried_is_refused(levels):
    deep = {}
    for _ in range(levels):
        deep = {"x": deep}
    assert refusal(task(payload=deep, request=None)).code == "invalid_json"


def test_what_is_accepted_at_the_deepest_can_be_read_again_from_a_part():
    deep = {}
    for _ in range(96):
        deep = {"x": deep}
    raw = task(payload=deep, request=None, priority="LOW")
    accepted = accept(raw, origin="1", sent_at=datetime(2026, 3, 2, tzinfo=UTC), routes=ROUTES)
    line = PartLine(task=accepted)
    assert PartLine.model_validate_json(line.model_dump_json()) == line


@pytest.mark.parametrize(
    "broken",
    [
        '{"task_id": "b", "task_id": "c"}',
        '{"task_id": "b", "payload": {"x": 123456789012345678901234567890}}',
        '{"task_id": "b", "payload": {"x": "\\ud800"}}',
        '{"task_id": "b", "payload": {"x": 1e999}}',
    ],
)
def test_one_task_of_a_pack_that_cannot_be_carried_takes_no_other_with_it(broken):
    good, bad = split_message('{"tasks": [' + json.dumps(task()) + "," + broken + "]}")
    assert parse_task(good).task_id == task()["task_id"]
    assert refusal(bad).code == "invalid_json"
    assert refusal(bad).task_id is not None
    json.dumps(carriable(bad)).encode()


def test_a_pack_whose_tasks_are_given_twice_is_refused_as_a_whole():
    with pytest.raises(Refused) as caught:
        split_message('{"tasks": [{"task_id": "a"}], "tasks": [{"task_id": "b"}]}')
    assert (caught.value.code, caught.value.field) == ("invalid_json", "tasks")


def test_a_refusal_carries_the_id_as_the_sender_wrote_it():
    assert refusal(task(task_id="two words")).task_id == "two words"
    assert refusal(task(task_id="t_9", priority="URGENT")).task_id == "t_9"
    assert refusal(task(task_id=["t"])).task_id is None
    assert refusal(task(task_id="\ud800")).task_id == "?"


def test_a_refusal_never_tells_what_a_prompt_says():
    for raw in (
        with_body(CHAT | {"messages": "my secret"}),
        with_body({"model": "gpt-5", "input": {"my": "secret"}}, "/v1/responses"),
        task(request="my secret"),
        task(request=None, payload="my secret"),
        task(request={"url": "/v1/chat/completions", "body": "my secret"}),
    ):
        assert "secret" not in refusal(raw).message


# --- JSON text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"task_id": "t',
        "",
        '{"x": NaN}',
        '{"x": -Infinity}',
        '{"x": 1e999}',
        '{"x": 123456789012345678901234567890}',
        '{"x": "\\ud800"}',
        '{"task_id": "a", "task_id": "b"}',
        '{"x": {"y": 1, "y": 1}}',
        "[" * 100_000,
        b'{"x": "\xff"}',
        '{"a": 1} {"b": 2}',
    ],
)
def test_text_that_could_not_be_passed_on_unchanged_is_no_json_here(text):
    with pytest.raises(Refused) as caught:
        parse_task(decode(text))
    assert caught.value.code == "invalid_json"


def test_a_line_separator_inside_a_string_is_only_text():
    assert decode('{"x": "a\u2028b"}') == {"x": "a\u2028b"}


def test_a_single_task_and_a_pack_are_split_alike():
    assert split_message(json.dumps(task())) == [task()]
    assert split_message(json.dumps({"tasks": [task(), 5]}).encode()) == [task(), 5]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ("[]", "invalid_task", None),
        ('"tasks"', "invalid_task", None),
        ('{"tasks": []}', "invalid_task", "tasks"),
        ('{"tasks": {}}', "invalid_task", "tasks"),
        ('{"tasks": [{}], "tenant": "acme"}', "unknown_field", "tenant"),
        ('{"tasks": [', "invalid_json", None),
    ],
)
def test_a_message_that_is_neither_task_nor_pack_is_refused_as_a_whole(body, code, field):
    with pytest.raises(Refused) as caught:
        split_message(body)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_a_message_is_measured_in_bytes_and_not_in_characters():
    frame = '{"x": ""}'
    fits = frame.replace('""', '"' + "a" * (MESSAGE_BYTES - len(frame)) + '"')
    assert len(split_message(fits)) == 1
    with pytest.raises(Refused) as caught:
        split_message(fits.replace("a", "ä", 1))
    assert caught.value.code == "too_large"


# --- the hash ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    # No surrogates: JSON text has none.
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from([*TaskMessage.model_fields, "custom_id", "method", "url", "body", "tasks", "x"])


BODY_NAMES = st.sampled_from(["model", "messages", "input", "prompt", "stream", "n", "max_tokens", "service_tier"])


def verdict(judge, matter):
    try:
        return judge(matter)
    except Refused as refused:
        return refused


@given(st.dictionaries(NAMES, JSON, max_size=10) | JSON)
def test_no_json_raises_anything_but_a_refusal_in_one_line(raw):
    came = verdict(parse_task, raw)
    assert isinstance(came, TaskMessage) or came.message.isprintable()


@given(NAMES, JSON)
def test_a_task_with_anything_in_one_field_is_taken_or_refused(name, value):
    came = verdict(parse_task, task(**{name: value}))
    assert isinstance(came, TaskMessage) or came.message.isprintable()


@given(st.sampled_from(list(Endpoint)), st.dictionaries(BODY_NAMES, JSON, max_size=5))
def test_a_body_with_anything_in_its_fields_is_taken_or_refused(endpoint, body):
    came = verdict(parse_task, with_body(CHAT | {"input": "x"} | body, endpoint.value))
    assert isinstance(came, TaskMessage) or came.message.isprintable()


@given(st.text() | st.binary() | st.text(alphabet=string.printable))
def test_no_text_raises_anything_but_a_refusal_in_one_line(text):
    came = verdict(split_message, text)
    assert isinstance(came, list) or came.message.isprintable()


@given(st.dictionaries(NAMES, JSON, max_size=10), JSON, JSON, JSON)
def test_the_hash_leaves_out_exactly_what_changes_when_a_task_is_sent_again(message, created_at, retry_count, tags):
    resent = message | {"created_at": created_at, "retry_count": retry_count, "tags": tags}
    assert content_hash(message) == content_hash(resent)


@pytest.mark.parametrize("name", sorted(set(TaskMessage.model_fields) - {"created_at", "retry_count", "tags"}))
def test_any_other_field_makes_another_content(name):
    assert content_hash(task()) != content_hash(task() | {name: "another"})


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_change_the_hash(message, dice):
    names = list(message)
    dice.shuffle(names)
    assert content_hash({name: message[name] for name in names}) == content_hash(message)


def test_the_hash_is_that_of_the_canonical_json():
    # sha256 of {"a":{"b":"ä","c":[1,2]}} in UTF-8
    assert (
        content_hash({"a": {"c": [1, 2], "b": "ä"}, "tags": {"x": "y"}})
        == "b31ffa65217eaf2a4252e998c176a597811e324149961e4f3d35273900c82a46"
    )


# --- the shared workload ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not WORKLOAD.exists(), reason="the workload maker is not beside this clone")
@pytest.mark.parametrize("shape", ["task", "openai"])
def test_every_broken_line_of_the_workload_is_refused_and_every_good_one_taken(shape):
    made = subprocess.run(
        [sys.executable, str(WORKLOAD), "--tasks", "200", "--bad", "32", "--shape", shape],
        capture_output=True,
        check=True,
    )
    taken, refused = [], []
    for line in made.stdout.splitlines():
        try:
            taken += [parse_task(raw) for raw in split_message(line)]
        except Refused as refusal:
            refused.append(refusal)
    assert (len(taken), len(refused)) == (200, 32)
    assert len({refusal.code for refusal in refused}) >= 6
