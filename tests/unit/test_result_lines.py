"""Lines of result files, as providers write them and as they garble them: what was paid for is read, or shown."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from random import Random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.leniency import Braces
from lowtide.core.outcomes import Response, judge_line
from lowtide.core.records import LineResponse
from lowtide.core.result_lines import NO_ID, ResultLine, ResultReader, Unread, parse_result_line

BODY = {"choices": [{"message": {"content": "Hi there"}}]}
WHOLE = {
    "id": "batch_req_1",
    "custom_id": "abc-1",
    "response": {"status_code": 200, "request_id": "req_1", "body": BODY},
    "error": None,
}
READ = ResultLine("abc-1", Response(200, BODY, "req_1"), None, None)
RAW = orjson.dumps(WHOLE)


def line(custom_id="abc-1", **changes):
    return orjson.dumps(WHOLE | {"custom_id": custom_id} | changes)


def response(**changes):
    return line(response=WHOLE["response"] | changes)


def read(content):
    """A whole file through the reader: what it gives, line by line."""
    reader = ResultReader()
    given = [each for raw in content.split(b"\n") for each in reader.feed(raw)]
    return [*given, *reader.end()]


def ids(content):
    return [each.custom_id if isinstance(each, ResultLine) else each for each in read(content)]


def beside(**fields):
    """The line with these fields in place of its response."""
    return json.dumps({"custom_id": "abc-1", "error": None} | fields).encode()


def test_a_page_of_lines_is_every_line_of_it():
    page = b'{"data":[' + RAW + b"," + RAW.replace(b"abc-1", b"abc-2") + b',{"id":"x"}]}'
    assert [each if isinstance(each, str) else each.reason for each in ids(page)] == ["abc-1", "abc-2", NO_ID]


def test_a_whole_line_is_read_whole():
    assert parse_result_line(RAW) == READ


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf" + RAW,
        RAW + b"\r",
        RAW + b",",
        RAW + b" trailing words",
        b"[" + RAW + b"]",
        b"  \t" + RAW,
        b"data: " + RAW,
        b"\x1e" + RAW,
        RAW + b"\x00\x00\x00",
        RAW.replace(b"Hi there", b"Hi there").replace(b'"error":null', b'"error":null,"extra":{"a":[1]}'),
        RAW.replace(b'"error":null', b'"error":null,"score":NaN'),
        RAW.replace(b'"error":null', b'"error":null,"score":-Infinity'),
        RAW.replace(b'"error":null', b'"error":null,"error":null'),
        RAW.replace(b'"custom_id":"abc-1"', b'"custom_id":"old-1","custom_id":"abc-1"'),
        json.dumps(RAW.decode()).encode(),
        response(status_code="200"),
        response(status_code=" 200 OK"),
        response(status_code=200.0),
        line(response={"status": 200, "request_id": "req_1", "body": BODY}),
        line(response={"request_id": "req_1", "body": BODY}),
        response(status_code=None),
        response(status_code=True),
        response(body=json.dumps(BODY)),
        response(body="\n " + json.dumps(BODY, indent=2)),
        line(response=json.dumps(WHOLE["response"])),
        line(response=[WHOLE["response"]]),
        line(response=json.dumps([WHOLE["response"]])),
        beside(result=WHOLE["response"]),
        beside(response=None, result=WHOLE["response"]),
        beside(status_code=200, request_id="req_1", body=BODY),
        beside(status_code="200", request_id="req_1", body=json.dumps(BODY), response=None),
        beside(result="succeeded", status_code=200, request_id="req_1", body=BODY),
        beside(response="ok", result=True, status_code=200, request_id="req_1", body=BODY),
        beside(response="done", result=WHOLE["response"]),
        RAW.replace(b'"custom_id"', b'"customId"'),
        RAW.replace(b'"custom_id"', b'"customID"'),
        b'{"results":[' + RAW + b"]}",
        response(body=[BODY]),
        response(body=json.dumps(json.dumps(BODY))),
        line(response={"code": 200, "request_id": "req_1", "data": BODY}),
        line(response={"statusCode": "200", "request_id": "req_1", "body": BODY}),
        b'{"object":"list","data":[' + RAW + b"]}",
        line(error=""),
        line(error={}),
        line(error=[]),
        line(error=False),
    ],
)
def test_a_line_is_read_whatever_a_server_does_to_its_fields_or_puts_around_them(raw):
    assert parse_result_line(raw) == READ


@pytest.mark.parametrize(
    ("raw", "content"),
    [
        (RAW.replace(b"Hi there", b"Hi\tthere"), "Hi\tthere"),
        (RAW.replace(b"Hi there", b"Hi\x00\x1bthere"), "Hi\x00\x1bthere"),
        (RAW.replace(b"Hi there", rb"C:\Users \'quoted\' \u12 \d"), r"C:\Users \'quoted\' \u12 \d"),
        (RAW.replace(b"Hi there", rb"a \"quote\" and \\ and \q"), 'a "quote" and \\ and \\q'),
        (RAW.replace(b"Hi there", b"Hi \xff there"), "Hi \ufffd there"),
        (RAW.replace(b"Hi there", rb"half \ud800 of a pair"), "half ? of a pair"),
    ],
)
def test_a_text_that_is_written_carelessly_is_kept_as_near_as_can_be(raw, content):
    got = parse_result_line(raw)
    assert got is not None
    assert got.response is not None
    assert got.response.body["choices"][0]["message"]["content"] == content
    kept = LineResponse(status_code=200, request_id=None, body=got.response.body).model_dump_json()
    assert orjson.loads(kept)


@pytest.mark.parametrize("custom_id", [7, 7.0])
def test_an_id_that_is_a_number_is_its_text(custom_id):
    got = parse_result_line(line(custom_id))
    assert got is not None
    assert got.custom_id == "7"


def test_an_answer_as_the_lines_output_is_an_answer():
    found = parse_result_line(beside(output=BODY))
    assert found is not None
    assert found.response == Response(200, BODY)


def test_an_answer_in_place_of_its_response_is_an_answer():
    got = parse_result_line(line(response=BODY))
    assert got is not None
    assert got.response == Response(200, BODY, None)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"code": "batch_expired", "message": "Too late."}, "batch_expired", "Too late."),
        ("Too late.", None, "Too late."),
        ([{"message": "Too late."}, {"message": "And more."}], None, "Too late."),
        (["Too late."], None, "Too late."),
        ({"code": 429, "message": "Too many."}, "429", "Too many."),
        ({"type": "server_error", "detail": "Oh."}, "server_error", "Oh."),
        ('{"code": "x", "message": "Inner."}', "x", "Inner."),
        ("[500] Not JSON at all", None, "[500] Not JSON at all"),
        (429, None, "429"),
        ({"message": {"text": "deep"}}, None, '{"text":"deep"}'),
    ],
)
def test_the_sentence_of_an_error_is_kept_whatever_its_shape(error, code, message):
    got = parse_result_line(line(response=None, error=error))
    kind = error.get("type") if isinstance(error, dict) else None
    assert got == ResultLine("abc-1", None, code, message, kind)


@pytest.mark.parametrize("body", [None, "", {}])
def test_a_sentence_beside_an_empty_response_is_the_responses(body):
    said = {"code": "content_policy_violation", "message": "No."}
    got = parse_result_line(line(response={"status_code": 400, "body": body}, error=said))
    assert got is not None
    assert got.response == Response(400, {"error": said})
    got = parse_result_line(line(response={"status_code": 200, "body": body}, error=said))
    assert got == ResultLine("abc-1", None, "content_policy_violation", "No.")


def test_an_error_without_a_status_is_read_from_the_body():
    body = {"error": {"code": "overloaded", "message": "Later."}}
    assert parse_result_line(line(response={"body": body})) == ResultLine("abc-1", None, "overloaded", "Later.")
    assert parse_result_line(line(response=body)) == ResultLine("abc-1", None, "overloaded", "Later.")


@pytest.mark.parametrize("status", [None, "two hundred", True, [200], 2.5, float("inf"), "", 0, -1, 2000, "0", 1e300])
@pytest.mark.parametrize("body", [{}, None, "<html>", {"choices": None}, {"error": None}])
def test_without_a_status_only_an_answer_is_an_answer(status, body):
    raw = json.dumps(WHOLE | {"response": {"status_code": status, "body": body}}).encode()
    got = parse_result_line(raw)
    assert got is not None
    assert got.response is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{", b"\xff\xfe", b'{"custom_id": true}', b'{"id": "x"}', b"[" * 100_000, b'{"a":' * 5_000],
)
def test_a_line_that_names_no_task_is_none(raw):
    assert parse_result_line(raw) is None


# --- files ----------------------------------------------------------------------------------------------------------

TWO = [line("abc-1"), line("def-1")]


@pytest.mark.parametrize(
    "content",
    [
        b"\n".join(TWO),
        b"\n\n\r\n".join(TWO) + b"\n\n",
        b"\r\n".join(TWO) + b"\r\n",
        b"".join(TWO),
        b" ".join(TWO),
        b"\r".join(TWO),
        b"[" + b",".join(TWO) + b"]",
        b"[\n" + b",\n".join(TWO) + b"\n]\n",
        json.dumps([json.loads(each) for each in TWO], indent=2).encode(),
        b"\n".join(json.dumps(json.loads(each), indent=4).encode() for each in TWO),
        b",\n".join(TWO) + b",",
        b"\x1e" + b"\n\x1e".join(TWO) + b"\n",
        b"\xef\xbb\xbf" + TWO[0] + b"\n\xef\xbb\xbf" + TWO[1],
        b"\n".join(TWO) + b"\x00" * 512,
    ],
)
def test_a_file_of_two_lines_is_read_however_it_is_laid_out(content):
    assert ids(content) == ["abc-1", "def-1"]


def test_a_raw_line_break_inside_an_answer_does_not_break_its_line():
    broken = TWO[0].replace(b"Hi there", b"Hi\n{\nthere}\n")
    [first, second] = read(broken + b"\n" + TWO[1])
    assert first.response.body["choices"][0]["message"]["content"] == "Hi\n{\nthere}\n"
    assert second.custom_id == "def-1"


def test_a_line_that_is_cut_off_takes_no_other_with_it():
    [cut, whole, tail] = read(TWO[0][:60] + b"\n" + TWO[1] + b"\n" + TWO[0][:50])
    assert (cut.line, cut.custom_id, cut.raw) == (1, "abc-1", TWO[0][:60])
    assert whole.custom_id == "def-1"
    assert (tail.line, tail.custom_id) == (3, "abc-1")


def test_lines_that_are_all_careless_each_stand_for_themselves():
    careless = [each.replace(b"Hi there", b"Hi\tthere") for each in TWO]
    assert ids(TWO[0][:60] + b"\n" + careless[1] + b"\n" + careless[0])[1:] == ["def-1", "abc-1"]


@pytest.mark.parametrize(
    ("raw", "reason", "custom_id"),
    [
        (b"no JSON at all", "there is no JSON object", None),
        (b'{"id": "x"}', "it names no custom_id", None),
        (b'{"custom_id": null, "response": {}}', "it names no custom_id", None),
        (TWO[0].replace(b'"Hi', b"Hi"), "Expecting value", "abc-1"),
        (b"{'custom_id': 'abc-1'}", "Expecting property name", None),
        (b'{"custom_id": "abc-1", ' + b'"a":{' * 5_000, "it is nested too deeply", "abc-1"),
        (b"<html><body>Sign in</body></html>", "there is no JSON object", None),
        (b"7", "there is no JSON object", None),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place_its_reason_and_the_id_that_it_shows(raw, reason, custom_id):
    [before, unread, after] = read(TWO[0] + b"\n" + raw + b"\n" + TWO[1])
    assert (before.custom_id, after.custom_id) == ("abc-1", "def-1")
    assert isinstance(unread, Unread)
    assert (unread.line, unread.custom_id, unread.raw) == (2, custom_id, raw)
    assert unread.reason.startswith(reason)


def test_what_stands_behind_a_readable_line_is_shown_and_takes_nothing_from_it():
    [whole, unread] = read(TWO[0] + b" }}} and more")
    assert whole.custom_id == "abc-1"
    assert (unread.line, unread.reason) == (1, "there is no JSON object")


def test_a_reason_quotes_nothing_of_a_line():
    secret = b"my password is tr0ub4dor"
    for raw in (secret, b'{"a": ' + secret, b'"' + secret, b'{"' + secret + b'": 1}', b"{" + secret + b"}"):
        for unread in read(raw):
            assert "tr0ub4dor" not in unread.reason
            assert "tr0ub4dor" not in str(unread.custom_id)


@given(text=st.text(alphabet='\\\\"{}a', max_size=12), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_braces_are_followed_over_pieces_as_over_the_whole(text, cuts):
    raw = json.dumps({"a": text}).encode() + b" {"
    whole, pieces = Braces(), Braces()
    end = whole.feed(raw)
    assert end == len(raw) - 2
    bounds = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    closed = [start + at for start, stop in pairwise(bounds) if (at := pieces.feed(raw[start:stop]))]
    assert closed == [end]
    assert whole.open
    assert pieces.open


def garbled(dice: Random) -> bytes:
    """A whole line with a few bytes changed, cut, doubled or put in."""
    raw = bytearray(RAW)
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
                raw[at:at] = dice.choice([b"NaN", b"1e999", rb"\ud800", b"9" * 30, b"[[", b"}", b'"', b"\x00", b"\n"])
        if not raw:
            break
    return bytes(raw)


def test_ten_thousand_garbled_lines_stop_nothing_and_what_is_read_of_them_can_be_judged_and_kept():
    """Between two whole lines, which are read whatever stands between them."""
    understood = 0
    for number in range(10_000):
        [first, *between, last] = read(TWO[0] + b"\n" + garbled(Random(number)) + b"\n" + TWO[1])
        assert (first.custom_id, last.custom_id) == ("abc-1", "def-1"), number
        for each in between:
            if isinstance(each, Unread):
                assert each.reason
                continue
            understood += 1
            assert judge_line(each.response, each.error_code, each.error_message)
            if each.response is not None:
                orjson.dumps([each.custom_id, each.response.body, each.response.request_id])
    assert understood > 1_000, "too few are understood to show anything"


SIZE = 1 << 19
"""Bytes. A reading in quadratic time takes minutes."""


@pytest.mark.parametrize(
    "raw",
    [
        b"{" * SIZE,
        b"[" * SIZE,
        b'{"a":' * (SIZE // 5),
        b'{"a":"' + b"\\" * SIZE,
        b'{"a":"' + b"\\q" * (SIZE // 2) + b'"}',
        b'"' * SIZE,
        b'{"":' * (SIZE // 4) + b"1" + b"}" * (SIZE // 4),
        b'{"a":1}' * (SIZE // 7),
        b'{"custom_id":1}' * (SIZE // 15),
        b'{"custom_id":"a","b":' + b"9" * SIZE + b"}",
        b'{"custom_id":"a","error":' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
        b'{"custom_id":"a","response":"' + b'{\\"a\\":' * (SIZE // 7) + b'"}',
        b'{"a":"x\n' * (SIZE // 8),
        b'{"a":\n' * (SIZE // 6),
        b'{\n"a":1}\n' * (SIZE // 10),
        b"\xef\xbb\xbf" * (SIZE // 3),
        b"\\" * SIZE,
    ],
)
def test_half_a_mebibyte_of_malice_is_read_in_linear_time(raw):
    began = time.process_time()
    read(raw)
    assert time.process_time() - began < 10, "seconds of this process's own time"
