"""The list of patches against the templates of today; the emulator itself is not started."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from lowtide_local.stack.intrinsics import read_yaml
from tests.e2e.patches import ALARMS, MAIN, PATCHES, ChangesNothing, Given, patch
from tests.template.sam_transform import transformed

ROOT = Path(__file__).parents[2]
GIVEN = Given({}, Path("/packages"))


POLICY = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": {"Statement": []}}}
NOTHING = {"Resources": {"OperatorPolicy": POLICY}, "Conditions": {}}


def test_every_patch_has_something_to_change_in_the_template_of_today():
    patch(MAIN, transformed(read_yaml(ROOT / MAIN), {}), GIVEN)
    patch(ALARMS, read_yaml(ROOT / ALARMS), GIVEN)


@pytest.mark.parametrize("entry", PATCHES, ids=lambda entry: entry.what)
def test_a_patch_tells_that_it_changes_nothing(entry):
    assert entry.apply(deepcopy(NOTHING), GIVEN) == 0


@pytest.mark.parametrize("name", [MAIN, ALARMS])
def test_a_patch_that_changes_nothing_is_an_error(name):
    with pytest.raises(ChangesNothing, match=r"take the entry out of tests\.e2e\.patches"):
        patch(name, deepcopy(NOTHING), GIVEN)


def test_what_names_an_alarm_that_was_taken_out_goes_with_it():
    alarms = read_yaml(ROOT / ALARMS)
    before = set(alarms["Resources"])
    patch(ALARMS, alarms, GIVEN)
    assert {"CallErrors", "NormalWaiting"} <= before - alarms["Resources"].keys()
    assert {"NewDeadLetters", "Topic"} <= alarms["Resources"].keys()
    assert "CallErrors" not in alarms["Outputs"]
