"""Who may do what: roles, policies and encryption of template.yaml, after SAM's transform."""

from __future__ import annotations

import pytest
from deployed_resources import as_list, of_type

from lowtide.adapters.aws import ledger, levels, parameter

NO_NARROWER_RESOURCE = {
    "cloudwatch:GetMetricData",
    "lambda:GetAccountSettings",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
}
"""Actions for which AWS knows no resource."""
PROVIDER_CALLERS = {"ConsumerRole", "AssemblerRole", "PollerRole"}


def statements(role):
    """The statements of a role, those under a condition included."""
    written = [s for policy in role["Properties"]["Policies"] for s in policy["PolicyDocument"]["Statement"]]
    return [s["Fn::If"][1] if "Fn::If" in s else s for s in written]


def lambda_roles(deployed):
    return {
        name: role
        for name, role in of_type(deployed, "AWS::IAM::Role").items()
        if "lambda.amazonaws.com" in str(role["Properties"]["AssumeRolePolicyDocument"])
    }


def test_no_role_has_rights_that_the_template_does_not_show(deployed):
    roles = lambda_roles(deployed)
    assert len(roles) == 6
    for role in roles.values():
        assert not role["Properties"].get("ManagedPolicyArns")


def test_no_role_reaches_everything_of_a_kind(deployed):
    for name, role in lambda_roles(deployed).items():
        for statement in statements(role):
            assert statement["Effect"] == "Allow"
            actions = as_list(statement["Action"])
            assert not any("*" in action for action in actions), name
            if not NO_NARROWER_RESOURCE.issuperset(actions):
                assert "*" not in as_list(statement["Resource"]), (name, statement["Sid"])


def test_nobody_scans_or_deletes_rows(deployed):
    granted = {a for role in lambda_roles(deployed).values() for s in statements(role) for a in as_list(s["Action"])}
    assert not granted & {"dynamodb:Scan", "dynamodb:DeleteItem", "dynamodb:DeleteTable", "sqs:PurgeQueue"}


def test_only_functions_that_call_the_provider_read_its_key(deployed):
    provider_key = {"Fn::If": ["CreatesSecret", {"Ref": "ProviderSecret"}, {"Ref": "ProviderSecretArn"}]}
    readers = {
        name: statement["Resource"]
        for name, role in lambda_roles(deployed).items()
        for statement in statements(role)
        if "secretsmanager:GetSecretValue" in as_list(statement["Action"])
    }
    assert readers == dict.fromkeys(PROVIDER_CALLERS, provider_key) | {"WebhookRole": {"Ref": "WebhookSecretArn"}}


def policy_statements(deployed, policy):
    written = deployed[policy]["Properties"]["PolicyDocument"]["Statement"]
    return [s["Fn::If"][1] if "Fn::If" in s else s for s in written]


def operator_statements(deployed):
    return policy_statements(deployed, "OperatorPolicy")


@pytest.mark.parametrize("policy", ["OperatorPolicy", "RunbookPolicy", "MaintainerPolicy"])
def test_people_reach_this_deployment_alone_and_read_no_key(deployed, policy):
    for statement in policy_statements(deployed, policy):
        actions = as_list(statement["Action"])
        assert not any("*" in action for action in actions)
        assert not {"secretsmanager:GetSecretValue", "dynamodb:Scan"}.intersection(actions)
        if not NO_NARROWER_RESOURCE.issuperset(actions):
            assert "*" not in as_list(statement["Resource"])


def test_operators_delete_messages_that_are_only_copies_and_nothing_else(deployed):
    deleting = [
        (action, resource)
        for policy in ("OperatorPolicy", "RunbookPolicy")
        for statement in policy_statements(deployed, policy)
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
        if any(word in action for word in ("Delete", "Purge", "Remove", "Abort"))
    ]
    assert deleting == [
        ("sqs:DeleteMessage", {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}),
        ("sqs:DeleteMessage", {"Fn::GetAtt": ["MissedRunsQueue", "Arn"]}),
        ("sqs:PurgeQueue", {"Fn::GetAtt": ["MissedRunsQueue", "Arn"]}),
    ]


def test_only_maintainers_write_routes_keys_and_queues(deployed):
    writing = {"ssm:PutParameter", "secretsmanager:PutSecretValue", "sqs:SetQueueAttributes"}
    for policy, allowed in (("OperatorPolicy", set()), ("RunbookPolicy", set()), ("MaintainerPolicy", writing)):
        actions = {a for statement in policy_statements(deployed, policy) for a in as_list(statement["Action"])}
        assert actions & writing == allowed


