"""Webhooks on the deployed stack: the provider's post → Webhook → HintQueue → the poller's handler → the batch."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import orjson
import pytest
from moto import mock_aws
from stack_cases import low, pack
from webhook_cases import FORGERS, connected, running, signed, signing_secret, telling, url_event

from lowtide import wiring
from lowtide.core.batches import BatchState
from lowtide.core.errors import ConfigError
from lowtide.core.webhooks import BODY_BYTES
from lowtide.steps.hint import follow
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind

LOOK = "GET /v1/batches/{id}"


@pytest.fixture
def taking(stage, monkeypatch):
    """Makes the stack of a deployment that takes webhooks."""
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "eu-central-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():

        def make(scenario=None, **options):
            parameters = {"WebhookSecretArn": signing_secret(), **options.pop("parameters", {})}
            return stage(scenario or telling(), parameters=parameters, **options)

        yield make


@pytest.fixture
def ended(taking):
    """A stack whose one batch has ended at the provider a moment ago, with the poller's next look still ahead."""

    def make(scenario=None, *, as_base64=False, **options):
        played = taking(scenario, **options)
        post = connected(played, as_base64=as_base64)
        post.down = True
        played.send(pack(*(low(f"l{number}") for number in range(10))))
        while not any(batch["status"] == "completed" for batch in played.line.provider.state()["batches"]):
            played.stack.wait(30)
        row = running(played)
        assert row.state is BatchState.RUNNING
        assert row.next_poll_at - played.stack.now > timedelta(seconds=30)
        post.down = False
        return played, post, row

    return make


def hint_of(row, event_id="wh_1", kind="batch.completed"):
    return orjson.dumps({"id": "evt_1", "object": "event", "type": kind, "data": {"id": row.provider_batch.id}})


def knock(played, headers, body, **how):
    """The answer to one request."""
    return played.stack.invoke("Webhook", url_event(headers, body, **how))


def hints(played):
    return [json.loads(body) for body, _ in played.stack.queues["HintQueue"].contents()]


# --- the way through ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_base64", [False, True])
def test_a_webhook_has_its_batch_collected_at_once_instead_of_at_the_next_poll(ended, as_base64):
    played, post, row = ended(as_base64=as_base64)
    post.deliver()
    assert post.statuses == [204]
    played.stack.wait(10)
    done = running(played)
    assert done.state is BatchState.DONE
    assert done.done_at < row.next_poll_at
    assert len(played.audited()) == 10
    assert played.stack.invoked["Hinted"] == 1
    assert played.metrics.total("webhooks", outcome="accepted") == 1
    assert played.metrics.total("hints", outcome="followed") == 1


def test_without_its_webhook_the_same_batch_is_collected_later_and_ends_the_same(ended):
    played, post, row = ended()
    post.down = True
    played.stack.wait(10)
    assert running(played).state is BatchState.RUNNING
    played.stack.settle()
    done = running(played)
    assert done.done_at >= row.next_poll_at
    assert len(played.audited()) == 10
    assert played.stack.invoked["Webhook"] == played.stack.invoked["Hinted"] == 0


def test_a_deployment_without_a_signing_key_works_the_same(stage):
    played = stage(telling())
    connected(played).down = True
    assert len(played.play(pack(*(low(f"l{number}") for number in range(10))))) == 10
    assert "HintQueue" not in played.stack.queues
    assert {"Webhook", "Hinted"}.isdisjoint(played.stack.template.functions)


@pytest.mark.parametrize("kind", [MishapKind.EXPIRES, MishapKind.TOKEN_LIMIT])
def test_a_batch_that_ended_badly_goes_the_same_way_by_a_hint(taking, kind):
    weather = BatchWeather(min_s=600, max_s=600, mishaps=(Mishap(kind=kind, batches=(1,)),))
    played = taking(telling(batch=weather))
    post = connected(played)
    played.send(pack(*(low(f"l{number}") for number in range(10))))
    for _ in range(60 * 26):
        if played.stack.quiet() and played.rows():
            break
        played.stack.wait(60)
        post.deliver()
    assert len(played.audited()) == 10
    assert played.metrics.total("webhooks", outcome="refused") == 0


# --- what changes nothing -----------------------------------------------------------------------------------------


def test_a_repeated_event_is_passed_on_once(ended):
    played, post, _ = ended(telling(twice=True))
    post.deliver()
    assert post.statuses == [204, 204]
    assert len({event["headers"]["webhook-id"] for event in post.events}) == 1
    assert played.metrics.total("webhooks", outcome="repeated") == 1
    played.stack.settle()
    assert played.metrics.total("hints", outcome="followed") == 1
    assert len(played.audited()) == 10


