"""routes.toml as a deployment overrides it: in an SSM parameter."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lowtide.core.errors import ConfigError
from lowtide.core.routes import Routes
from lowtide.ports import Clock, Metrics

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

MAX_AGE = timedelta(seconds=60)
"""A change is in force everywhere this long after."""
_VERSIONS_BACK = 10
"""How many earlier versions a new process tries for the last good one (SSM keeps 100)."""


class RoutesParameter:
    """The last good version of a parameter's text.

    A bad one is refused: it is counted (``routes_refused``) and logged with the line at fault, as often as it is met,
    and the last good one stays in force. A process that has seen no good one looks for it in the parameter's history,
    since the shipped routes would silently drop what this deployment protects.
    """

    def __init__(self, client: SSMClient, name: str, clock: Clock, metrics: Metrics) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._metrics = metrics
        self._good: Routes | None = None
        self._looked_at: datetime | None = None

    def current(self) -> Routes:
        """Raises ConfigError where no good version can be found."""
        now = self._clock.now()
        if self._good is None or self._looked_at is None or now - self._looked_at >= MAX_AGE:
            self._good = self._look(self._good)
            self._looked_at = now
        return self._good

    def _look(self, last_good: Routes | None) -> Routes:
        try:
            parameter = self._client.get_parameter(Name=self._name)["Parameter"]
        except (BotoCoreError, ClientError) as error:
            if last_good is None:
                raise ConfigError(f"SSM parameter {self._name} cannot be read: {error}") from error
            self._metrics.log("routes_unread", parameter=self._name, reason=str(error))
            return last_good
        try:
            return Routes.load(parameter["Value"])
        except ConfigError as fault:
            self._metrics.count("routes_refused")
            self._metrics.log("routes_refused", parameter=self._name, version=parameter["Version"], reason=str(fault))
            return last_good or self._earlier(parameter["Version"], fault)

    def _earlier(self, version: int, fault: ConfigError) -> Routes:
        for earlier in range(version - 1, max(0, version - 1 - _VERSIONS_BACK), -1):
            try:
                return Routes.load(self._client.get_parameter(Name=f"{self._name}:{earlier}")["Parameter"]["Value"])
            except (ConfigError, ClientError):
                continue
        raise ConfigError(f"SSM parameter {self._name} has no good version: {fault}") from fault