@pytest.mark.parametrize("name", ["dead", "settled"])
def test_only_operators_find_tasks_by_how_they_ended(deployed, name):
    index = {"Fn::Sub": f"${{Table.Arn}}/index/{name}"}
    reached = [s["Resource"] for role in lambda_roles(deployed).values() for s in statements(role)]
    assert not any(index in as_list(resource) for resource in reached)
    assert [s["Sid"] for s in operator_statements(deployed) if index in as_list(s["Resource"])] == ["FindRows"]


def test_replies_go_only_to_the_queues_that_the_deployer_named(deployed):
    replies = [s for role in lambda_roles(deployed).values() for s in statements(role) if s["Sid"] == "Reply"]
    assert len(replies) == 3
    assert all(statement["Resource"] == {"Ref": "ReplyQueueArns"} for statement in replies)


def test_whoever_rescues_may_send_to_normal_carry_what_is_too_large_and_ask_the_history(deployed):
    roles = lambda_roles(deployed)
    for name in ("AssemblerRole", "PollerRole"):
        granted = {statement["Sid"]: statement["Resource"] for statement in statements(roles[name])}
        assert granted["Rescue"] == {"Fn::GetAtt": ["NormalQueue", "Arn"]}
        kept = granted["KeepWork" if name == "AssemblerRole" else "KeepWorkAndAnswers"]
        assert {"Fn::Sub": "${Bucket.Arn}/carried/*"} in kept
        assert {"Fn::Sub": "${Bucket.Arn}/history/*"} in granted["ReadWork"]
    poller = {statement["Sid"]: statement["Resource"] for statement in statements(roles["PollerRole"])}
    assert {"Fn::Sub": "${Bucket.Arn}/history/*"} in poller["KeepWorkAndAnswers"]


def test_the_assembler_sees_whether_critical_waits_and_takes_nothing_from_it(deployed):
    critical = {"Fn::GetAtt": ["CriticalQueue", "Arn"]}
    granted = {
        action
        for statement in statements(lambda_roles(deployed)["AssemblerRole"])
        if critical in as_list(statement["Resource"])
        for action in as_list(statement["Action"])
    }
    assert granted == {"sqs:GetQueueAttributes"}


def test_every_queue_and_the_bucket_refuse_plain_http(deployed):
    guarded = [name for policy in of_type(deployed, "AWS::SQS::QueuePolicy").values() for name in _guarded(policy)]
    assert sorted(guarded) == sorted(of_type(deployed, "AWS::SQS::Queue"))
    [bucket_policy] = of_type(deployed, "AWS::S3::BucketPolicy").values()
    assert _denies_http(bucket_policy)
    assert len(bucket_policy["Properties"]["PolicyDocument"]["Statement"][0]["Resource"]) == 2


def _guarded(policy):
    return [queue["Ref"] for queue in policy["Properties"]["Queues"]] if _denies_http(policy) else []


def _denies_http(policy):
    denial = {"Effect": "Deny", "Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    return any(
        denial.items() <= statement.items()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "Effect" in statement
    )


def test_publishers_may_send_to_the_intake_and_nowhere_else(deployed):
    allowed = [
        statement["Fn::If"][1]
        for policy in of_type(deployed, "AWS::SQS::QueuePolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "Fn::If" in statement
    ]
    [publish] = allowed
    assert publish["Resource"] == {"Fn::GetAtt": ["IntakeQueue", "Arn"]}
    assert publish["Principal"] == {"AWS": {"Ref": "PublisherArns"}}


def test_everything_at_rest_is_encrypted(deployed):
    assert all(queue["Properties"]["SqsManagedSseEnabled"] for queue in of_type(deployed, "AWS::SQS::Queue").values())
    assert deployed["Table"]["Properties"]["SSESpecification"]["SSEEnabled"]
    assert deployed["Bucket"]["Properties"]["BucketEncryption"]


def test_the_bucket_is_nobody_elses_and_empties_itself(deployed):
    bucket = deployed["Bucket"]["Properties"]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    rules = bucket["LifecycleConfiguration"]["Rules"]
    expiring = {rule["Prefix"] for rule in rules if "ExpirationInDays" in rule}
    assert expiring == {"parts/", "batches/", "carried/", "results/", "raw/", "letters/", "history/"}
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)


