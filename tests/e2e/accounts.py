"""The end of the day: every record, dead letter and billed line, and what is left lying around."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import boto3
import orjson

from lowtide.core.records import Status
from lowtide_local.engine.engine import Engine
from lowtide_local.operate.desk import Desk
from lowtide_local.run.reconcile import BilledLine, checks
from lowtide_local.run.records import figures, settled
from lowtide_local.stack.view import StackView

from . import workload
from .deployment import Deployment
from .findings import Findings

DEAD = {workload.DIES_IN_A_BATCH: "content_policy_violation"}
LETTERS = Counter(
    {
        "invalid_task": len(workload.MALFORMED) + 1,  # and the one in the poisoned pack
        "id_conflict": 1,
        "content_policy_violation": 1,
        "invalid_request_error": 1,  # the one that was redriven; its letter stays
    }
)


def audit(deployment: Deployment, desk: Desk, findings: Findings) -> None:
    # The view has what a report needs of the embedded engine.
    view = cast("Engine", StackView(deployment.outputs["TableName"], desk.system.ledger))
    records = [document.record for _, document in settled(desk.system, view)]
    billed = [BilledLine.of(line) for line in deployment.provider("billing")["data"]]
    for made in checks(desk.system, view, figures(desk.system, view).receipt, billed):
        findings.check(made.name, made.held, made.detail)
    ledger = desk.system.ledger.total()

    by_key = Counter((record.tenant, record.task_id) for record in records)
    accepted = workload.keys(workload.ACCEPTED)
    findings.check(
        "every accepted task has its record, and nothing else has one",
        by_key == Counter(accepted),
        f"{len(records)} records of {len(accepted)} tasks",
    )
    statuses = {(record.tenant, record.task_id): record.status for record in records}
    cancelled = {key for key, status in statuses.items() if status is Status.CANCELLED}
    stopped, held = workload.keys(workload.STUCK), workload.keys(workload.HELD[:1])
    findings.check(
        "cancelled are the held task and what the stopped batch had not answered",
        held < cancelled <= held | stopped,
        ", ".join(sorted(name for _, name in cancelled)),
    )
    unanswered = {name for (_, name), status in statuses.items() if status is not Status.ANSWERED} - set(DEAD)
    findings.equal("all the others are answered", unanswered, {name for _, name in cancelled})
    dead = {record.task_id: record.error.code for record in records if record.error and record.status is Status.DEAD}
    findings.equal("those that are dead", dead, DEAD)
    by_tier = Counter(record.tier.value for record in records)
    findings.equal("records by tier", dict(by_tier), {"CRITICAL": 20, "HIGH": 30, "LOW": 210, "NORMAL": 40})
    lanes = Counter(record.lane.value if record.lane else "none" for record in records if record.tier.value == "LOW")
    findings.equal("LOW was bought in batches", set(lanes) - {"none"}, {"batch"})
    again = {record.task_id: record.attempts for record in records if record.task_id in workload.AGAIN}
    findings.equal("lines that failed once were tried twice", again, dict.fromkeys(workload.AGAIN, 2))
    findings.equal("duplicates in the ledger", ledger.duplicates, 1)
    findings.equal("refusals in the ledger", ledger.refused, LETTERS["invalid_task"] + LETTERS["id_conflict"])

    findings.equal("errors in the functions' logs", list(_errors()), [])
    letters = list(_letters(deployment.outputs["DeadLetterQueueUrl"]))
    findings.equal("dead letters by reason", Counter(letter["error"]["code"] for letter in letters), LETTERS)
    named = {letter["task"]["task_id"] for letter in letters if isinstance(letter["task"], dict)}
    expected_names = {workload.DIES_ONCE, workload.DIES_IN_A_BATCH, "poison", workload.HIGH[0]["task_id"]}
    findings.equal("dead letters by task", named, expected_names)
    findings.equal("files left at the provider", deployment.provider("state")["files"], [])


def _letters(url: str) -> Iterator[dict[str, Any]]:
    """Takes them all."""
    client = boto3.client("sqs")
    while found := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in found:
            yield orjson.loads(message["Body"])


def _errors() -> Iterator[str]:
    """Lines of the functions' log groups that tell of an error."""
    client = boto3.client("logs")
    groups = [each for page in client.get_paginator("describe_log_groups").paginate() for each in page["logGroups"]]
    for group in groups:
        pages = client.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"])
        for line in (event["message"] for page in pages for event in page["events"]):
            if "ERROR" in line or "Traceback" in line:
                yield f"{group['logGroupName']}: {line}"
