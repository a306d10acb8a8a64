"""Where things are: what template.yaml puts into the environment, read once per call into one value."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lowtide.core.errors import ConfigError
from lowtide.core.model import Value
from lowtide.core.tiers import Tier

PREFIX = "LOWTIDE_"


class Settings(Value):
    """A field's name in the environment is its own in capitals behind ``LOWTIDE_``. URLs are those of SQS queues.

    ``secret_arn`` is needed by the functions that call the provider, ``tier`` by consumers. ``routes_parameter`` names
    an SSM parameter with an overlay on routes.toml; without it the shipped one is in force. ``base_url`` replaces the
    OpenAI provider's. ``hints_url`` and ``webhook_secret_arn`` are there where the deployment takes webhooks,
    ``event_bus`` (a name or an ARN) where it sends events, ``state_machine_arns`` where it wakes state machines.
    """

    deployment: str
    table: str
    bucket: str
    intake_url: str
    critical_url: str
    high_url: str
    normal_url: str
    low_url: str
    dead_letter_url: str
    stranded_url: str
    secret_arn: str | None = None
    routes_parameter: str | None = None
    base_url: str | None = None
    tier: Tier | None = None
    hints_url: str | None = None
    webhook_secret_arn: str | None = None
    event_bus: str | None = None
    state_machine_arns: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Reads the environment as it is now. Raises ConfigError, which names the variables at fault."""
        environment = os.environ if environment is None else environment
        # A template writes "" for what a deployment does not have.
        given = {name: environment.get(variable(name), "").strip() or None for name in cls.model_fields}
        required = [name for name, field in cls.model_fields.items() if field.is_required()]
        missing = [variable(name) for name in required if given[name] is None]
        if missing:
            raise ConfigError(f"{', '.join(missing)} not set in the environment; template.yaml sets every one of them")
        if given["tier"] not in {None, *Tier}:
            raise ConfigError(f"{variable('tier')} is {given['tier']!r}; it is one of {', '.join(Tier)}")
        return cls.model_validate(given)

    def tier_urls(self) -> dict[Tier, str]:
        return {
            Tier.CRITICAL: self.critical_url,
            Tier.HIGH: self.high_url,
            Tier.NORMAL: self.normal_url,
            Tier.LOW: self.low_url,
        }


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()
