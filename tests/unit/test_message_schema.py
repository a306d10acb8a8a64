"""The JSON Schema: current in docs/, and of one mind with the parser."""

from pathlib import Path

import jsonschema
import orjson
import pytest

from lowtide.core.errors import Refused
from lowtide.core.message import parse_task
from lowtide.core.schema import task_schema

KEPT = Path(__file__).resolve().parents[2] / "docs" / "task.schema.json"

BODY = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "?"}]}
REQUEST = {"url": "/v1/chat/completions", "body": BODY}
GOOD = {"task_id": "t_1", "type": "email_draft", "request": REQUEST}
LINE = {"custom_id": "row-7", "method": "POST", **REQUEST}
CHECK = jsonschema.Draft202012Validator(task_schema())


def body(**changes):
    return GOOD | {"request": REQUEST | {"body": BODY | changes}}


def test_the_schema_kept_in_docs_is_the_one_that_the_model_gives():
    assert orjson.loads(KEPT.read_bytes()) == task_schema(), "write it again: lowtide schema > docs/task.schema.json"


@pytest.mark.parametrize(
    "raw",
    [
        GOOD,
        LINE,
        GOOD | {"priority": 3, "deadline_seconds": 60, "tags": {"a": "b"}},
        {"task_id": "t", "priority": "LOW", "payload": {}},
        GOOD | {"payload": None},
        body(service_tier="flex", stream=False, max_completion_tokens=5),
    ],
)
def test_what_the_parser_takes_satisfies_the_schema(raw):
    parse_task(raw)
    CHECK.validate(raw)


@pytest.mark.parametrize(
    "raw",
    [
        GOOD | {"task_id": "two words"},
        GOOD | {"priority": "URGENT"},
        GOOD | {"deadline_seconds": 0},
        GOOD | {"deadline_seconds": 5, "deadline_at": "2030-01-01T00:00:00Z"},
        GOOD | {"payload": {}},
        GOOD | {"colour": "blue"},
        GOOD | {"tenant": {"name": "acme"}},
        {"task_id": "t", "request": REQUEST},
        {"task_id": "t", "type": "email_draft"},
        GOOD | {"request": REQUEST | {"url": "/v1/fine_tuning/jobs"}},
        LINE | {"method": "GET"},
        body(model=""),
        body(stream=True),
        body(max_completion_tokens=-5),
        body(service_tier="turbo"),
        [GOOD],
    ],
)
def test_what_the_schema_rules_out_the_parser_refuses(raw):
    assert not CHECK.is_valid(raw)
    with pytest.raises(Refused):
        parse_task(raw)
