"""lowtide.adapters.aws.callbacks: state machines woken, and those that no longer sleep."""

from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from lowtide.adapters.aws.callbacks import NoCallbacks, StateMachines
from lowtide.core.errors import LowtideError
from lowtide.core.outward import Callback, Failure, Success
from lowtide_local.engine.metrics import RecordedMetrics

ANSWERED = Callback("t1", Success('{"status":"answered"}'))
DEAD = Callback("t2", Failure("content_policy_violation", "task a: It says why."))


@pytest.fixture
def metrics() -> RecordedMetrics:
    return RecordedMetrics()


@pytest.fixture
def client():
    session = boto3.session.Session("key", "secret", region_name="eu-central-1")
    return session.client("stepfunctions")


def test_an_answer_is_a_success_and_any_other_end_a_failure(client, metrics):
    with Stubber(client) as service:
        service.add_response("send_task_success", {}, {"taskToken": "t1", "output": '{"status":"answered"}'})
        told = {"taskToken": "t2", "error": "content_policy_violation", "cause": "task a: It says why."}
        service.add_response("send_task_failure", {}, told)
        StateMachines(client, metrics, threads=1).send([ANSWERED, DEAD])
        service.assert_no_pending_responses()
    assert metrics.total("callbacks_sent") == 2


DROPPED = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken", "InvalidOutput", "AccessDeniedException")
KEYS = ("KmsAccessDeniedException", "KmsInvalidStateException")


@pytest.mark.parametrize("code", [*DROPPED, *KEYS])
def test_who_no_longer_sleeps_is_counted_and_does_not_keep_the_others_asleep(client, metrics, code):
    with Stubber(client) as service:
        service.add_client_error("send_task_success", code)
        service.add_response("send_task_failure", {})
        StateMachines(client, metrics, threads=1).send([ANSWERED, DEAD])
        service.assert_no_pending_responses()
    assert (metrics.total("callbacks_sent"), metrics.total("callbacks_dropped")) == (1, 1)
    assert metrics.lines[0].fields["reason"] == code


@pytest.mark.parametrize("code", ["ThrottlingException", "KmsThrottlingException", "InternalFailure"])
def test_a_service_that_does_not_answer_is_an_error_so_that_the_step_comes_again(client, metrics, code):
    with Stubber(client) as service:
        service.add_client_error("send_task_success", code)
        with pytest.raises(LowtideError, match="send again"):
            StateMachines(client, metrics, threads=1).send([ANSWERED])


def test_a_deployment_that_names_no_state_machine_takes_no_tokens(metrics):
    nobody = NoCallbacks(metrics)
    nobody.send([ANSWERED])
    assert (nobody.taken, metrics.total("callbacks_dropped")) == (False, 1)
