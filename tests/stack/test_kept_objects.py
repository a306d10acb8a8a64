"""What the handlers write into the bucket, and the lifecycle rules that take it away again."""

from __future__ import annotations

from stack_cases import TEMPLATE, low, pack, task

from lowtide.adapters.aws.objects import S3Objects
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario
from lowtide_local.stack.template import load, transform

DIES = "[sim:refuse]"


def test_every_key_that_the_handlers_write_falls_under_a_rule_that_expires_it(stage, monkeypatch):
    keys, put = [], S3Objects.put

    def noted(self, key, data):
        keys.append(key)
        put(self, key, data)

    monkeypatch.setattr(S3Objects, "put", noted)
    expired = BatchWeather(mishaps=(Mishap(kind=MishapKind.EXPIRES, batches=(1,)),))
    played = stage(Scenario(batch=expired))
    large = low("large", text="long " * 190_000)
    records = played.play(task("high"), task("dead", text=DIES), large, pack(low("low"), low("low-dead", text=DIES)))
    assert len(records) == 5
    [bucket] = (r for r in transform(load(TEMPLATE))["Resources"].values() if r["Type"] == "AWS::S3::Bucket")
    rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = tuple(rule["Prefix"] for rule in rules if "ExpirationInDays" in rule)
    assert [key for key in keys if not key.startswith(expiring)] == []
    assert {key.partition("/")[0] for key in keys} >= {"parts", "batches", "results", "history", "carried"}
