"""The model of routes.toml: everything a deployment decides, checked as a whole before any of it is in force."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Self

import orjson
from pydantic import Field, ValidationError, model_validator

from .admission import DEFAULT_CAP, Cap
from .errors import ConfigError
from .lanes import Lane
from .model import Value
from .task import Endpoint
from .tiers import Tier
from .toml_lines import line_of

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]

ANY_MODEL = "*"
"""The entry whose capabilities a model without an entry has."""
GENERIC = "generic"
"""The template of a type that names none."""
STANDARD = "standard"
"""The profile of a type that names no model."""

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


class TierSpec(Value):
    """``deadline_s`` where a task gives none; no call of the tier may take longer than ``call_timeout_s``;
    ``concurrency`` calls in flight per process; ``lanes`` in the order in which they are tried; past
    its ``cap`` nothing is let in."""

    deadline_s: Count
    call_timeout_s: Seconds
    concurrency: Count
    lanes: tuple[Lane, ...] = Field(min_length=1)
    cap: Cap = DEFAULT_CAP


class TypeSpec(Value):
    """``model`` is a profile or a model's name, for payload tasks; ``lanes`` replaces the tier's order."""

    tier: Tier
    model: Name | None = None
    template: Name | None = None
    lanes: tuple[Lane, ...] | None = Field(None, min_length=1)


class NeverBatch(Value):
    """``tags`` are ``key`` (whatever its value) or ``key=value``."""

    types: frozenset[Name] = frozenset()
    tenants: frozenset[Name] = frozenset()
    tags: frozenset[Name] = frozenset()

    def covers(self, kind: str | None, tenant: str, tags: Mapping[str, str]) -> str | None:
        """What protects such a task, in words for a reason; None where nothing does."""
        if kind in self.types:
            return kind
        if tenant in self.tenants:
            return f"tenant {tenant}"
        tagged = (text for key, value in tags.items() for text in (key, f"{key}={value}"))
        return next((f"tag {text}" for text in tagged if text in self.tags), None)


class LaneSpec(Value):
    """A real-time lane: how long a call on it may take before it counts as lost."""

    call_timeout_s: Seconds


class Lanes(Value):
    priority: LaneSpec = LaneSpec(call_timeout_s=60)
    default: LaneSpec = LaneSpec(call_timeout_s=120)
    flex: LaneSpec = LaneSpec(call_timeout_s=240)


class ModelSpec(Value):
    """What a model can be bought as. ``endpoints`` are those that it answers."""

    name: str
    provider: Name = "openai"
    batch: bool = True
    flex: bool = False
    priority: bool = False
    endpoints: tuple[Endpoint, ...] = Field((Endpoint.CHAT, Endpoint.RESPONSES), min_length=1)


class ProviderSpec(Value):
    """``base_url`` None is the SDK's own. ``key`` names the entry of the secret; ``window`` is what batches promise."""

    base_url: str | None = None
    key: Name
    batch: bool = True
    max_requests: Count = 50_000
    max_bytes: Count = 200_000_000
    max_embedding_inputs: Count = 50_000
    batches_per_hour: Count = 2_000
    window: Name = "24h"


class Batching(Value):
    """When LOW tasks become parts and parts become batches. Sizes are per batch; the provider's limits hold as well.

    A task due sooner than ``shortest_deadline_s`` after it was sent goes to a real-time lane instead.
    """

    part_tasks: Count = 1_000
    part_bytes: Count = 8_000_000
    max_wait_s: Seconds = 900
    max_requests: Count = 50_000
    max_bytes: Count = 190_000_000
    max_tokens: Count = 5_000_000
    max_open_batches: Count = 50
    shortest_deadline_s: Annotated[float, Field(ge=0)] = 3_600
    poll_first_s: Seconds = 1
    poll_max_s: Seconds = 300
    lease_s: Count = 900


class Retries(Value):
    """Backoff starts at ``base_s`` (``batch_base_s`` for a line of a batch), doubles, and stops at ``cap_s``."""

    attempts: Count = 3
    base_s: Seconds = 2
    cap_s: Seconds = 300
    batch_base_s: Seconds = 60
    flex_refusals: Count = 3


