"""A prompt that a provider repeats: out of its words, which stay."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from lowtide.adapters.shipped import shipped_routes
from lowtide.core import documents
from lowtide.core.acceptance import accept
from lowtide.core.documents import Try
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import Response
from lowtide.core.quotes import PROMPT, Prompt, may_quote, unquoted
from lowtide.core.tasks import Strikes

NOW = datetime(2026, 11, 2, tzinfo=UTC)
TEXT = "My name is Ada and my knee has hurt since Tuesday. What should I do about it?"


def task(body=None, url="/v1/chat/completions", **fields):
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": TEXT}]} if body is None else body
    raw = {"task_id": "t", "type": "email_draft", "request": {"url": url, "body": body}} | fields
    return accept(raw, origin="m/0", sent_at=NOW, routes=shipped_routes())


def without(said, **fields):
    return Prompt.of(task(**fields)).without(said)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (f"Invalid prompt: '{TEXT}'.", f"Invalid prompt: '{PROMPT}'."),
        (f"{TEXT}{TEXT}", PROMPT * 2),
        (f"Flagged: {TEXT[:60]}...", f"Flagged: {PROMPT}..."),
        (f"Flagged: …{TEXT[25:50]}…", f"Flagged: …{PROMPT}…"),
        (TEXT.replace(". ", ".\\n"), f"{PROMPT}\\n{PROMPT}"),
        ("The request was refused by the content policy.", "The request was refused by the content policy."),
        ("What should I", "What should I"),
        ("Invalid value for messages[0].role: 'user'", "Invalid value for messages[0].role: 'user'"),
        ("", ""),
    ],
)
def test_what_is_repeated_is_taken_out_and_the_rest_stays(said, told):
    assert without(said) == told


@pytest.mark.parametrize("short", ["Say hello.", "password", "¿Dónde?!"])
def test_a_short_prompt_is_taken_out_where_it_is_repeated_whole(short):
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": short}]}
    assert without(f"You sent {short!r}: no", body=body) == f"You sent '{PROMPT}': no"
    assert without(f"{short}x", body=body) in (f"{short}x", f"{PROMPT}x")


def test_a_prompt_of_few_letters_is_a_word_like_any_other():
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Hi"}]}
    assert without("Hi, this is invalid", body=body) == "Hi, this is invalid"


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/responses", {"input": TEXT}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]}),
        ("/v1/responses", {"instructions": TEXT, "input": "x"}),
        ("/v1/responses", {"prompt": {"id": "pmpt_1", "variables": {"story": TEXT}}}),
        ("/v1/embeddings", {"input": ["a", TEXT]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}]}),
    ],
)
def test_it_is_found_wherever_an_endpoint_has_it(url, body):
    model = "text-embedding-3-small" if "embeddings" in url else "gpt-6-luna"
    assert without(f"no: {TEXT}", url=url, body={"model": model, **body}) == f"no: {PROMPT}"


def test_a_payload_and_the_text_that_it_is_rendered_under_are_prompts_too():
    raw = {"task_id": "t", "type": "email_draft", "payload": {"case": {"notes": [TEXT]}}}
    asked = accept(raw, origin="m/0", sent_at=NOW, routes=shipped_routes())
    assert asked.prompt is not None
    assert Prompt.of(asked).without(f"no: {TEXT} under {asked.prompt}") == f"no: {PROMPT} under {PROMPT}"


def test_names_that_a_refusal_has_to_say_are_no_prompt():
    body = {
        "model": "gpt-6-luna",
        "messages": [
            {"role": "developer", "content": "x"},
            {"role": "tool", "tool_call_id": "call_12345678", "content": "y"},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "customer_form", "schema": {}}},
    }
    said = "gpt-6-luna: 'developer' may not follow call_12345678; json_schema 'customer_form' is no object"
    assert without(said, body=body) == said


def dead(response):
    return documents.dead(task(), Try(1, Lane.DEFAULT, "why", Strikes()), "bad", f"no: {TEXT}", response, NOW)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": f"no: {TEXT}", "param": TEXT, "code": 7}},
        {"detail": [{"input": {"messages": [{"content": TEXT}]}}]},
        TEXT,
        [TEXT, [TEXT]],
        {"status": "failed", "error": {"message": TEXT}, "output": []},
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_the_record_of_a_dead_task_and_its_letter_hold_none_of_it(body, status):
    document = dead(Response(status, body, "req_1"))
    assert TEXT not in document.record.model_dump_json()
    assert document.record.error.message == document.letter.error.message == f"no: {PROMPT}"
    assert TEXT in str(document.letter.task)


def test_what_a_model_wrote_is_paid_for_and_stays_as_it_is_though_it_was_not_what_was_asked():
    body = {"choices": [{"message": {"content": f"You said: {TEXT} (sk-0123456789abcdef)"}}], "usage": {}}
    assert dead(Response(200, body, "req_1")).record.response.body == body


def test_a_header_that_repeats_a_key_is_masked_as_well():
    key = "sk-proj-0123456789abcdef"
    assert dead(Response(400, {}, key)).record.response.request_id == "(key)"


@pytest.mark.parametrize("unit", ["a", "ab", "lorem ipsum dolor sit amet ", " ", "0123456789", "aaaaaaaaab"])
def test_a_mebibyte_that_repeats_a_mebibyte_takes_no_longer_than_both_are(unit):
    text = unit * (2**20 // len(unit))
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": text}]}
    began = time.process_time()
    prompt = Prompt.of(task(body=body))
    for said in (
        text,
        text[1:] + "!",
        "b".join(text[n : n + 12] for n in range(0, 10_000, 12)),
        "x" + text[: 2**19] * 2,
    ):
        prompt.without(said)
    assert time.process_time() - began < 20


def test_thousands_of_short_prompts_are_looked_for_at_once():
    payload = {f"field-{n}": f"a value {n:07d}" for n in range(20_000)}
    raw = {"task_id": "t", "type": "email_draft", "payload": payload}
    prompt = Prompt.of(accept(raw, origin="m/0", sent_at=NOW, routes=shipped_routes()))
    began = time.process_time()
    for _ in range(1_000):
        prompt.without("a value 0000007 is none, and a valuable sentence follows that is of an ordinary length")
    assert time.process_time() - began < 10


OPENAI = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)


@pytest.mark.parametrize("said", [OPENAI, "You don't have any credit.", "Billing hard limit has been reached", ""])
def test_a_sentence_without_marks_quotes_no_task(said):
    assert not may_quote(said)


@pytest.mark.parametrize(
    "said",
    [
        'Value "my secret" is no',
        "Value 'my secret' is no",
        "Value 'I don't like my secret, don't you' is no",
        "Value ‘I don’t like my secret’ is no",
        "Value 'a\nmy secret' is no",
        "Value «my secret» is no",
    ],
)
def test_what_a_sentence_about_many_tasks_quotes_is_left_out_apostrophes_or_not(said):
    assert unquoted(said) == "Value (quoted) is no"


def test_an_apostrophe_alone_quotes_nothing():
    assert unquoted("You don't have the tasks' quota") == "You don't have the tasks' quota"


@pytest.mark.parametrize("said", ['No: "a"', "No 'I don't know'", "No «a»", "No ‘a’", "Prompt: a", "No (a)", "No\na"])
def test_what_stands_between_marks_or_after_a_colon_may_be_a_tasks(said):
    assert may_quote(said)
