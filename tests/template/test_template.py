"""template.yaml, after SAM's transform: what AWS would be asked to create."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from deployed_resources import of_type

from consumer import SETTLE_S
from lowtide.adapters.aws import dead_index, rows, settled_index
from lowtide.core.routes import Routes
from lowtide.core.tasks import TaskState, born
from lowtide.core.tiers import Tier
from lowtide.settings import Settings, variable
from lowtide.steps.preserve import EVERY
from lowtide_local.stack.template import Template
from tests.contract.cases import task

ROOT = Path(__file__).parents[2]
DEADLINES_S = {"CriticalQueue": 30, "HighQueue": 60, "NormalQueue": 3600}
WORK_QUEUES = ("IntakeQueue", "CriticalQueue", "HighQueue", "NormalQueue", "LowQueue", "HintQueue")


def lint(*files: Path, ignore: tuple[str, ...] = ()) -> tuple[int, str, str]:
    cfn_lint = Path(sys.executable).with_name("cfn-lint")
    command = [cfn_lint, *files, *(f"--ignore-checks={rule}" for rule in ignore)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    return (linted.returncode, linted.stdout, linted.stderr)


def test_cfn_lint_finds_nothing():
    files = [ROOT / "template.yaml", *sorted((ROOT / "infra").glob("*.yaml"))]
    assert lint(*files) == (0, "", "")


@pytest.mark.parametrize("way", ["transformed", "staged"])
def test_cfn_lint_finds_nothing_in_what_is_deployed(request, way, tmp_path):
    """CloudFormation sees the transformed template. Names that SAM makes up can collide there, and only there."""
    path = tmp_path / "transformed.json"
    path.write_text(json.dumps(request.getfixturevalue(way)), encoding="utf-8")
    # W1028: the variables of Globals name a condition that is settled where they are copied into a function under it.
    # W1020, W7001: SAM has filled in the parameter that chooses how traffic shifts, and so used up the mapping.
    assert lint(path, ignore=("W1028", "W1020", "W7001")) == (0, "", "")


def test_no_output_bears_the_name_of_a_list_parameter(template):
    """`sam build` fails on one (https://github.com/aws/aws-sam-cli/issues/8627); no linter sees it."""
    parameters = template.document["Parameters"]
    lists = {name for name, parameter in parameters.items() if "List" in parameter["Type"]}
    assert len(lists) == 3
    assert lists.isdisjoint(template.document["Outputs"])


def test_no_default_of_a_guided_deployment_stops_it(template):
    """`sam deploy --guided` asks whether a function URL without authentication is okay, also where a condition leaves
    the URL out, and stops at its default answer. It looks at FunctionUrlConfig and at Api events alone."""
    functions = of_type(template.document["Resources"], "AWS::Serverless::Function").values()
    events = [event["Type"] for f in functions for event in f["Properties"].get("Events", {}).values()]
    assert not any("FunctionUrlConfig" in function["Properties"] for function in functions)
    assert {"Api", "HttpApi"}.isdisjoint(events)


@pytest.mark.parametrize("queue", WORK_QUEUES)
def test_each_queue_redrives_only_what_a_thousand_receives_did_not_end(deployed, queue):
    assert deployed[queue]["Properties"]["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": ["StrandedQueue", "Arn"]},
        "maxReceiveCount": 1000,
    }


def test_messages_that_wait_for_a_person_are_kept_longer_than_those_at_work(deployed):
    kept = {name: q["Properties"]["MessageRetentionPeriod"] for name, q in of_type(deployed, "AWS::SQS::Queue").items()}
    at_work = max(kept[queue] for queue in WORK_QUEUES)
    assert {name for name, seconds in kept.items() if seconds > at_work} == kept.keys() - set(WORK_QUEUES)


def test_every_queue_function_reports_item_by_item_and_is_held_back_at_its_poller(template: Template):
    sources = {name: function.sources for name, function in template.functions.items() if function.sources}
    assert {source.queue: name for name, [source] in sources.items()} == {
        "IntakeQueue": "Ingest",
        "CriticalQueue": "ConsumerCritical",
        "HighQueue": "ConsumerHigh",
        "NormalQueue": "ConsumerNormal",
    }
    for [source] in sources.values():
        assert source.partial_failures
        assert source.max_concurrency is not None
        assert 2 <= source.max_concurrency <= 1000


