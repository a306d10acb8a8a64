"""Types that say ``auto``, through the deployed handlers: routes from the parameter, questions by the consumers."""

from __future__ import annotations

from importlib.resources import files

import boto3

from lowtide.adapters.shipped import shipped_routes
from lowtide.core.lanes import Lane

PARAMETER = "/lowtide/routes"


def auto_routes() -> str:
    """The shipped file, but for two types that say ``auto``."""
    text = files("lowtide").joinpath("routes.toml").read_text("utf-8")
    for kind in ("email_draft", "report_generation"):
        [line] = [each for each in text.splitlines() if each.startswith(f"{kind} = ")]
        [model] = [word for word in ('model = "standard"', 'model = "complex"') if word in line]
        text = text.replace(line, line.replace(model, 'model = "auto"'))
    return text


def paying(task_id, kind, says):
    return {"task_id": task_id, "type": kind, "tenant": "acme", "payload": {"text": f"Which? [sim:says-{says}]"}}


def test_the_consumers_ask_once_and_hand_on_what_a_batch_may_carry(stage):
    models = shipped_routes().profiles
    played = stage(parameters={"RoutesParameter": PARAMETER})
    boto3.client("ssm").put_parameter(Name=PARAMETER, Value=auto_routes(), Type="String", Tier="Advanced")
    records = played.play(paying("now", "email_draft", "complex"), paying("bulk", "report_generation", "simple"))
    assert {name: (record.model, record.lane, record.attempts) for name, record in records.items()} == {
        "now": (models["complex"], Lane.DEFAULT, 1),
        "bulk": (models["simple"], Lane.BATCH, 1),
    }
    assert all(f"{models['simple']} was asked" in record.route for record in records.values())
    assert len([line for line in played.line.provider.billed if "-q" in line.id]) == len(records)
    assert played.stack.failures == []
