"""What a row says of a batch or a file at the provider that carries its name."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lowtide.core.batches import GRACE, BatchState, ProviderBatch, ProviderStatus
from lowtide.core.orphans import old_enough, orphan_batch, orphan_input, orphan_output, unheard_cancel
from lowtide.ports import SubmissionKey
from tests.contract.cases import NOW, batch

KNOWN = ProviderBatch(id="known", status=ProviderStatus.IN_PROGRESS, input_ref="in")
ONGOING = [state for state in BatchState if state is not BatchState.DONE]


def running(**changes):
    return batch(**{"state": BatchState.RUNNING, "submission": 2, "input_ref": "in", "provider_batch": KNOWN} | changes)


def done(**changes):
    return running(state=BatchState.DONE, done_at=NOW - GRACE, **changes)


@pytest.mark.parametrize("state", ONGOING)
def test_nothing_of_the_newest_submission_is_an_orphan_while_the_row_has_noted_no_batch(state):
    row = batch(state=state, submission=2)
    assert not orphan_batch(row, 2, "any")
    assert not orphan_input(row, 2, "any", NOW)
    assert not orphan_output(row, 2, "any", NOW)


@pytest.mark.parametrize("state", ONGOING)
def test_what_the_row_has_noted_is_no_orphan_until_the_row_is_done(state):
    row = running(state=state)
    assert not orphan_batch(row, 2, "known")
    assert not orphan_input(row, 2, "in", NOW)
    assert not orphan_output(row, 2, "known", NOW)


def test_a_second_batch_or_input_beside_the_noted_one_is_an_orphan():
    assert orphan_batch(running(), 2, "other")
    assert orphan_input(running(), 2, "other", NOW)
    assert orphan_output(running(), 2, "other", NOW)


@pytest.mark.parametrize("row", [batch(submission=2), running(), done()])
def test_an_older_submission_is_an_orphan_whatever_the_row_does(row):
    assert orphan_batch(row, 1, "any")
    assert orphan_input(row, 1, "in", NOW)
    assert orphan_output(row, 1, "any", NOW)


@pytest.mark.parametrize("row", [batch(submission=2), running(), done()])
def test_a_submission_that_is_newer_than_the_row_is_left_alone(row):
    assert not orphan_batch(row, 3, "any")
    assert not orphan_input(row, 3, "any", NOW)
    assert not orphan_output(row, 3, "any", NOW)


def test_what_no_row_knows_at_all_is_an_orphan():
    assert orphan_batch(None, 1, "any")
    assert orphan_input(None, 1, "any", NOW)
    assert orphan_output(None, 1, "any", NOW)


def test_a_batch_that_was_given_up_is_not_left_to_run_once_its_row_is_done():
    assert unheard_cancel(done(released=True), 2, "known")
    assert not unheard_cancel(done(released=True), 2, "other")
    assert not unheard_cancel(done(), 2, "known")
    assert not unheard_cancel(running(released=True), 2, "known")
    assert not unheard_cancel(None, 2, "known")


def test_of_a_done_batch_the_files_are_left_behind_and_the_batch_is_history():
    assert not orphan_batch(done(), 2, "known")
    assert orphan_input(done(), 2, "in", NOW)
    assert orphan_output(done(), 2, "known", NOW)


def test_files_of_a_batch_that_was_done_a_moment_ago_may_only_be_listed_still():
    just_done = done().model_copy(update={"done_at": NOW - GRACE + timedelta(seconds=1)})
    assert not orphan_input(just_done, 2, "in", NOW)
    assert not orphan_output(just_done, 2, "known", NOW)


def test_what_is_young_or_of_unknown_age_is_not_old_enough():
    assert old_enough(NOW - GRACE, NOW)
    assert not old_enough(NOW - GRACE + timedelta(seconds=1), NOW)
    assert not old_enough(None, NOW)


@pytest.mark.parametrize("deployment", ["prod", "prod.eu", "run-1/a b"])
def test_a_key_is_read_back_from_its_text(deployment):
    key = SubmissionKey(deployment, "b-12", 3)
    assert SubmissionKey.of_deployment(deployment, key.text) == key


@pytest.mark.parametrize(
    "text",
    ["", "prod", "prod.b-1", "prod.b-1.x", "prod.b-1.01", "prod.b-1.²", "prod.eu.b-1.1", "pro.b-1.1", "prod2.b-1.1"],
)
def test_no_other_text_is_a_key_of_the_deployment(text):
    assert SubmissionKey.of_deployment("prod", text) is None
