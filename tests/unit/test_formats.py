"""What a file looks like that holds no tasks."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile

import pytest

from lowtide_local.run.formats import HEAD_BYTES, looks_like

BODY = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Grüß Gott."}]}
REQUEST = {"url": "/v1/chat/completions", "body": BODY}
TASK = {"task_id": "a", "type": "email_draft", "request": REQUEST}
LINE = {"custom_id": "b", "method": "POST", **REQUEST}
GOOD = json.dumps(TASK) + "\n" + json.dumps(LINE) + "\n"
UNICODE = json.dumps(TASK, ensure_ascii=False) + "\n"
OTHER = [{"role": "user", "content": "x"}]


def lines(*values):
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("tasks.jsonl"), GOOD)  # of 1980, so that the bytes are the same each time
    return file.getvalue()


REFUSED = [
    (gzip.compress(GOOD.encode(), mtime=0), "gzip"),
    (zipped(), "zip"),
    (b"BZh91AY", "bzip2"),
    (b"\xfd7zXZ\x00\x00", "xz"),
    (b"\x28\xb5\x2f\xfd\x00", "Zstandard"),
    (b"PAR1\x15\x04\x15", "Parquet"),
    (b"SQLite format 3\x00\x10", "SQLite"),
    (b"%PDF-1.7\n", "PDF"),
    (b"a.jsonl" + b"\x00" * 250 + b"ustar\x0000", "tar"),
    (bytes(range(256)) * 4, "binary"),
    (b"\x80\x04\x95\x10\x00\x00", "binary"),
    (GOOD.encode("utf-16"), "UTF-16"),
    (GOOD.encode("utf-16-le"), "UTF-16"),
    (GOOD.encode("utf-16-be"), "UTF-16"),
    (GOOD.encode("utf-32"), "UTF-16 or UTF-32"),
    (GOOD.encode("utf-32-be"), "UTF-16 or UTF-32"),
    (UNICODE.encode("latin-1") * 3, "no UTF-8"),
    (GOOD.replace("\n", "\r").encode(), "carriage return"),
    (b"".join(b"\x1e" + line for line in GOOD.encode().splitlines(keepends=True)), "RFC 7464"),
    (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "HTML"),
    (b"\n  <HTML lang=en>", "HTML"),
    (b"<?xml version='1.0'?>\n<tasks/>\n", "XML"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    (b"/annex/objects/SHA256E-s1--4d7a.jsonl\n", "git annex get"),
    (b"../.git/annex/objects/x/y\n", "git annex get"),
    (b'data: {"id": 1}\n\ndata: [DONE]\n', "server-sent events"),
    (json.dumps([TASK, LINE]).encode(), "jq -c '.[]'"),
    (json.dumps([TASK, LINE], indent=1).encode(), "jq -c '.[]'"),
    (b"[\n" + json.dumps(TASK).encode() + b"\n]\n", "jq -c '.[]'"),
    (b"[\n" + b",\n".join(json.dumps(each).encode() for each in (TASK, LINE)) + b"\n]\n", "jq -c '.[]'"),
    (json.dumps([TASK] * 3_000).encode(), "jq -c '.[]'"),
    (b"[]\n", "JSON array"),
    (b"[" * 100_000, "JSON array"),
    (lines([1], [2]), "a JSON array on each line"),
    (json.dumps(TASK, indent=2).encode(), "several lines"),
    ((json.dumps(TASK, indent=2) + "\n").encode() * 2, "several lines"),
    (("\ufeff" + json.dumps(TASK, indent="\t")).encode(), "several lines"),
    (f"{TASK!r}\n".encode(), "json.dumps"),
    (
        json.dumps({"tasks": [TASK, LINE]}, indent=None).replace("[{", "[\n{").replace("}]}", "}\n]}").encode(),
        "several lines",
    ),
    (json.dumps({"x": ["y" * 300_000], "z": 1}, indent=1).encode(), "several lines"),
    (b"{task_id: 'a', type: 'email_draft'}\n", "JSON5"),
    (b'{/* first */ "task_id": "a"}\n', "JSON5"),
    ((json.dumps(TASK)[:-1] + ",}\n").encode(), "comma before a closing bracket"),
    ((json.dumps(TASK) + ",\n").encode() * 2, "comma after each"),
    ((json.dumps(TASK) * 2).encode(), "several JSON values on one line"),
    ((json.dumps(TASK) + " " + json.dumps(LINE)).encode(), "several JSON values on one line"),
    (lines(json.dumps(TASK)), "jq -r ."),
    (lines("Say hello.", "Say goodbye."), "a JSON string or number"),
    (lines(1, 2.5), "a JSON string or number"),
    (lines(None, None), "JSON null"),
    (b'{"task_id": "half", "type"\n', "broken or cut off"),
    (b'id,prompt\n1,hello\n2,"a, b"\n', "CSV"),
    (b"id\tprompt\n1\thello\n", "TSV"),
    (b"id;prompt\n1;hello\n", "semicolons"),
    (b"prompt\n" + b"x" * 200_000 + b"\n", "text that is no JSON"),
    (b"- task_id: a\n  type: email_draft\n", "YAML"),
    (b"---\ntask_id: a\n", "YAML"),
    (b'[[tasks]]\ntask_id = "a"\n', "TOML"),
    (b'title = "tasks"\n[tasks]\n', "TOML"),
    (b"Say hello.\nTranslate this.\n", "text that is no JSON"),
    (b"#!/bin/sh\necho hello\n", "text that is no JSON"),
    (b"H4sIAAAA" * 50_000, "text that is no JSON"),
    (lines({"custom_id": "a", "params": {"model": "claude", "max_tokens": 9, "messages": OTHER}}), "Anthropic"),
    (lines({"custom_id": "a", "result": {"type": "succeeded"}}), "results of an Anthropic batch"),
    (lines({"key": "a", "request": {"contents": [{"parts": [{"text": "x"}]}]}}), "Gemini"),
    (lines({"request": {"contents": []}}), "Gemini"),
    (lines({"recordId": "a", "modelInput": {}}), "Bedrock"),
    (lines({"custom_id": "0", "body": {"max_tokens": 9, "messages": OTHER}}), "without a url"),
    (lines({"messages": OTHER}), "messages without a model"),
    (lines({"messages": [*OTHER, {"role": "assistant", "content": "y"}]}), "fine-tuning"),
    (lines({"prompt": "x"}), "prompts without a model"),
    (lines({"prompt": "x", "completion": "y"}), "training"),
    (lines({"instruction": "x", "input": "", "output": "y"}), "training"),
    (lines(BODY), "bodies of requests"),
    (lines({"model": "m", "input": "x"}), "bodies of requests"),
    (lines({"id": "batch_req_1", "custom_id": "a", "response": {"status_code": 200}, "error": None}), "output of an"),
    (lines({"task_id": "a", "status": "answered", "response": {}, "lane": "batch", "custom_id": "a"}), "results.jsonl"),
    (lines({"task": TASK, "error": {"code": "x"}}), "jq -c .task"),
    (lines({"line": 1, "task_id": None, "error": {"code": "x"}}), "refused.jsonl"),
    (lines({"tasks": [TASK, LINE]}), "jq -c '.tasks[]'"),
    (json.dumps({"tasks": [TASK] * 3_000}).encode(), "holds a list: write each of its tasks"),
    (lines({"requests": [{"custom_id": "a", "params": {}}]}), "holds a list: write each of its requests"),
    (lines({"error": {"message": "unauthorised"}}), "an error of an API"),
    (lines({"question": "x", "answer": "y"}), "they have answer, question"),
    (lines({"\x1b[31m" * 20: 1}), "JSON objects that are no tasks"),
    (lines({"Service": "Amazon S3", "Event": "s3:TestEvent"}), "the test event that S3 sends"),
]


@pytest.mark.parametrize(("content", "what"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_file_of_tasks_is_told_in_one_line(content, what):
    told = looks_like(content[:HEAD_BYTES], whole=len(content) <= HEAD_BYTES)
    assert told is not None
    assert what in told
    assert told.isprintable()
    assert ": " in told, "what to do is missing"


TAKEN = [
    GOOD.encode(),
    GOOD.replace("\n", "\r\n").encode(),
    b"\xef\xbb\xbf\n\n" + GOOD.encode(),
    GOOD.rstrip("\n").encode(),
    (json.dumps(TASK) + "\r").encode(),
    UNICODE.encode() * 20_000,
    (json.dumps(LINE) + "\n" + UNICODE).encode("latin-1"),
    lines({"task_id": "a"}),
    lines({"task_id": "a", "Records": [{"eventSource": "aws:s3"}]}),
    lines({"type": "email_draft", "payload": {"text": "x"}}),
    lines({"custom_id": "a", "method": "POST", "url": "/v2/x", "body": {}}),
    lines({**LINE, "url": "/chat/completions"}),
    b"no JSON\n{}\n",
    b"\x00\x01\x02\n"[1:] + GOOD.encode(),
    b"oops\n[1]\n" + GOOD.encode(),
    b"<html>\n" + GOOD.encode(),
    b"---\n" + GOOD.encode(),
    b'{"task_id": "cut off",\n' + GOOD.encode(),
    b"{\n" + GOOD.encode(),
    b'{"question": "x"}\n' + GOOD.encode(),
    json.dumps({**TASK, "tags": {"x": "y" * 400_000}}).encode(),
    b'{"a":' * 100_000,
    b"",
    b"\n \r\n",
    b" " * 300_000,
]


@pytest.mark.parametrize("content", TAKEN, ids=range(len(TAKEN)))
def test_a_file_whose_first_lines_may_be_tasks_is_taken_whatever_else_is_in_it(content):
    assert looks_like(content[:HEAD_BYTES], whole=len(content) <= HEAD_BYTES) is None


def test_whatever_bytes_a_file_begins_with_nothing_raises_and_what_is_said_prints():
    dice = random.Random(20)
    seeds = [content for content, _ in REFUSED] + TAKEN
    told = set()
    for _ in range(3_000):
        content = bytearray(dice.choice(seeds)[:2_000])
        for _ in range(dice.randrange(4)):
            place = dice.randrange(len(content) + 1)
            content[place : place + dice.randrange(3)] = dice.randbytes(dice.randrange(4))
        said = looks_like(bytes(content), whole=dice.random() < 0.5)
        assert said is None or said.isprintable()
        told.add(said)
    assert len(told) > 40, "too few kinds came up to show anything"
