"""The poller's sweep through the deployed handler, on rows and objects of AWS."""

from __future__ import annotations

from stack_cases import low, pack

from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario

DEPLOYMENT = "lowtide-on-moto"
HOURS = BatchWeather(min_s=7_200, max_s=7_200)


def test_the_poller_cancels_a_batch_that_showed_only_after_it_was_made_again(stage):
    lost = Mishap(kind=MishapKind.REPLY_LOST, batches=(1,))
    played = stage(Scenario(batch=HOURS.model_copy(update={"mishaps": (lost,), "list_lag_s": 1_200})))
    played.send(pack(*(low(f"l{number}") for number in range(4))))
    played.stack.wait(5_400)
    orphan, ours = played.line.provider.state()["batches"]
    assert (orphan["status"], ours["status"]) == ("cancelled", "in_progress")
    [row] = played.stack.system().batches.active()
    assert row.provider_batch.id == ours["id"]
    assert played.metrics.total("orphan_batch") == 1
    assert played.stack.failures == []


def test_the_poller_deletes_a_file_that_carries_our_name_and_no_other_once_an_hour(stage):
    played = stage(Scenario(batch=HOURS))
    for name in (f"lowtide-{DEPLOYMENT}.b-9.1.jsonl", f"lowtide-{DEPLOYMENT}-2.b-9.1.jsonl"):
        played.line.provider.upload(name, "batch", b"{}\n")
    played.stack.wait(2 * 3_600 - 300)
    [left] = played.line.provider.state()["files"]
    assert left["filename"] == f"lowtide-{DEPLOYMENT}-2.b-9.1.jsonl"
    assert played.asked("GET /v1/batches") == 2