def test_what_waits_is_written_anew_three_times_before_the_bucket_takes_it(template: Template):
    shortest = template.document["Parameters"]["PromptRetentionDays"]["MinValue"]
    assert timedelta(days=shortest) >= 3 * EVERY


def test_the_transformed_mappings_say_the_same(deployed):
    mappings = of_type(deployed, "AWS::Lambda::EventSourceMapping").values()
    assert len(mappings) == 5
    for mapping in mappings:
        assert mapping["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert "MaximumConcurrency" in mapping["Properties"]["ScalingConfig"]


def test_a_queue_hides_its_messages_at_least_as_long_as_their_function_runs(template: Template):
    for function in template.functions.values():
        for source in function.sources:
            assert template.visibilities_s[source.queue] >= function.timeout_s
    assert template.visibilities_s["LowQueue"] > template.functions["Assembler"].timeout_s


@pytest.mark.parametrize(("queue", "deadline_s"), DEADLINES_S.items())
def test_a_crashed_consumers_work_returns_with_a_third_of_its_deadline_left(template, queue, deadline_s):
    assert template.visibilities_s[queue] <= deadline_s * 2 / 3


def test_a_call_has_ended_and_settled_before_its_function_does(template):
    routes = Routes.load((ROOT / "functions" / "lowtide" / "routes.toml").read_text(encoding="utf-8"))
    for tier in (Tier.CRITICAL, Tier.HIGH, Tier.NORMAL):
        function = template.functions[f"Consumer{tier.title()}"]
        assert routes.tiers[tier].call_timeout_s + SETTLE_S <= function.timeout_s, tier


def test_a_lease_outlives_the_function_that_took_it(template):
    routes = Routes.load((ROOT / "functions" / "lowtide" / "routes.toml").read_text(encoding="utf-8"))
    for name in ("Assembler", "Poller"):
        assert routes.batching.lease_s > template.functions[name].timeout_s


def test_a_crash_of_ingest_costs_a_critical_task_a_third_of_its_deadline(template):
    assert template.visibilities_s["IntakeQueue"] <= DEADLINES_S["CriticalQueue"] / 3


def test_no_window_holds_back_what_is_urgent(template):
    windows = {source.queue: source.window_s for function in template.functions.values() for source in function.sources}
    assert [windows[queue] for queue in ("IntakeQueue", "CriticalQueue", "HighQueue")] == [0, 0, 0]


def test_consumers_are_one_handler_with_a_tier_each(template):
    consumers = [function for name, function in template.functions.items() if name.startswith("Consumer")]
    assert {function.handler for function in consumers} == {"consumer.handler"}
    assert {function.environment["LOWTIDE_TIER"] for function in consumers} == {"CRITICAL", "HIGH", "NORMAL"}


def test_schedules_give_up_after_two_tries_and_leave_a_trace(deployed, template):
    schedules = of_type(deployed, "AWS::Scheduler::Schedule").values()
    assert len(schedules) == 3
    for schedule in schedules:
        target = schedule["Properties"]["Target"]
        assert target["RetryPolicy"] == {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 1800}
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["MissedRunsQueue", "Arn"]}}
        assert "Name" not in schedule["Properties"], "a fixed name would stop a second stack in the account"
    rates = {name: function.schedules_s for name, function in template.functions.items() if function.schedules_s}
    assert rates == {"Assembler": (300,), "Poller": (60,), "Reporter": (300,)}


def test_an_old_tick_is_not_run_late(deployed):
    invoked = of_type(deployed, "AWS::Lambda::EventInvokeConfig").values()
    assert len(invoked) == 3
    for config in invoked:
        assert config["Properties"]["MaximumRetryAttempts"] == 0
        assert config["Properties"]["MaximumEventAgeInSeconds"] <= 300


def test_a_run_that_ages_out_or_fails_leaves_a_trace(deployed):
    """The scheduler invokes asynchronously: Lambda takes the event, and drops it after five minutes of throttling."""
    queue = {"Fn::GetAtt": ["MissedRunsQueue", "Arn"]}
    for config in of_type(deployed, "AWS::Lambda::EventInvokeConfig").values():
        assert config["Properties"]["DestinationConfig"] == {"OnFailure": {"Destination": queue}}
        role = deployed[config["Properties"]["FunctionName"]["Ref"]]["Properties"]["Role"]["Fn::GetAtt"][0]
        [policy] = deployed[role]["Properties"]["Policies"]
        sending = [s for s in policy["PolicyDocument"]["Statement"] if s.get("Resource") == queue]
        assert [s["Action"] for s in sending] == ["sqs:SendMessage"]


