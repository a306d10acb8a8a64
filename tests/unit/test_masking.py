"""Keys in a provider's text: whatever has the shape of one, and whichever we hold, and nothing else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.masking import KEY, masked, masked_in
from lowtide.core.provider_words import code_text, message_text

MIXED = "a1B2c3D4"


@pytest.mark.parametrize(
    "key",
    [
        "sk-" + MIXED * 6,
        "sk-proj-" + MIXED * 12 + "_-" + MIXED,
        "sk-ant-api03-" + MIXED * 8,
        "sk-or-v1-" + "0123456789abcdef" * 4,
        "sk-proj-********************Ab12",
        "sk-...Ab12",
        "sk-ab…yz",
        "gsk_" + MIXED * 6,
        "hf_" + "abcdefgh" * 4,
        "AIzaSy" + MIXED * 4,
        "xai-" + MIXED * 10,
        "pplx-" + MIXED * 6,
        "nvapi-" + MIXED * 8,
        "r8_" + MIXED * 4,
        "tgp_v1_" + MIXED * 5,
        "ghp_" + MIXED * 4,
        "xoxb-1234567890-" + MIXED * 3,
        "whsec_" + MIXED * 4,
        "0123456789abcdef" * 2,
        "0123456789ABCDEF" * 4,
        MIXED * 4,
        MIXED * 10 + "a1B2",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "IQoJb3JpZ2luX2VjE" + MIXED * 20 + "/" + MIXED + "==",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "my-k*****word",
        "ya29.a0Af_" + MIXED * 4,
    ],
)
@pytest.mark.parametrize("sentence", ["{}", "Incorrect API key provided: {}. See the docs.", '{{"key":"{}"}}', "({}),"])
def test_a_key_is_masked_wherever_it_stands_in_a_sentence(key, sentence):
    told = masked(sentence.format(key))
    assert key not in told
    assert KEY in told
    assert key[-8:].strip("=*") not in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Authorization: Bearer hunter", "Authorization: Bearer (key)"),
        ("got 'authorization: Basic dXNlcjpwYXNz'", "got 'authorization: Basic (key)'"),
        ("BEARER abc.def", "BEARER (key)"),
        ("x-api-key: abc123", "x-api-key: (key)"),
        ('{"api_key": "abc123", "model": "m"}', '{"api_key": "(key)", "model": "m"}'),
        ("Invalid api key: 'my-own-key-1'", "Invalid api key: '(key)'"),
        ("Ocp-Apim-Subscription-Key=abc123&x=1", "Ocp-Apim-Subscription-Key=(key)&x=1"),
        ("password=letmein", "password=(key)"),
        ("https://user:p%40ss@proxy.corp:3128/path", "https://(key)@proxy.corp:3128/path"),
        ("http://token@host", "http://(key)@host"),
        ("GET https://h/v1/models?key=abc&alt=json", "GET https://h/v1/models?key=(key)&alt=json"),
        ("https://h/?X-Amz-Signature=abc&sig=def", "https://h/?X-Amz-Signature=(key)&sig=(key)"),
        ("aws_secret_access_key = abcd1234", "aws_secret_access_key = (key)"),
    ],
)
def test_what_is_called_a_key_is_one(text, told):
    assert masked(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "You exceeded your current quota, please check your plan and billing details.",
        "The model `gpt-4o-mini-2024-07-18` does not exist or you do not have access to it.",
        "Request too large for gpt-6-luna in organization org-AbCdEfGhIjKlMnOpQrStUvWx on tokens per min: Limit 30000",
        "max_tokens: 1000000 is too large; max_completion_tokens was 128000",
        "API key is required",
        "Invalid token: unexpected end of input",
        "Bearer authentication is required, not Basic authentication",
        "The password must be given",
        "Please include the request ID req_0123456789abcdef0123456789abcdef",
        "batch_6722d3f4e5a88190a3b1c5d7e9f00112 and file-AbCdEf0123456789GhIjKl and chatcmpl-AbCdEf0123456789012345678",
        "task-1234567890 is risk-averse, a sk-learn pipeline and brisk-ly done",
        "see https://platform.openai.com/account/api-keys or write to help@example.com",
        "body -> messages -> 0 -> content: field required",
        "No such File object: /srv/app/models/Llama-3/config.json",
        "a ** b ** c, 'x' * 3, --- and ...",
    ],
)
def test_a_sentence_without_a_key_stays_as_it_is(text):
    assert masked(text) == text


@pytest.mark.parametrize(
    "shown", ["{}", "{begins}****{ends}", "{begins}…{ends}", "{begins}...{ends}", "{begins}xxxx{ends}"]
)
@pytest.mark.parametrize("secret", ["correct-horse-battery", "letmein7", "ABCDEFGHIJKLMNOP", "0f0f0f0f0f0f"])
def test_the_key_that_we_hold_is_masked_whatever_it_looks_like_and_shown_in_part(secret, shown):
    text = shown.format(secret, begins=secret[:4], ends=secret[-4:])
    assert masked(f"refused: {text}!", [secret]) == f"refused: {KEY}!"


def test_a_key_that_is_a_word_of_three_letters_masks_no_word():
    assert masked("any of them, and none", ["any", "none"]) == "any of them, and none"


def test_a_value_is_masked_in_all_its_texts_and_under_names_that_say_key():
    body = {
        "error": {"message": "sk-" + MIXED * 4, "details": [{"api_key": "abcd1234"}, 7, None, True]},
        "sk-" + MIXED * 4: 1,
    }
    assert masked_in(body) == {"error": {"message": KEY, "details": [{"api_key": KEY}, 7, None, True]}, KEY: 1}


def test_a_code_and_a_message_hold_no_key_even_where_they_are_cut():
    assert code_text("sk-" + MIXED * 30) == KEY
    for before in range(480, 510):
        told = message_text("x" * before + " " + "0123456789abcdef" * 2)
        assert "0123456789abcdef" not in told
    assert message_text("a" * 7_990 + " sk-" + MIXED * 4, 9_000).endswith("a " + KEY)


@given(st.text(max_size=300), st.text(min_size=6, max_size=30))
def test_nothing_that_we_hold_is_left_and_masking_twice_is_masking_once(text, secret):
    told = masked(f"{text}{secret}{text}", [secret])
    assert secret not in told or secret in KEY
    assert masked(told) == masked(masked(told))


HOSTILE = (
    *(
        "a",
        "sk-",
        "sk-sk_",
        "*",
        "a***",
        "://",
        "://a@",
        "eyJ",
        "eyJaaaaaaaa.",
        "Bearer ",
        "?key=",
        "&_key",
        "api key ",
    ),
    *("aB1/", " ", "password ", "0123456789abcdef", "authorization", "...", "x-amz-", '"', "\\", "\n", "é", "…"),
)


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_mebibyte_of_anything_takes_no_longer_than_it_is(unit):
    """Quadratic time would take minutes. The bound is on the processor's time, and ten times what was seen."""
    text = unit * (2**20 // len(unit))
    began = time.process_time()
    masked(f"password{text}", ["sk-a.aaaaaa", "aaaaaaaaX"])
    assert time.process_time() - began < 10
