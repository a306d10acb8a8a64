"""What the simulated provider does to those who ask it: a frozen value, read from a TOML file.

``Scenario()`` is fair weather: nothing fails and nothing takes long. ``Scenario.default()`` is the weather of
``lowtide simulate``. docs/simulator.md describes every setting.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from lowtide.core.errors import ConfigError
from lowtide.core.model import Value

from .downloads import Ranges

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


class Latency(Value):
    """Drawn evenly between ``min_s`` and ``max_s``; a ``slow_share`` of requests takes ``slow_s`` instead."""

    min_s: Seconds = 0.0
    max_s: Seconds = 0.0
    slow_share: Share = 0.0
    slow_s: Seconds = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_s < self.min_s:
            raise ValueError("max_s is below min_s; swap them")
        return self


class Latencies(Value):
    priority: Latency = Latency()
    default: Latency = Latency()
    flex: Latency = Latency()
    embeddings: Latency = Latency()


class CallFaults(Value):
    """Shares of real-time requests. The first ``tries`` sights of a request may meet a fault, later ones never do."""

    rate_limited: Share = 0.0
    server_error: Share = 0.0
    refused: Share = 0.0
    """Refused for their content: drawn once for a request, and so for good."""
    flex_unavailable: Share = 0.0
    retry_after_s: int = Field(default=1, ge=0)
    every_nth_rate_limited: int = Field(default=0, ge=0)
    """Every nth call, counted over all calls; 0: none. The only setting that depends on the order of requests."""
    tries: int = Field(default=1, ge=0)


class RateLimit(Value):
    """What a model lets through: a bucket that fills at ``requests_per_minute`` (and ``tokens_per_minute``) and holds
    ``burst_s`` seconds of it. A call over it answers 429 with Retry-After, and ``x-ratelimit-*`` headers tell of it."""

    requests_per_minute: float = Field(gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    burst_s: float = Field(default=60.0, gt=0)
    headers: bool = True
    """Say the limit in every answer. Not every server does."""


class WindowKind(StrEnum):
    RATE_LIMIT = "rate_limit"
    """Calls and new batches answer 429 with Retry-After."""
    OUTAGE = "outage"
    """Everything answers 503."""
    QUOTA = "quota"
    """Calls and new batches answer 429 ``insufficient_quota``."""
    NO_FLEX = "no_flex"
    """Calls on flex answer 429 ``resource_unavailable``."""


class Window(Value):
    """From ``from_s`` up to ``to_s`` seconds after the provider started."""

    kind: WindowKind
    from_s: Seconds
    to_s: Seconds


class MishapKind(StrEnum):
    EXPIRES = "expires"
    """Ends ``expired`` after its duration, with ``fraction`` of its lines finished."""
    FAILS_VALIDATION = "fails_validation"
    """Ends ``failed``, naming the lines in ``lines``; with none given it names none."""
    TOKEN_LIMIT = "token_limit"  # noqa: S105 - tokens of text, no secret
    REPLY_LOST = "reply_lost"
    """The batch is created, and the connection breaks before the reply."""
    SHUFFLED = "shuffled"
    DUPLICATE_LINE = "duplicate_line"
    NO_OUTPUT_FILE = "no_output_file"
    """Ends ``completed`` with ``output_file_id`` null and nothing billed."""
    BLANK_ERROR_FILE_ID = "blank_error_file_id"
    NEVER_ENDS = "never_ends"
    SLOW = "slow"
    """Takes ``factor`` times as long."""
    DOWNLOAD_RESET = "download_reset"
    """The first ``downloads`` downloads of each of its files break half-way."""
    DOWNLOAD_TRUNCATED = "download_truncated"
    """The first ``downloads`` downloads of each of its files end half-way as if that were all, and tell no length."""


class Mishap(Value):
    """What befalls some batches: those that meet every condition given.

    ``batches`` are ordinals of creations, from 1; ``model`` is the batch's; ``contains`` is text in its input file.
    """

    kind: MishapKind
    batches: tuple[int, ...] | None = None
    model: str | None = None
    contains: str | None = None
    fraction: Share = 0.5
    lines: tuple[int, ...] = ()
    factor: float = Field(default=10.0, gt=0)
    downloads: int = Field(default=1, ge=0)


class BatchWeather(Value):
    """``item_*``: shares of lines that fail in the file. Times are in seconds."""

    min_s: Seconds = 0.0
    max_s: Seconds = 0.0
    window_s: Seconds = 86_400.0
    """A batch whose duration is beyond it expires at it, with what was finished by then."""
    cancel_s: Seconds = 0.0
    """From ``cancelling`` to ``cancelled``. The real provider allows itself ten minutes."""
    list_lag_s: Seconds = 0.0
    item_server_error: Share = 0.0
    item_rate_limited: Share = 0.0
    shuffled: bool = False
    max_requests: int = Field(default=50_000, ge=1)
    max_enqueued_tokens: int | None = None
    """For each model. A batch that would go over it fails after its creation; what ends makes room."""
    mishaps: tuple[Mishap, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_s < self.min_s:
            raise ValueError("max_s is below min_s; swap them")
        return self


class Webhook(Value):
    """Where the ends of batches are told, signed as Standard Webhooks: ``secret`` is ``whsec_`` and base64."""

    url: str
    secret: str
    twice: bool = False
    """Delivers everything a second time, as the real one sometimes does."""


class Scenario(Value):
    """Equal scenarios give equal requests equal fates, in whatever order they come."""

    seed: int = 1
    markers: bool = True
    """Obey ``[sim:…]`` in prompts."""
    api_key: str | None = None
    """The one key that is let in; None: any, or none."""
    models: tuple[str, ...] = ("gpt-6.1-sol", "gpt-6.1-terra", "gpt-6-luna", "gpt-5.4-mini", "text-embedding-3-small")
    strict_models: bool = False
    """Answer 404 to models beyond ``models``."""
    flex_models: tuple[str, ...] = ("gpt-5*", "gpt-6*", "o3*", "o4*")
    """Patterns of the models that know flex; the others answer 400."""
    ranges: Ranges = Ranges.SERVED
    prompt_cache: bool = False
    """Count a prompt's first 1,024 tokens as cached when they were seen before, which depends on the order."""
    embedding_dimensions: int = Field(default=8, ge=1)
    hang_s: Seconds = 3_600.0
    """How long ``[sim:timeout]`` keeps its caller waiting."""
    latency: Latencies = Latencies()
    calls: CallFaults = CallFaults()
    limits: dict[str, RateLimit] = Field(default_factory=dict)
    """By model; ``*``: every model that has none, each for itself."""
    windows: tuple[Window, ...] = ()
    batch: BatchWeather = BatchWeather()
    webhook: Webhook | None = None

    @classmethod
    def default(cls) -> Scenario:
        """The weather of ``lowtide simulate``: a little of everything, and nothing that a retry does not mend."""
        text = resources.files(__package__).joinpath("default.toml").read_text(encoding="utf-8")
        return cls.parse(text, "default.toml")

    @classmethod
    def load(cls, path: Path) -> Scenario:
        """Raises ConfigError, naming the setting at fault."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the scenario {path} cannot be read: {error}") from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, name: str) -> Scenario:
        """Raises ConfigError, naming the setting at fault."""
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"the scenario {name} is no TOML: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise ConfigError(f"the scenario {name}: {where}: {first['msg']}") from None