def test_functions_run_where_they_were_measured(deployed):
    for function in of_type(deployed, "AWS::Lambda::Function").values():
        assert function["Properties"]["Runtime"] == "python3.13"
        assert function["Properties"]["Architectures"] == ["arm64"]


def test_every_function_has_every_setting_under_its_name(template):
    named = {variable(name) for name in Settings.model_fields}
    for name, function in template.functions.items():
        ours = {key for key in function.environment if key.startswith("LOWTIDE_")}
        assert ours | {"LOWTIDE_TIER"} == named, name


def test_settings_are_read_from_what_the_template_sets(template):
    names = (*WORK_QUEUES, "DeadLetterQueue", "StrandedQueue", "Table", "Bucket", "ProviderSecret")
    environment = template.environment("ConsumerHigh", {name: f"the {name}" for name in (*names, "AWS::StackName")})
    settings = Settings.from_environment(environment)
    assert settings.tier is Tier.HIGH
    assert settings.tier_urls() == {
        Tier.CRITICAL: "the CriticalQueue",
        Tier.HIGH: "the HighQueue",
        Tier.NORMAL: "the NormalQueue",
        Tier.LOW: "the LowQueue",
    }
    assert settings.deployment == "the AWS::StackName"
    assert (settings.table, settings.bucket) == ("the Table", "the Bucket")
    assert settings.secret_arn == "the ProviderSecret"


def test_an_existing_secret_takes_the_place_of_a_created_one(deployed):
    arn = {"Fn::If": ["CreatesSecret", {"Ref": "ProviderSecret"}, {"Ref": "ProviderSecretArn"}]}
    for function in of_type(deployed, "AWS::Lambda::Function").values():
        assert function["Properties"]["Environment"]["Variables"]["LOWTIDE_SECRET_ARN"] == arn


def test_the_table_has_the_keys_and_the_indexes_that_the_rows_use(deployed):
    table = deployed["Table"]["Properties"]
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]
    active, dead, settled = table["GlobalSecondaryIndexes"]
    assert active["IndexName"] == rows.INDEX
    assert [key["AttributeName"] for key in active["KeySchema"]] == ["active_kind", "active_since"]
    assert dead["IndexName"] == dead_index.INDEX
    in_it = [key["AttributeName"] for key in dead["KeySchema"]] + dead["Projection"]["NonKeyAttributes"]
    row = born(task()).model_copy(update={"state": TaskState.DEAD, "error_code": "expired"})
    assert in_it == list(dead_index.dead_attributes(row))
    assert settled["IndexName"] == settled_index.INDEX
    answered = row.model_copy(update={"state": TaskState.ANSWERED, "settled_at": row.accepted_at})
    assert [key["AttributeName"] for key in settled["KeySchema"]] == list(settled_index.settled_attributes(answered))
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"


@pytest.mark.parametrize("name", ["Table", "Bucket", "ProviderSecret", "DeadLetterQueue", "StrandedQueue"])
def test_what_cannot_be_made_again_outlives_the_stack(deployed, name):
    policies = deployed[name]["DeletionPolicy"], deployed[name]["UpdateReplacePolicy"]
    assert policies == ("RetainExceptOnCreate", "Retain"), "what a first deployment made and failed is not left behind"


def test_every_function_logs_into_a_group_that_forgets(deployed):
    groups = of_type(deployed, "AWS::Logs::LogGroup")
    assert all(group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())
    assert all("DeletionPolicy" in group for group in groups.values())
    used = [
        f["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] for f in of_type(deployed, "AWS::Lambda::Function").values()
    ]
    assert sorted(used) == sorted(groups)


def test_every_parameter_explains_and_is_shown_in_a_group(template):
    parameters = template.document["Parameters"]
    assert all("Description" in parameter and "Default" in parameter for parameter in parameters.values())
    groups = template.document["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(parameters)


def test_outputs_tell_publishers_and_operators_where_everything_is(template):
    outputs = template.document["Outputs"]
    for queue in of_type(template.document["Resources"], "AWS::SQS::Queue"):
        assert {f"{queue}Url", f"{queue}Arn"} <= outputs.keys()
    assert {"TableName", "BucketName", "SecretArn", "AlarmTopic", "DashboardUrl"} <= outputs.keys()
