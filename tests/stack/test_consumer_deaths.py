"""What consumers die of, and what it costs: nothing that was settled, and a call in flight at most."""

from __future__ import annotations

from datetime import timedelta

from stack_cases import START, pack, task

from lowtide.adapters.aws.ledger import DynamoLedger
from lowtide.core.records import Status
from lowtide_local.simulator.scenario import Latencies, Latency, Scenario
from lowtide_local.stack.line import Death

CHAT = "POST /v1/chat/completions"


def test_a_consumer_killed_with_a_call_in_flight_is_taken_over_in_time_and_counted(stage):
    played = stage(None, Death(CHAT, 1))
    records = played.play(task("a"))
    assert [name for name, _ in played.stack.failures] == ["ConsumerHigh"]
    # The first call was billed and its answer lost: it is paid twice, and says so; the three tries are untouched.
    assert (played.row("a").repaid, played.row("a").strikes.failures) == (1, 0)
    assert (records["a"].attempts, records["a"].deadline_met) == (2, True)
    assert played.stack.system().ledger.total().repaid == 1
    assert len(played.line.provider.billed) == 2


def test_a_critical_consumer_that_is_killed_leaves_its_successor_time(stage):
    records = stage(None, Death(CHAT, 1)).play(task("a", "live_chat_response"))
    assert records["a"].deadline_met


def test_only_what_was_not_settled_is_asked_again_after_a_kill(stage):
    played = stage(Scenario(latency=Latencies(default=Latency(min_s=1, max_s=8))), Death(CHAT, 3))
    records = played.play(pack(*(task(str(number)) for number in range(6))))
    assert len(records) == 6
    repaid = played.stack.system().ledger.total().repaid
    assert 1 <= repaid <= 4
    assert len(played.line.provider.billed) == 6 + repaid


def test_what_fails_after_the_answer_keeps_its_message_and_pays_once(stage, monkeypatch):
    played = stage()
    put, failed = DynamoLedger.put, []

    def failing(self, entries):
        if not failed:
            failed.append(entries)
            raise OSError("the table is out of reach")
        put(self, entries)

    monkeypatch.setattr(DynamoLedger, "put", failing)
    records = played.play(task("a"))
    # Reported as failed, so kept; what it still owed was paid with the second receive.
    assert played.stack.invoked["ConsumerHigh"] == 2
    assert played.metrics.total("message_errors") == 1
    assert (records["a"].attempts, played.asked(CHAT)) == (1, 1)


def test_what_cannot_begin_before_the_functions_end_goes_back_untried(stage):
    played = stage(Scenario(latency=Latencies(default=Latency(min_s=20, max_s=20))))
    records = played.play(*(pack(*(task(f"{many}-{one}") for one in range(10))) for many in range(5)))
    # 50 tasks, 40 calls at once, 20 s each: the last ten would outlive the function.
    assert {record.attempts for record in records.values()} == {1}
    assert all(record.deadline_met for record in records.values())
    assert len(played.line.provider.billed) == 50
    assert played.stack.failures == []
    assert max(record.finished_at for record in records.values()) > START + timedelta(seconds=40)


def test_a_call_that_never_ends_is_given_up_before_its_function_is_killed(stage):
    played = stage()
    records = played.play(task("a", "voice_agent_reply", text="[sim:timeout-once]"))
    assert played.stack.failures == []
    assert (records["a"].status, records["a"].attempts) == (Status.ANSWERED, 2)
    assert played.row("a").repaid == 1
