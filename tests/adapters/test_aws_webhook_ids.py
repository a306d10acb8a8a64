from __future__ import annotations

from datetime import timedelta

from aws_cases import NOW

from lowtide.adapters.aws.webhook_ids import MEMORY, DynamoWebhookIds
from tests.contract.aws import TABLE


def test_an_id_is_known_once_it_was_noted_and_others_are_not(aws):
    ids = DynamoWebhookIds(aws.table())
    assert not ids.known("wh_1")
    ids.note("wh_1", NOW)
    assert ids.known("wh_1")
    assert not ids.known("wh_2")


def test_noting_again_leaves_one_item_that_expires(aws):
    ids = DynamoWebhookIds(aws.table())
    for hours in (0, 1):
        ids.note("wh_1", NOW + timedelta(hours=hours))
    [item] = aws.dynamodb.scan(TableName=TABLE)["Items"]
    assert item["pk"] == {"S": "webhook#wh_1"}
    assert int(item["expires_at"]["N"]) == (NOW + timedelta(hours=1) + MEMORY).timestamp()


def test_an_id_is_in_nobodys_list_of_open_work(aws):
    DynamoWebhookIds(aws.table()).note("wh_1", NOW)
    assert aws.dynamodb.scan(TableName=TABLE, IndexName="active")["Items"] == []
