"""What a provider says when it refuses, read from whatever shape its server gives it."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.provider_errors import ProviderError, error_inside, error_of, wait_told, words

WHOLE = {"message": "No.", "type": "t", "param": "p", "code": "c"}


@pytest.mark.parametrize(
    ("body", "code", "kind", "param", "message"),
    [
        ({"error": WHOLE}, "c", "t", "p", "No."),
        ([{"error": WHOLE}], "c", "t", "p", "No."),
        ({"error": {"error": WHOLE, "code": 402}}, "c", "t", "p", "No."),
        ({"object": "error", **WHOLE}, "c", "t", "p", "No."),
        ({"code": "c", "error": "No."}, "c", None, None, "No."),
        ({"detail": "No."}, None, None, None, "No."),
        (
            {"detail": [{"loc": ["body", "x"], "msg": "m"}]},
            None,
            None,
            "body.x",
            '[{"loc": ["body", "x"], "msg": "m"}]',
        ),
        ({"title": "T", "detail": "No.", "status": 429}, None, None, None, "No."),
        ({"statusCode": 401, "message": "No."}, None, None, None, "No."),
        ({"error": {"code": 404, "message": "No.", "status": "NOT_FOUND"}}, None, "NOT_FOUND", None, "No."),
        ({"error": {"code": "429", "message": "No.", "type": "None"}}, None, None, None, "No."),
        ({"base_resp": {"status_code": 1008, "status_msg": "No."}}, None, None, None, "No."),
        ("<html><title>404 Not  Found</title><body>x</body></html>", None, None, None, "404 Not Found"),
        ("<!DOCTYPE html><body><script>var a</script><p>No.&nbsp;</p></body>", None, None, None, "No."),
        ("404 page not found\n", None, None, None, "404 page not found"),
        (None, None, None, None, None),
        ({}, None, None, None, None),
        (3, None, None, None, None),
        ({"error": None, "message": "No."}, None, None, None, "No."),
        ({"error": ["odd"]}, None, None, None, '["odd"]'),
        ({"error": [WHOLE]}, "c", "t", "p", "No."),
        ({"success": False, "errors": [{"code": 7003, "message": "No."}]}, None, None, None, "No."),
        ({"error_code": "C_D", "message": "No."}, "C_D", None, None, "No."),
        ({"__type": "ThrottlingException", "message": "No."}, None, "ThrottlingException", None, "No."),
        ({"error": "insufficient_quota"}, "insufficient_quota", None, None, "insufficient_quota"),
        ({"message": "RATE_LIMIT: No."}, "RATE_LIMIT", None, None, "RATE_LIMIT: No."),
        ({"error": {"status": "S", "details": [{"reason": "A_B"}], "message": "No."}}, "A_B", "S", None, "No."),
        ({"error": {"message": "m", "metadata": {"raw": "No."}}}, None, None, None, "No."),
        ({"error": {"message": "m", "metadata": {"raw": '{"error": {"code": "c"}}'}}}, "c", None, None, "m"),
        ({"error": {"message": "X.YError: ZException - {'error': {'code': 'c'}}"}}, "c", None, None, ANY),
        (
            {"error": {"message": "Error code: 400 - {'error': {'message': \"It's no.\"}}"}},
            None,
            None,
            None,
            "It's no.",
        ),
        ({"error": {"message": "Bad value {'code': 'c'}"}}, None, None, None, "Bad value {'code': 'c'}"),
    ],
)
def test_every_shape_is_read(body, code, kind, param, message):
    error = error_of(400, body)
    assert (error.code, error.type, error.param, error.message) == (code, kind, param, message)
    assert error.status == 400


def test_a_name_is_the_code_or_the_type_or_the_status_and_fits_every_carrier():
    assert ProviderError(400, code="c", type="t").name == "c"
    assert ProviderError(400, type="t").name == "t"
    assert ProviderError(400).name == "http_400"
    assert ProviderError(400, code="é\n" * 500).name == "??" * 50


@pytest.mark.parametrize("error", [ProviderError(None), error_of(None, None), error_of(None, {"error": {}})])
def test_a_failure_without_a_status_is_the_batchs_and_says_what_is_known(error):
    assert error.name == "batch_failed"
    assert error.sentence == "the provider gave no reason"
    assert replace(error, message="It is late.").sentence == "It is late."
    assert ProviderError(503).sentence == "the provider answered with HTTP 503"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"code": 429, "message": "x"}, "choices": None}, 429),
        ({"error": {"code": "502"}}, 502),
        ({"error": {"code": 429.0}}, 429),
        ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, 429),
        ({"error": {"message": "x", "type": "overloaded_error"}}, 529),
        ({"error": {"message": "x", "status": "RESOURCE_EXHAUSTED"}}, 429),
        ({"error": {"message": "x", "code": "never_heard_of"}}, None),
        ({"error": "model overloaded"}, None),
        ({"object": "error", "message": "x", "code": 400}, 400),
        ({"error": {"error": {"message": "x"}, "code": 402}}, 402),
        ({"choices": [{"error": {"code": 502, "message": "x"}, "finish_reason": "error"}]}, 502),
        ({"base_resp": {"status_code": 1002, "status_msg": "x"}, "choices": None}, 429),
        ({"base_resp": {"status_code": 9999, "status_msg": "x"}, "choices": None}, None),
        ([{"error": {"code": 503}}], 503),
        ({"error": "Error code: 503 - {'error': {'message': 'x'}}"}, 503),
        ({"code": 30001, "message": "no balance", "data": None}, None),
        ({"success": False, "errors": [{"code": 500, "message": "x"}]}, 500),
    ],
)
def test_an_error_that_came_with_200_says_its_own_status(body, status):
    error = error_inside(body)
    assert error is not None
    assert error.status == status


@pytest.mark.parametrize(
    "body",
    [
        {"error": None, "choices": []},
        {"error": {}},
        {"error": ""},
        *(
            {"error": said}
            for said in ("None", "null", "NONE", "nil", "false", "False", "0", " ", "no error", "N/A", "-")
        ),
        *({"error": said} for said in ("ok", "OK", "success", "Success", "succeeded", "completed", "undefined")),
        *({"error": said} for said in ([None], [{}], ["None"], [[]], [{"message": None}], {"message": "success"})),
        {"error": {"type": "None", "code": None, "message": None}},
        {"error": {"code": "success", "message": ""}},
        {"error": {"code": "200", "message": "OK"}},
        {"choices": [{"error": "None", "message": {}}]},
        {"choices": [{"message": {}}], "code": 30001, "message": "fine"},
        {"success": True, "errors": []},
        {"success": False, "errors": []},
        {"error": {"code": None, "message": None}},
        {"error": {"code": 0, "message": "success"}},
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"choices": [{"error": None, "message": {}}]},
        {"status": "completed", "error": None},
        "text",
        None,
        [],
        [{}, {}],
    ],
)
def test_a_body_without_an_error_holds_none(body):
    assert error_inside(body) is None


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 20s.", 20),
        ("Please try again in 6m0s.", 360),
        ("Please try again in 120ms.", 0.12),
        ("try again in 1h12m30.5s", 4350.5),
        ("Please retry after 86400 seconds.", 86_400),
        ("Please wait 80 seconds before retrying", 80),
        ("Please retry in 34.507s.", 34.507),
        ("Retry in 2 minutes", 120),
        ("Try again later.", None),
        ("You have 3 seconds.", None),
        (None, None),
    ],
)
def test_a_wait_is_read_from_words(message, seconds):
    assert wait_told(message) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("said", ["AccessDenied", "access-denied", "access denied", "ACCESS_DENIED"])
def test_words_are_the_same_however_they_are_spelt(said):
    assert words(ProviderError(403, code=said)) == ("access_denied",)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "code", "type", "message", "detail", "status", "loc", "choices", "base_resp", "param"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(body=ANYTHING, status=st.integers(100, 600))
def test_whatever_comes_is_read_without_a_fault_of_ours(body, status):
    for error in (error_of(status, body), error_inside(body)):
        assert error is None or (error.name.isascii() and len(error.sentence) <= 500)
