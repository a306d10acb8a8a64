"""Schema versions of messages, and values that keep what a later release added."""

from __future__ import annotations

import inspect
import typing
from importlib import import_module
from pathlib import Path

import orjson
import pytest
from pydantic import BaseModel

import lowtide.core
from lowtide.core.batch_rows import BatchRow
from lowtide.core.errors import NewerSchema
from lowtide.core.holds import HoldRow
from lowtide.core.manifest import ManifestLine
from lowtide.core.model import Stored
from lowtide.core.pace_rows import PaceRow
from lowtide.core.packs import unpack
from lowtide.core.parts import Lot, PartLine, PartRow
from lowtide.core.receipts import Receipt
from lowtide.core.records import ResultDocument
from lowtide.core.task import AcceptedTask
from lowtide.core.task_rows import TaskRow
from lowtide.core.webhooks import Hint

ROOTS = (
    *(TaskRow, PartRow, BatchRow, HoldRow, PaceRow, AcceptedTask, PartLine, ManifestLine, ResultDocument),
    *(Hint, Receipt),
)


def models_in(annotation: object) -> set[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for each in typing.get_args(annotation) for model in models_in(each)}


def reached(root: type[BaseModel], known: set[type[BaseModel]]) -> set[type[BaseModel]]:
    if root not in known:
        known.add(root)
        for field in root.model_fields.values():
            for model in models_in(field.annotation):
                reached(model, known)
    return known


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.__name__)
def test_whatever_is_stored_keeps_the_fields_that_it_does_not_know_all_the_way_down(root):
    closed = [model.__name__ for model in reached(root, set()) if not issubclass(model, Stored)]
    assert closed == []


def test_what_a_person_writes_stays_closed():
    for path in Path(lowtide.core.__file__).parent.glob("*.py"):
        import_module(f"lowtide.core.{path.stem}")
    open_ones = {model.__name__ for model in Stored.__subclasses__()}
    assert open_ones.isdisjoint({"TaskMessage", "BatchLine", "Routes", "TierSpec", "ModelSpec", "ProviderSpec"})


def test_a_field_of_a_later_release_is_written_back():
    lot = Lot.model_validate_json(
        '{"provider": "openai", "model": "m", "endpoint": "/v1/responses", "later": {"a": [1]}}'
    )
    again = lot.model_copy(update={"model": "n"})
    assert orjson.loads(again.model_dump_json())["later"] == {"a": [1]}


@pytest.mark.parametrize("body", ['{"tasks":[]}', '{"v":1,"tasks":[]}', '{"v":1,"tasks":[],"later":true}'])
def test_a_pack_of_this_version_or_without_one_is_read(body):
    assert unpack(body) == []


@pytest.mark.parametrize("body", ['{"v":2,"tasks":[]}', '{"v":2}', '{"v":99,"tasks":[{"of": "another shape"}]}'])
def test_a_pack_of_a_newer_version_is_left_to_its_release(body):
    with pytest.raises(NewerSchema, match="newer release"):
        unpack(body)


@pytest.mark.parametrize("version", ["0", "-1", '"2"', "true", "null", "1.5", "[]"])
def test_what_is_no_version_is_unreadable(version):
    with pytest.raises(ValueError, match="no number from 1 on"):
        unpack(f'{{"v":{version},"tasks":[]}}')
