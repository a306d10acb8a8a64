"""A deployment's routes: an overlay on the shipped ones, in an SSM parameter or in an object that it points to."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lowtide.core.errors import ConfigError, LowtideError, NotFound
from lowtide.core.overlays import overlaid
from lowtide.core.routes import Routes
from lowtide.core.toml_lines import MOST_CHARACTERS
from lowtide.ports import Clock, Metrics

from .objects import S3Objects

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

MAX_AGE = timedelta(seconds=60)
"""A change is in force everywhere this long after."""
FOLDER = "routes/"
"""Where in the deployment's bucket the objects lie that parameters point to. No lifecycle rule expires them."""
_VERSIONS_BACK = 10
"""How many earlier versions a new process tries for the last good one (SSM keeps 100)."""
_POINTER = re.compile(r"(?i:s3)://([^/\s]*)/?(\S*)")
_MOST_BYTES = 4 * MOST_CHARACTERS
"""UTF-8 takes at most four bytes for a character."""
_WRITERS = frozenset({"NoSuchKey", "NoSuchBucket", "AccessDenied", "InvalidRange"})
"""Codes of S3 that only the parameter's writer can mend. Any other, such as ExpiredToken, passes."""
_NO_VERSION = frozenset({"ParameterNotFound", "ParameterVersionNotFound"})


class RoutesParameter:
    """The last good version of a parameter's text.

    The text is an overlay, or ``s3://BUCKET/routes/…``, the object in the deployment's own bucket that holds it.
    A bad one is refused: it is counted (``routes_refused``) and logged with the line at fault, as often as it is met,
    and the last good one stays in force. A process that has seen no good one looks for it in the parameter's history,
    since the shipped routes would silently drop what this deployment protects.
    """

    def __init__(
        self, client: SSMClient, name: str, objects: S3Objects, shipped: str, clock: Clock, metrics: Metrics
    ) -> None:
        self._client = client
        self._name = name
        self._objects = objects
        self._shipped = shipped
        self._clock = clock
        self._metrics = metrics
        self._good: tuple[str, Routes] | None = None
        self._looked_at: datetime | None = None

    def current(self) -> Routes:
        """Raises ConfigError where no good version can be found."""
        now = self._clock.now()
        if self._good is None or self._looked_at is None or now - self._looked_at >= MAX_AGE:
            self._good = self._look(self._good)
            self._looked_at = now
        return self._good[1]

    def _look(self, last_good: tuple[str, Routes] | None) -> tuple[str, Routes]:
        version = 0
        try:
            parameter = self._client.get_parameter(Name=self._name)["Parameter"]
            version = parameter["Version"]
            return self._read(parameter["Value"], last_good)
        except ConfigError as fault:
            self._metrics.count("routes_refused")
            self._metrics.log("routes_refused", parameter=self._name, version=version, reason=str(fault))
            return last_good or self._earlier(version, fault)
        except (BotoCoreError, ClientError, LowtideError) as error:
            if last_good is None:
                raise ConfigError(f"SSM parameter {self._name} cannot be read: {error}") from error
            self._metrics.log("routes_unread", parameter=self._name, reason=str(error))
            return last_good

    def _earlier(self, version: int, fault: ConfigError) -> tuple[str, Routes]:
        for earlier in range(version - 1, max(0, version - 1 - _VERSIONS_BACK), -1):
            try:
                return self._read(self._client.get_parameter(Name=f"{self._name}:{earlier}")["Parameter"]["Value"])
            except ConfigError:
                continue
            except ClientError as error:
                if error.response["Error"]["Code"] in _NO_VERSION:
                    continue
                # An older one would be taken for the last good one. What failed for a moment is asked again.
                raise ConfigError(f"SSM parameter {self._name}:{earlier} cannot be read: {error}") from error
        raise ConfigError(f"SSM parameter {self._name} has no good version: {fault}") from fault

    def _read(self, value: str, known: tuple[str, Routes] | None = None) -> tuple[str, Routes]:
        """Raises ConfigError for what only its writer can mend."""
        pointer = _POINTER.fullmatch(value.strip())
        text = value if pointer is None else self._pointed_to(pointer[1], pointer[2])
        return known if known is not None and known[0] == text else (text, overlaid(self._shipped, text))

    def _pointed_to(self, bucket: str, key: str) -> str:
        if bucket != self._objects.bucket or not key.startswith(FOLDER):
            raise ConfigError(f"s3://{bucket}/{key}: put it under s3://{self._objects.bucket}/{FOLDER}")
        try:
            return self._objects.get(key, length=_MOST_BYTES + 1).decode()
        except NotFound as error:
            raise ConfigError(f"{error}; upload it, or name another in the parameter") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"s3://{bucket}/{key} is no UTF-8 at byte {error.start}: save it as UTF-8") from error
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _WRITERS:
                raise ConfigError(f"s3://{bucket}/{key} cannot be read ({code}): upload it, or allow it") from error
            raise
