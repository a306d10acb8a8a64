"""``lowtide dead redrive``: asked first, done whole, finished where it was cut off."""

from __future__ import annotations

import json
from decimal import Decimal

import boto3

from lowtide.core.errors import LowtideError
from lowtide.core.records import Status
from lowtide.steps import redrive as redrive_step
from lowtide_local.operate import redriving
from tests.operate.conftest import DIES
from tests.stack.stack_cases import task


def listed(lowtide, *options):
    return [each["task_id"] for each in json.loads(lowtide("dead", "list", "--json", *options).out)["dead"]]


def test_a_redrive_shows_its_cost_and_asks(dead, lowtide):
    ended = lowtide("dead", "redrive", "--type", "email_draft", answer="n")
    assert ended.code == 1
    assert ended.said == "nothing was redriven"
    assert "What it would cost" in ended.out
    assert "Redrive them?" in ended.err
    assert dead.row("draft").generation == 0
    agreed = lowtide("dead", "redrive", "--type", "email_draft", answer="y")
    assert agreed.code == 0
    assert "1 redriven" in agreed.out
    assert dead.row("draft").generation == 1


def test_all_of_them_go_round_again_and_the_books_hold(dead, lowtide):
    ended = lowtide("dead", "redrive", "--all", "--yes", "--json")
    assert ended.code == 0
    document = json.loads(ended.out)
    assert (document["tasks"], document["redriven"], document["left"]) == (3, 3, [])
    lanes = {(each["lane"], each["tasks"]) for each in document["estimate"]["by_lane_and_model"]}
    assert lanes == {("batch", 1), ("default", 2)}
    dead.stack.settle()
    records = dead.audited()
    assert {name: (dead.row(name).generation, record.status) for name, record in records.items()} == {
        "draft": (1, Status.DEAD),
        "voice": (1, Status.DEAD),
        "bulk": (1, Status.DEAD),
        "fine": (0, Status.ANSWERED),
    }


def test_the_estimate_counts_input_by_its_size_output_by_its_limit_and_what_has_no_price_not_at_all(stage, lowtide):
    played = stage()
    limited = task("limited", text=DIES)
    limited["request"]["body"] |= {"max_completion_tokens": 1000, "n": 2}
    played.play(limited, task("open", text=DIES), task("odd", text=DIES, model="in-house"))
    estimate = json.loads(lowtide("dead", "redrive", "--all", "--dry-run", "--json").out)["estimate"]
    assert (estimate["tasks"], estimate["output_tokens_at_most"], estimate["unlimited"]) == (3, 2000, 2)
    assert 3 * 25 < estimate["input_tokens"] < 3 * 100
    [priced] = [each for each in estimate["by_lane_and_model"] if not each["unpriced"]]
    prices = played.stack.system().prices.models["gpt-5-mini"][-1].lanes["default"]
    least = priced["input_tokens"] * prices.input / 10**6
    assert Decimal(estimate["least_usd"]) == Decimal(priced["least_usd"]) == least
    assert Decimal(estimate["most_usd"]) == least + 2000 * prices.output / 10**6
    text = lowtide("dead", "redrive", "--all", "--dry-run").out
    assert "2 set no limit on their answer" in text
    assert "1 have no known price" in text


def test_named_tasks_that_are_not_dead_are_told_and_the_others_go(dead, lowtide):
    ended = lowtide("dead", "redrive", "draft", "fine", "nobody", "--tenant", "acme", "--yes")
    assert ended.code == 1
    assert ended.said == "2 of 3 cannot be redriven"
    assert "1 redriven" in ended.out
    assert "fine is not dead" in ended.out
    assert dead.row("draft").generation == 1


def test_a_letter_that_retention_removed_is_told(dead, lowtide):
    bucket = boto3.resource("s3").Bucket(dead.stack.physical["Bucket"])
    bucket.objects.filter(Prefix="results/").delete()
    ended = lowtide("dead", "redrive", "bulk", "--tenant", "acme", "--yes")
    assert ended.code == 1
    assert "send it anew" in ended.out
    assert "send the task anew" in lowtide("dead", "show", "bulk", "--tenant", "acme").said


def test_with_nothing_dead_there_is_nothing_to_do(stage, lowtide):
    stage()
    assert lowtide("dead", "list").out == "no task is dead\n"
    ended = lowtide("dead", "redrive", "--all", "--yes")
    assert (ended.code, ended.out) == (0, "no dead task is like that\n")


def test_a_redrive_that_was_cut_off_is_finished_by_the_same_order(dead, lowtide, monkeypatch):
    """The process dies between the rows and the messages of its second portion."""
    monkeypatch.setattr(redriving, "AT_ONCE", 1)
    send, sent = redrive_step.send_tasks, []

    def cut_off(system, tasks):
        if sent:
            raise LowtideError("the network is gone")
        sent.extend(tasks)
        send(system, tasks)

    monkeypatch.setattr(redrive_step, "send_tasks", cut_off)
    ended = lowtide("dead", "redrive", "--all", "--yes")
    assert ended.code == 1
    assert "cut off after 1 of 3: give the same order again" in ended.err
    monkeypatch.setattr(redrive_step, "send_tasks", send)
    assert sorted(listed(lowtide)) == ["bulk", "draft", "voice"]
    assert "redriven, not taken up yet" in lowtide("dead", "list").out
    again = lowtide("dead", "redrive", "--all", "--yes")
    assert again.code == 0
    assert "2 were redriven before and not taken up since" in again.out
    dead.stack.settle()
    assert {row.generation for row in dead.rows() if row.task_id != "fine"} == {1}
    dead.audited()
