r"""Request lines out, result lines in: bytes split on ``\n`` only, and nothing a provider sends stops the reading."""

from __future__ import annotations

import json
from random import Random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.lines import embedding_inputs, estimated_tokens, parse_result_line, request_line
from lowtide.core.outcomes import Response, judge_line
from lowtide.core.records import LineResponse
from lowtide.core.task import Endpoint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(body=st.dictionaries(st.text(max_size=8), JSON, max_size=4), endpoint=st.sampled_from(list(Endpoint)))
def test_a_request_line_is_one_line_of_ascii_that_says_what_was_asked(body, endpoint):
    line = request_line("abc-1", endpoint, body)
    assert line.isascii()
    assert line.endswith(b"\n")
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"custom_id": "abc-1", "method": "POST", "url": endpoint.value, "body": body}


def test_a_line_separator_in_a_prompt_does_not_split_its_line():
    line = request_line("abc-1", Endpoint.CHAT, {"text": "one\u2028two\nthree"})
    assert len(line.decode().splitlines()) == 1


WHOLE = {
    "id": "batch_req_1",
    "custom_id": "abc-1",
    "response": {"status_code": 200, "request_id": "req_1", "body": {"choices": [{"message": {"content": "Hi"}}]}},
    "error": None,
}


def test_a_whole_line_is_read_whole():
    line = parse_result_line(orjson.dumps(WHOLE))
    assert line is not None
    assert line.custom_id == "abc-1"
    assert line.response == Response(200, WHOLE["response"]["body"], "req_1")
    assert (line.error_code, line.error_message) == (None, None)


def test_a_body_sent_as_a_json_string_is_read_as_the_object_that_it_holds():
    text = orjson.dumps(WHOLE["response"]["body"]).decode()
    line = parse_result_line(orjson.dumps(WHOLE | {"response": WHOLE["response"] | {"body": text}}))
    assert line is not None
    assert line.response is not None
    assert line.response.body == WHOLE["response"]["body"]


def test_a_line_of_the_error_file_is_read_with_its_code():
    error = {"code": "batch_expired", "message": "Too late."}
    line = parse_result_line(orjson.dumps(WHOLE | {"response": None, "error": error}))
    assert line is not None
    assert (line.response, line.error_code, line.error_message) == (None, "batch_expired", "Too late.")


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{", b"\xff\xfe", b'{"custom_id": 7}', b'{"id": "x"}', b"[" * 100_000, b'{"a":' * 5_000],
)
def test_a_line_that_names_no_task_is_none(raw):
    assert parse_result_line(raw) is None


@pytest.mark.parametrize("status", [True, "200", 200.0, None])
def test_a_status_that_is_no_number_is_no_response(status):
    line = parse_result_line(orjson.dumps(WHOLE | {"response": {"status_code": status, "body": {}}}))
    assert line is not None
    assert line.response is None


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("half a surrogate pair", rb'{"content": "paid for \ud800 all the same"}'),
        ("a byte that is no UTF-8", b'{"content": "paid for \xff all the same"}'),
        ("no JSON number", b'{"content": "paid for", "logprob": NaN}'),
    ],
)
def test_an_answer_with_a_stray_byte_is_kept_in_a_form_that_a_record_can_hold(name, body):
    raw = b'{"custom_id": "abc-1", "response": {"status_code": 200, "body": ' + body + b"}}"
    line = parse_result_line(raw)
    assert line is not None, name
    assert line.response is not None
    assert line.response.body["content"].startswith("paid for")
    kept = LineResponse(status_code=200, request_id=None, body=line.response.body).model_dump_json()
    assert orjson.loads(kept)["body"]["content"].startswith("paid for")


def garbled(dice: Random) -> bytes:
    """A whole line with a few bytes changed, cut, doubled or put in."""
    raw = bytearray(orjson.dumps(WHOLE))
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(raw))
        match dice.randrange(4):
            case 0:
                raw[at] = dice.randrange(256)
            case 1:
                del raw[at : at + dice.randint(1, 20)]
            case 2:
                raw[at:at] = raw[at : at + dice.randint(1, 20)]
            case _:
                raw[at:at] = dice.choice([b"NaN", b"1e999", rb"\ud800", b"9" * 30, b"[[", b"}", b'"', b"\x00"])
        if not raw:
            break
    return bytes(raw)


def test_two_thousand_garbled_lines_stop_nothing_and_what_is_read_of_them_can_be_judged_and_kept():
    read = 0
    for number in range(2_000):
        line = parse_result_line(garbled(Random(number)))
        if line is None:
            continue
        read += 1
        assert judge_line(line.response, line.error_code, line.error_message)
        if line.response is not None:
            orjson.dumps([line.custom_id, line.response.body, line.response.request_id])
    assert read > 100, "too few survive to show anything"


def test_an_estimate_counts_the_input_and_the_output_that_the_request_allows():
    assert estimated_tokens({"max_completion_tokens": 100}, 400) == 200
    assert estimated_tokens({"max_output_tokens": 7}, 0) == 7
    assert estimated_tokens({}, 40) == 10


@pytest.mark.parametrize(
    ("given", "inputs"), [("text", 1), (["a", "b", "c"], 3), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 0)]
)
def test_embedding_inputs_are_texts_or_lists_of_tokens(given, inputs):
    assert embedding_inputs({"input": given}) == inputs


@pytest.mark.parametrize(("given", "tokens"), [([1, 22, 333_333], 3), ([[1, 2], [3]], 3), (["four", "more"], 25)])
def test_tokens_that_are_given_as_such_are_counted_and_text_is_guessed(given, tokens):
    assert estimated_tokens({"input": given}, 100) == tokens
