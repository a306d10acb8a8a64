"""Request lines, and what they weigh."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.lines import embedding_inputs, estimated_tokens, request_line
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
