from __future__ import annotations

import pytest
from pydantic import ValidationError

from lowtide.core.errors import ConfigError
from lowtide.core.tiers import Tier
from lowtide.settings import Settings

ENVIRONMENT = {
    "LOWTIDE_DEPLOYMENT": "shop",
    "LOWTIDE_TABLE": "table",
    "LOWTIDE_BUCKET": "bucket",
    "LOWTIDE_INTAKE_URL": "https://sqs/intake",
    "LOWTIDE_CRITICAL_URL": "https://sqs/critical",
    "LOWTIDE_HIGH_URL": "https://sqs/high",
    "LOWTIDE_NORMAL_URL": "https://sqs/normal",
    "LOWTIDE_LOW_URL": "https://sqs/low",
    "LOWTIDE_DEAD_LETTER_URL": "https://sqs/dead",
    "LOWTIDE_STRANDED_URL": "https://sqs/stranded",
}


def test_settings_come_from_the_environment_as_it_is_at_the_call(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    first = Settings.from_environment()
    monkeypatch.setenv("LOWTIDE_TABLE", "another")
    assert (first.table, Settings.from_environment().table) == ("table", "another")


def test_what_is_optional_may_be_left_out_or_left_blank():
    blank = {f"LOWTIDE_{name}": " " for name in ("SECRET_ARN", "ROUTES_PARAMETER", "BASE_URL", "TIER")}
    settings = Settings.from_environment(ENVIRONMENT | blank)
    assert settings == Settings.from_environment(ENVIRONMENT)
    assert (settings.secret_arn, settings.routes_parameter, settings.base_url, settings.tier) == (None,) * 4


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_missing_variable_is_named(name):
    with pytest.raises(ConfigError, match=f"^{name} not set"):
        Settings.from_environment(ENVIRONMENT | {name: ""})


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(ConfigError, match="LOWTIDE_DEPLOYMENT, LOWTIDE_TABLE, LOWTIDE_BUCKET"):
        Settings.from_environment({})


def test_a_consumer_learns_its_tier_and_an_unknown_one_is_refused():
    assert Settings.from_environment(ENVIRONMENT | {"LOWTIDE_TIER": "HIGH"}).tier is Tier.HIGH
    with pytest.raises(ConfigError, match="LOWTIDE_TIER is 'URGENT'; it is one of CRITICAL"):
        Settings.from_environment(ENVIRONMENT | {"LOWTIDE_TIER": "URGENT"})


def test_settings_cannot_be_changed_after_they_were_read():
    with pytest.raises(ValidationError, match="frozen"):
        Settings.from_environment(ENVIRONMENT).table = "other"


def test_every_tier_has_its_queue():
    urls = Settings.from_environment(ENVIRONMENT).tier_urls()
    assert urls == {tier: f"https://sqs/{tier.value.lower()}" for tier in Tier}