def test_functions_reach_no_prefix_that_never_expires(deployed):
    rules = deployed["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = {rule["Prefix"] for rule in rules if "Prefix" in rule}
    reached = {
        resource["Fn::Sub"].removeprefix("${Bucket.Arn}/").removesuffix("*")
        for role in lambda_roles(deployed).values()
        for statement in statements(role)
        if any(action in as_list(statement["Action"]) for action in ("s3:GetObject", "s3:PutObject"))
        for resource in as_list(statement["Resource"])
    }
    assert reached - {parameter.FOLDER} == expiring, "and no rule is about a prefix that nobody writes"


def test_a_function_reads_routes_and_cannot_write_them(deployed):
    everyone = [*map(statements, lambda_roles(deployed).values()), operator_statements(deployed)]
    routes = {"Fn::Sub": f"${{Bucket.Arn}}/{parameter.FOLDER}*"}
    reaching = [s["Action"] for written in everyone for s in written if routes in as_list(s["Resource"])]
    reading = [s for written in everyone for s in written if "ssm:GetParameter" in as_list(s["Action"])]
    assert reaching == ["s3:GetObject"] * len(reading)
    assert not any("ssm:PutParameter" in as_list(s["Action"]) for written in everyone for s in written)


def test_only_functions_that_settle_tasks_send_events_and_only_to_the_bus_that_the_deployer_named(deployed):
    senders = {
        name: statement["Resource"]
        for name, role in lambda_roles(deployed).items()
        for statement in statements(role)
        if "events:PutEvents" in as_list(statement["Action"])
    }
    assert senders == {name: {"Ref": "EventBusArn"} for name in PROVIDER_CALLERS}


def test_only_functions_that_end_tasks_wake_and_only_the_state_machines_that_the_deployer_named(deployed):
    both = ["states:SendTaskSuccess", "states:SendTaskFailure"]
    wakers = {
        name: (as_list(statement["Action"]), statement["Resource"])
        for name, role in lambda_roles(deployed).items()
        for statement in statements(role)
        if any(action.startswith("states:") for action in as_list(statement["Action"]))
    }
    named = {"Ref": "StateMachineArns"}
    settle = dict.fromkeys(PROVIDER_CALLERS, (both, named))
    assert wakers == settle | {"IngestRole": (["states:SendTaskFailure"], named)}


def test_nobody_may_tell_or_wake_anyone_where_none_is_named(template):
    def conditions(role):
        policies = template.document["Resources"][role]["Properties"]["Policies"]
        for policy in policies:
            for statement in policy["PolicyDocument"]["Statement"]:
                if "Fn::If" in statement:
                    condition, granted, _ = statement["Fn::If"]
                    yield granted["Sid"], condition

    for role in sorted(PROVIDER_CALLERS):
        found = dict(conditions(role))
        assert (found["Tell"], found["Wake"]) == ("SendsEvents", "WakesStateMachines")
    assert dict(conditions("IngestRole"))["WakeRefused"] == "WakesStateMachines"


def test_ingest_which_reads_what_strangers_send_reaches_no_row_of_a_task_or_a_batch(deployed):
    granted = [
        statement
        for statement in statements(lambda_roles(deployed)["IngestRole"])
        if any(action.startswith("dynamodb:") for action in as_list(statement["Action"]))
    ]
    reached = {
        tuple(as_list(statement["Action"])): set(
            statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
        )
        for statement in granted
    }
    assert reached == {
        ("dynamodb:BatchGetItem",): {f"{levels.PARTITIONS}*"},
        ("dynamodb:PutItem",): {f"{ledger.PARTITIONS}*"},
        ("dynamodb:BatchWriteItem",): {f"{levels.PARTITIONS}*"},
    }


def test_the_poller_alone_takes_what_is_stranded_and_no_function_adds_to_it(deployed):
    stranded = {"Fn::GetAtt": ["StrandedQueue", "Arn"]}
    allowed = {
        name: as_list(statement["Action"])
        for name, role in lambda_roles(deployed).items()
        for statement in statements(role)
        if stranded in as_list(statement["Resource"])
    }
    assert allowed == {"PollerRole": ["sqs:ReceiveMessage", "sqs:DeleteMessage"]}


def test_the_poller_alone_keeps_lines_that_it_cannot_use_and_no_function_reads_them(deployed):
    raw = {"Fn::Sub": "${Bucket.Arn}/raw/*"}
    allowed = [
        (name, statement["Action"])
        for name, role in lambda_roles(deployed).items()
        for statement in statements(role)
        if raw in as_list(statement["Resource"])
    ]
    assert allowed == [("PollerRole", "s3:PutObject"), ("PollerRole", "s3:AbortMultipartUpload")]