def test_an_event_played_again_after_its_batch_is_done_changes_nothing(ended):
    played, post, row = ended()
    post.deliver()
    played.stack.settle()
    before = played.line.provider.requests.copy(), played.rows(), running(played)
    body = hint_of(row)
    headers = signed(body, at=played.stack.now.timestamp(), event_id="wh_of_another_id")
    assert knock(played, headers, body) == {"statusCode": 204}
    assert knock(played, post.events[0]["headers"], post.events[0]["body"].encode()) == {"statusCode": 204}
    played.stack.wait(30)
    assert (played.line.provider.requests, played.rows(), running(played)) == before
    assert played.metrics.total("hints", outcome="unknown") == 1


def test_an_event_that_comes_before_its_batch_has_ended_is_one_look_and_no_more(taking):
    played = taking()
    connected(played).down = True
    played.send(pack(*(low(f"l{number}") for number in range(10))))
    played.stack.wait(1290)  # between two runs of the schedule
    row, looks = running(played), played.asked(LOOK)
    body = hint_of(row, kind="batch.failed")
    knock(played, signed(body, at=played.stack.now.timestamp()), body)
    played.stack.wait(1)
    assert played.asked(LOOK) == looks + 1
    assert running(played).state is BatchState.RUNNING
    played.stack.settle()
    assert len(played.audited()) == 10


def test_what_an_event_says_of_the_end_is_not_believed(ended):
    """It says that nothing ran; the provider, asked, says that all did."""
    played, post, row = ended()
    body = hint_of(row, kind="batch.failed")
    knock(played, signed(body, at=played.stack.now.timestamp()), body)
    post.deliver()
    played.stack.settle()
    assert {record.status.value for record in played.audited().values()} == {"answered"}


def test_hints_of_one_batch_in_one_delivery_are_one_look(ended):
    played, _, row = ended(by_hand={"Hinted", "Reporter"})
    body = hint_of(row)
    for number in range(3):
        knock(played, signed(body, at=played.stack.now.timestamp(), event_id=f"wh_{number}"), body)
    looks = played.asked(LOOK)
    assert played.stack.invoke("Hinted", played.received("HintQueue")) == {"batchItemFailures": []}
    assert played.asked(LOOK) == looks + 1
    assert running(played).state is BatchState.DONE


def test_a_hint_at_somebody_elses_batch_is_counted_and_passed_over(ended):
    played, _, _ = ended()
    requests, row = played.line.provider.requests.copy(), running(played)
    body = orjson.dumps({"type": "batch.completed", "data": {"id": "batch_of_a_neighbour"}})
    assert knock(played, signed(body, at=played.stack.now.timestamp()), body) == {"statusCode": 204}
    played.stack.wait(1)
    assert (played.line.provider.requests, running(played)) == (requests, row)
    assert played.metrics.total("hints", outcome="unknown") == 1
    assert played.stack.queues["HintQueue"].depth == 0


def test_an_event_about_something_else_is_taken_and_leads_to_nothing(taking):
    played = taking()
    body = orjson.dumps({"type": "response.completed", "data": {"id": "resp_1"}})
    assert knock(played, signed(body, at=played.stack.now.timestamp()), body) == {"statusCode": 204}
    assert hints(played) == []


def test_a_message_that_is_no_hint_is_counted_and_gone(taking):
    played = taking()
    played.stack.queues["HintQueue"].send("not a hint", "default")
    played.stack.wait(1)
    assert played.stack.queues["HintQueue"].depth == 0
    assert played.metrics.total("hints", outcome="unreadable") == 1
    assert played.stack.failures == []


# --- what is refused ----------------------------------------------------------------------------------------------