class Limits(Value):
    """What this deployment allows. None is no limit; an empty list allows nothing."""

    models: frozenset[Name] | None = None
    max_tokens: Count | None = None
    reply_to: frozenset[Name] | None = frozenset()


class Routes(Value):
    """``version`` is a digest of the content: a task keeps the one that it was accepted under."""

    version: str
    tiers: dict[Tier, TierSpec]
    types: dict[Name, TypeSpec]
    profiles: dict[Name, Name]
    never_batch: NeverBatch
    lanes: Lanes = Lanes()
    models: dict[Name, ModelSpec]
    providers: dict[Name, ProviderSpec]
    batching: Batching = Batching()
    retries: Retries = Retries()
    limits: Limits = Limits()
    templates: dict[Name, Name]
    """System texts by name; ``{type}`` in one stands for the task's type."""

    @classmethod
    def load(cls, text: str) -> Routes:
        """The routes of a TOML text. Raises ConfigError, with the line at fault where it can be told."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as fault:
            raise ConfigError(f"routes.toml is no TOML: {fault}") from None
        try:
            return cls.model_validate(_completed(table))
        except ValidationError as broken:
            first = broken.errors(include_url=False, include_context=False)[0]
            steps = tuple(str(step) for step in first["loc"])
            line = line_of(text, steps)
            place = [f"line {line}"] if line else []
            problem = first["msg"].removeprefix("Value error, ")
            raise ConfigError(": ".join(["routes.toml", *place, *filter(None, [".".join(steps)]), problem])) from None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if missing := [tier.value for tier in Tier if tier not in self.tiers]:
            raise ValueError(f"[tiers] has no {', '.join(missing)}; give each tier an entry")
        for needed, table, name in (
            (ANY_MODEL, self.models, "models"),
            (STANDARD, self.profiles, "profiles"),
            (GENERIC, self.templates, "templates"),
        ):
            if needed not in table:
                raise ValueError(f'[{name}] has no "{needed}" entry, which is the one to fall back on; add it')
        for kind, spec in self.types.items():
            if spec.template is not None and spec.template not in self.templates:
                raise ValueError(f"type {kind} names the template {spec.template}; add it to [templates]")
        for model in self.models.values():
            if model.provider not in self.providers:
                raise ValueError(f"model {model.name} names the provider {model.provider}; add it to [providers]")
        return self

    def model(self, name: str) -> ModelSpec:
        """A model's capabilities. A dated snapshot has its family's, an unknown model those of the ``*`` entry."""
        spec = self.models.get(name) or self.models.get(_SNAPSHOT.sub("", name)) or self.models[ANY_MODEL]
        return spec if spec.name == name else spec.model_copy(update={"name": name})

    def provider(self, name: str) -> ProviderSpec:
        """Raises KeyError: every provider that a model names is there."""
        return self.providers[name]

    def lanes_of(self, kind: str | None, tier: Tier) -> tuple[Lane, ...]:
        """The lanes to try for a task of this type in this tier, in order."""
        spec = self.types.get(kind) if kind is not None else None
        return spec.lanes if spec is not None and spec.lanes is not None else self.tiers[tier].lanes

    def without_batch(self) -> Routes:
        """A copy in which nothing is batched, whatever the models could do."""
        synchronous = {name: spec.model_copy(update={"batch": False}) for name, spec in self.providers.items()}
        return self.model_copy(update={"providers": synchronous, "version": f"{self.version}-no-batch"})

    def without_reply_list(self) -> Routes:
        """A copy that takes any ``reply_to``: for a run that records it and delivers nothing."""
        return self.model_copy(update={"limits": self.limits.model_copy(update={"reply_to": None})})


def _completed(table: dict[str, Any]) -> dict[str, Any]:
    """With what the file leaves to us: its version, and each model's name beside its capabilities."""
    digest = sha256(orjson.dumps(table, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()[:12]
    if "version" in table:
        raise ConfigError("routes.toml: version is computed from the content; remove it")
    models = table.get("models")
    if isinstance(models, dict):
        named = {name: {"name": name, **spec} if isinstance(spec, dict) else spec for name, spec in models.items()}
        table = table | {"models": named}
    return table | {"version": digest}