GOOD = orjson.dumps({"type": "batch.completed", "data": {"id": "batch_1"}})


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("forged", 401),
        ("tampered", 401),
        ("late", 401),
        ("early", 401),
        ("unsigned", 400),
        ("empty", 400),
        ("not base64", 400),
        ("not ascii", 400),
        ("no event", 400),
        ("large", 413),
        ("very large", 413),
    ],
)
def test_what_is_not_the_providers_own_is_refused_without_a_word_and_changes_nothing(taking, what, status):
    played = taking()
    now = played.stack.now.timestamp()
    good = url_event(signed(GOOD, at=now), GOOD)
    large, very_large = b"x" * (BODY_BYTES + 1), b"x" * 3 * BODY_BYTES
    events = {
        "forged": url_event(signed(GOOD, at=now, secret=FORGERS), GOOD),
        "tampered": good | {"body": good["body"].replace("batch_1", "batch_2")},
        "late": url_event(signed(GOOD, at=now - 301), GOOD),
        "early": url_event(signed(GOOD, at=now + 301), GOOD),
        "unsigned": url_event({"content-type": "application/json"}, GOOD),
        "empty": url_event({}, b"", method="GET"),
        "not base64": good | {"isBase64Encoded": True},
        "not ascii": good | {"isBase64Encoded": True, "body": "é"},
        "no event": url_event(signed(b"{}", at=now), b"{}"),
        "large": url_event(signed(large, at=now), large, as_base64=True),
        "very large": url_event(signed(very_large, at=now), very_large),
    }
    assert played.stack.invoke("Webhook", events[what]) == {"statusCode": status}
    assert hints(played) == []
    assert played.metrics.total("webhooks", outcome="refused") == 1
    # What is right is taken all the same.
    assert played.stack.invoke("Webhook", good) == {"statusCode": 204}
    assert [hint["provider_batch_id"] for hint in hints(played)] == ["batch_1"]


def test_a_delivery_that_was_refused_is_not_remembered(taking):
    """Else whoever guessed an id could have the true delivery dropped."""
    played = taking()
    now = played.stack.now.timestamp()
    knock(played, signed(GOOD, at=now, secret=FORGERS), GOOD)
    knock(played, signed(GOOD, at=now), GOOD)
    assert len(hints(played)) == 1


def test_bytes_are_verified_as_they_came(taking):
    """The same JSON written otherwise is not what was signed; what is no UTF-8 cannot be anybody's event."""
    played = taking()
    now = played.stack.now.timestamp()
    spaced = orjson.dumps(orjson.loads(GOOD), option=orjson.OPT_INDENT_2)
    assert knock(played, signed(GOOD, at=now), spaced) == {"statusCode": 401}
    raw = b"\xff\xfe"
    assert knock(played, signed(raw, at=now), raw, as_base64=True) == {"statusCode": 400}


# --- cut off ------------------------------------------------------------------------------------------------------


def test_a_webhook_cut_off_before_it_was_noted_is_passed_on_again_without_harm(ended, monkeypatch):
    played, post, _ = ended()
    with monkeypatch.context() as broken:
        broken.setattr("lowtide.adapters.aws.webhook_ids.DynamoWebhookIds.note", _dies)
        with pytest.raises(RuntimeError, match="cut off"):
            post.deliver()
    played.stack.wait(10)
    assert running(played).state is BatchState.DONE
    body = hint_of(running(played))
    knock(played, signed(body, at=played.stack.now.timestamp()), body)
    played.stack.settle()
    assert len(played.audited()) == 10


def _dies(*_):
    raise RuntimeError("cut off")


def test_a_hint_whose_batch_fails_its_step_comes_back_and_holds_up_no_other(ended, monkeypatch):
    played, post, row = ended(by_hand={"Hinted", "Reporter"})
    post.deliver()
    body = hint_of(row)
    knock(played, signed(body, at=played.stack.now.timestamp()), body)
    body = orjson.dumps({"type": "batch.completed", "data": {"id": "batch_of_a_neighbour"}})
    knock(played, signed(body, at=played.stack.now.timestamp(), event_id="wh_2"), body)
    event = played.received("HintQueue")
    with monkeypatch.context() as broken:
        broken.setattr("lowtide.steps.hint.collect", _dies)
        answer = played.stack.invoke("Hinted", event)
    ours = [r["messageId"] for r in event["Records"] if row.provider_batch.id in r["body"]]
    assert len(ours) == 2
    assert answer == {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in ours]}
    assert played.metrics.total("hints", outcome="unknown") == 1
    assert played.stack.invoke("Hinted", event) == {"batchItemFailures": []}
    assert running(played).state is BatchState.DONE


def test_a_hint_for_which_no_time_is_left_comes_back(ended):
    played, post, row = ended(by_hand={"Hinted", "Reporter"})
    post.deliver()
    messages = wiring.messages(played.received("HintQueue"))
    assert len(messages) == 1
    assert asyncio.run(follow(played.stack.system(), messages, stop_at=played.stack.now)) == messages
    assert running(played) == row


def test_a_secret_that_cannot_sign_is_an_error_and_lets_nobody_in(taking, monkeypatch):
    played = taking()
    monkeypatch.setattr("lowtide.adapters.aws.secrets.ProviderKeys.key", lambda *_: "whsec_")
    with pytest.raises(ConfigError, match="store it as the provider shows it"):
        knock(played, signed(GOOD, at=played.stack.now.timestamp(), secret="whsec_"), GOOD)
    assert hints(played) == []
