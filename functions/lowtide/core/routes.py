"""The model of routes.toml: everything a deployment decides, checked as a whole before any of it is in force."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import orjson
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from .admission import DEFAULT_CAP, Cap
from .batching import Batching
from .bounds import (
    Count,
    HttpUrl,
    Name,
    Number,
    ProviderName,
    Rate,
    Seconds,
    Text,
    WholeSeconds,
)
from .errors import ConfigError
from .lanes import Lane
from .model import Value
from .names import by_spelling, folded
from .offpeak import OffPeak
from .pace_events import Ceiling
from .preemption import Preemption
from .task import Endpoint
from .tiers import Tier
from .toml_lines import line_of, table_of
from .wording import path

Share = Annotated[Decimal, Field(ge=0, le=1)]

ANY_MODEL = "*"
"""The entry whose capabilities a model without an entry has."""
GENERIC = "generic"
"""The template of a type that names none."""
SIMPLE = "simple"
STANDARD = "standard"
"""The profile of a type that names no model."""
COMPLEX = "complex"
PROFILES = (SIMPLE, STANDARD, COMPLEX)
"""Those that ``auto`` chooses among, the cheapest first."""
OPENAI_PRICES: Final = "openai"
NO_PRICES: Final = "none"
AUTO = "auto"
"""In place of a profile: a cheap model is asked for it."""

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


class TierSpec(Value):
    """``deadline_s`` where a task gives none; no call of the tier may take longer than ``call_timeout_s``;
    ``concurrency`` calls in flight per process and model; ``lanes`` in the order in which they are tried; past
    its ``cap`` nothing is let in."""

    deadline_s: WholeSeconds
    call_timeout_s: Seconds
    concurrency: Count
    lanes: tuple[Lane, ...] = Field(min_length=1)
    cap: Cap = DEFAULT_CAP


class TypeSpec(Value):
    """``model`` is a profile, a model's name or ``auto``, for payload tasks; ``lanes`` replaces the tier's order.
    ``validate_output``: an answer must hold to the schema that its request asked for, where it asked for one."""

    tier: Tier
    model: Name | None = None
    template: Name | None = None
    lanes: tuple[Lane, ...] | None = Field(None, min_length=1)
    validate_output: bool = False


class NeverBatch(Value):
    """``tags`` are ``key`` (whatever its value) or ``key=value``."""

    types: frozenset[Name] = frozenset()
    tenants: frozenset[Name] = frozenset()
    tags: frozenset[Name] = frozenset()

    def covers(self, kind: str | None, tenant: str, tags: Mapping[str, str]) -> str | None:
        """What protects such a task, in words for a reason, however the task spells it; None where nothing does."""
        if kind is not None and (listed := by_spelling(self.types).get(folded(kind))) is not None:
            return listed
        if (listed := by_spelling(self.tenants).get(folded(tenant))) is not None:
            return f"tenant {listed}"
        listed_tags = by_spelling(self.tags)
        keys = {tag.partition("=")[0] for tag in listed_tags}
        for key, value in tags.items() if keys else ():
            if (name := folded(key)).partition("=")[0] in keys:
                for tag in (name, f"{name}={folded(value)}"):
                    if tag in listed_tags:
                        return f"tag {listed_tags[tag]}"
        return None


class LaneSpec(Value):
    """A real-time lane: how long a call on it may take before it counts as lost."""

    call_timeout_s: Seconds


class Lanes(Value):
    priority: LaneSpec = LaneSpec(call_timeout_s=60)
    default: LaneSpec = LaneSpec(call_timeout_s=120)
    flex: LaneSpec = LaneSpec(call_timeout_s=240)


class ModelSpec(Value):
    """What a model can be bought as. ``endpoints`` are those that it answers.

    ``batch_size`` is its batches' size in place of the ladder's; ``max_enqueued_tokens`` is what the account may have
    waiting in batches of this model, in place of the provider's.
    ``requests_per_minute`` and ``tokens_per_minute`` bound all functions together, beside what the provider's headers
    say. ``fallback`` is the model that answers while this one's breaker is open.
    """

    name: str
    provider: Name = "openai"
    batch: bool = True
    flex: bool = False
    priority: bool = False
    endpoints: tuple[Endpoint, ...] = Field((Endpoint.CHAT, Endpoint.RESPONSES), min_length=1)
    batch_size: Count | None = None
    max_enqueued_tokens: Count | None = None
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    fallback: Name | None = None


class OwnPrices(Value):
    """A deployment's own price table: a file of the form of prices.json."""

    path: Text


def _whose_prices(value: Any) -> Any:
    if value in (None, OPENAI_PRICES, NO_PRICES) or isinstance(value, OwnPrices):
        return value
    if isinstance(value, dict) and set(value) == {"path"} and isinstance(value["path"], str) and value["path"]:
        return value
    known = f'"{OPENAI_PRICES}" nor "{NO_PRICES}"'
    raise ValueError(f'is neither {known} nor a price table of your own: give {{ path = "prices.json" }}')


Prices = Annotated[Literal["openai", "none"] | OwnPrices | None, BeforeValidator(_whose_prices)]


class ProviderSpec(Value):
    """``base_url`` None is OpenAI's own. ``key`` names the entry of the secret; ``window`` is what batches promise.

    ``prices``: whose prices its answers are charged at. None: OpenAI's at OpenAI's own hosts and on this machine, and
    elsewhere none.

    ``max_enqueued_tokens``: of each model, in batches that have not ended; None where it is not known. ``off_peak``:
    the hours in which some lanes cost less.
    ``requests_per_minute`` and ``tokens_per_minute`` are each model's that names none of its own.
    """

    base_url: HttpUrl | None = None
    prices: Prices = None
    key: Name
    batch: bool = True
    max_requests: Count = 50_000
    max_bytes: Count = 200_000_000
    max_embedding_inputs: Count = 50_000
    batches_per_hour: Count = 2_000
    window: Name = "24h"
    prompt_cache_key: bool = False
    """Does it know the field of that name? Compatible servers may refuse one that they do not know."""
    max_enqueued_tokens: Count | None = None
    batch_shares_limits: bool = False
    """Does a batch draw on the limits, or the machines, that answer its calls? CRITICAL kept waiting then holds back
    the submission of batches too."""
    off_peak: tuple[OffPeak, ...] = ()
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None


class Mix(Value):
    """What a cheap model is expected to say, as shares of one."""

    simple: Share = Decimal("0.5")
    standard: Share = Decimal("0.3")
    complex: Share = Decimal("0.2")

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        if (total := self.simple + self.standard + self.complex) != 1:
            raise ValueError(f"the shares add up to {total}: give shares of 1")
        return self


class Auto(Value):
    """How a cheap model is asked for the profile of a task whose type says ``auto``.

    ``model`` is a profile or a model; it sees ``prompt_chars`` characters of the payload, says at most ``max_tokens``
    within ``timeout_s``, and gets ``settings`` in its request beside that. ``mix``, and
    ``output_tokens``, which is how long an answer to such a task is expected to be, decide whether asking pays.
    """

    model: Name = SIMPLE
    prompt_chars: Count = 2_000
    max_tokens: Count = 32
    timeout_s: Seconds = 5
    output_tokens: Count = 500
    mix: Mix = Mix()
    settings: dict[Name, str | bool | Number] = Field(default_factory=dict)


class Retries(Value):
    """Backoff starts at ``base_s`` (``batch_base_s`` for a line of a batch), doubles, and stops at ``cap_s``."""

    attempts: Count = 3
    base_s: Seconds = 2
    cap_s: Seconds = 300
    batch_base_s: Seconds = 60


class Limits(Value):
    """What this deployment allows. None is no limit; an empty list allows nothing."""

    models: frozenset[Name] | None = None
    max_tokens: Count | None = None
    reply_to: frozenset[Text] | None = frozenset()


class Routes(Value):
    """``version`` is a digest of the content: a task names the one that it was accepted under."""

    version: str
    tiers: dict[Tier, TierSpec]
    types: dict[Name, TypeSpec]
    profiles: dict[Name, Name]
    auto: Auto = Auto()
    never_batch: NeverBatch
    lanes: Lanes = Lanes()
    models: dict[Name, ModelSpec]
    providers: dict[ProviderName, ProviderSpec]
    batching: Batching = Batching()
    retries: Retries = Retries()
    limits: Limits = Limits()
    preemption: Preemption = Preemption()
    templates: dict[Name, Text]
    """System texts by name; ``{type}`` in one stands for the task's type."""

    @classmethod
    def load(cls, text: str) -> Routes:
        """Return the routes of a TOML text. Raises ConfigError with the line at fault, and nothing else."""
        try:
            return cls.of(table_of(text))
        except Unfit as unfit:
            first = unfit.faults[0]
            place = f"line {line_of(text, first.steps)}"
            named = f"{place}: {path(first.steps)}" if first.steps else place
            raise ConfigError(f"routes.toml: {named}: {first.problem}") from None

    @classmethod
    def of(cls, table: dict[str, Any]) -> Routes:
        """Return the routes of a file's table. Raises Unfit with all that is wrong with it, and nothing else."""
        if "version" in table:
            raise Unfit([Fault(("version",), "is computed from the content; remove it")])
        try:
            return cls.model_validate(_completed(table)).model_copy(update={"version": _digest(table)})
        except ValidationError as broken:
            raise Unfit([_fault(each) for each in broken.errors(include_url=False, include_input=False)]) from None
        except Exception as error:  # a deployment goes on with its last good file, whatever is in this one
            problem = f"cannot be read ({type(error).__name__}): go back to the version before"
            raise Unfit([Fault((), problem)]) from error

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if missing := [tier.value for tier in Tier if tier not in self.tiers]:
            raise _Misfit(("tiers", missing[0]), f"[tiers] has no {', '.join(missing)}; give each tier an entry")
        for needed, table, name in (
            (ANY_MODEL, self.models, "models"),
            (STANDARD, self.profiles, "profiles"),
            (GENERIC, self.templates, "templates"),
        ):
            if needed not in table:
                raise _Misfit(
                    (name, needed), f'[{name}] has no "{needed}" entry, which is the one to fall back on; add it'
                )
        spelt: dict[str, str] = {}
        for kind, spec in self.types.items():
            if (other := spelt.setdefault(folded(kind), kind)) != kind:
                raise _Misfit(("types", kind), f"type {kind} is compared as {other} is: keep one of the two")
            if spec.template is not None and spec.template not in self.templates:
                problem = f"type {kind} names the template {spec.template}; add it to [templates]"
                raise _Misfit(("types", kind, "template"), problem)
        self._check_profiles()
        self._check_models()
        return self

    def _check_profiles(self) -> None:
        if AUTO in self.profiles:
            problem = f"[profiles] names {AUTO}, which is no profile but a question for one; rename it"
            raise _Misfit(("profiles", AUTO), problem)
        if (profile := next((name for name, model in self.profiles.items() if model == ANY_MODEL), None)) is not None:
            raise _Misfit(("profiles", profile), f"profile {profile} names {ANY_MODEL}, which is no model; name one")
        asking = next((kind for kind, spec in self.types.items() if spec.model == AUTO), None)
        if asking is None:
            return
        if missing := [name for name in PROFILES if name not in self.profiles]:
            problem = f"a type says {AUTO}, and [profiles] has no {', '.join(missing)}; add it"
            raise _Misfit(("types", asking, "model"), problem)
        if Endpoint.CHAT not in self.model(self.named(self.auto.model)).endpoints:
            problem = f"[auto] asks {self.auto.model}, which answers no {Endpoint.CHAT}; name another"
            raise _Misfit(("auto", "model"), problem)

    def _check_models(self) -> None:
        for name, model in self.models.items():
            if model.name != name:
                raise _Misfit(("models", name, "name"), "is no setting: a model's name is its key; remove it")
            if model.provider not in self.providers:
                problem = f"model {name} names the provider {model.provider}; add it to [providers]"
                raise _Misfit(("models", name, "provider"), problem)
            if model.fallback in (name, ANY_MODEL) or (model.fallback and model.fallback not in self.models):
                problem = f"model {name} falls back on {model.fallback}; name another one of [models]"
                raise _Misfit(("models", name, "fallback"), problem)

    def model(self, name: str) -> ModelSpec:
        """A model's capabilities. A dated snapshot has its family's, an unknown model those of the ``*`` entry."""
        spec = self.models.get(name) or self.models.get(_SNAPSHOT.sub("", name)) or self.models[ANY_MODEL]
        return spec if spec.name == name else spec.model_copy(update={"name": name})

    def named(self, wanted: str) -> str:
        """The model of a profile; what is no profile is a model's name."""
        return self.profiles.get(wanted, wanted)

    def provider(self, name: str) -> ProviderSpec:
        """Raises ConfigError: every provider that a model names is there, but a task waits longer than routes last."""
        if name not in self.providers:
            raise ConfigError(
                f"routes.toml has no provider {name}, and work waits for it: put it back until that is done"
            )
        return self.providers[name]

    def off_peak(self, provider: str) -> tuple[OffPeak, ...]:
        """None of a provider that is not here any more: a task keeps the name of the one it was accepted for."""
        spec = self.providers.get(provider)
        return () if spec is None else spec.off_peak

    def part_tasks(self, model: str) -> int:
        """How many tasks a part of this model may hold: no more than its smallest batch."""
        batching = self.batching
        size = self.model(model).batch_size or min(step.size for step in batching.ladder)
        return min(batching.part_tasks, batching.max_requests, size)

    def enqueued_limit(self, provider: str, model: str) -> int | None:
        """Tokens that may wait in batches of a model at once, as far as it is written down."""
        return self.model(model).max_enqueued_tokens or self.provider(provider).max_enqueued_tokens

    def batch_tokens(self, provider: str, model: str) -> int:
        """Estimated tokens that one batch of a model may hold."""
        limit = self.enqueued_limit(provider, model)
        return self.batching.max_tokens if limit is None else min(self.batching.max_tokens, limit)

    def ceiling(self, name: str) -> Ceiling:
        """What this deployment allows itself a minute of a model, and no function may exceed with the others."""
        model = self.model(name)
        provider = self.provider(model.provider)
        return Ceiling(
            requests=model.requests_per_minute or provider.requests_per_minute,
            tokens=model.tokens_per_minute or provider.tokens_per_minute,
        )

    def type_spec(self, kind: str | None) -> TypeSpec | None:
        """A type's entry, however a task spells it."""
        if kind is None or kind in self.types:
            return None if kind is None else self.types[kind]
        listed = by_spelling(frozenset(self.types)).get(folded(kind))
        return None if listed is None else self.types[listed]

    def lanes_of(self, kind: str | None, tier: Tier) -> tuple[Lane, ...]:
        """The lanes to try for a task of this type in this tier, in order."""
        spec = self.type_spec(kind)
        return spec.lanes if spec is not None and spec.lanes is not None else self.tiers[tier].lanes

    def validates(self, kind: str | None) -> bool:
        """Is an answer to a task of this type held to its request's schema."""
        spec = self.type_spec(kind)
        return spec is not None and spec.validate_output

    def without_batch(self) -> Routes:
        """A copy in which nothing is batched, whatever the models could do."""
        synchronous = {name: spec.model_copy(update={"batch": False}) for name, spec in self.providers.items()}
        return self.model_copy(update={"providers": synchronous, "version": f"{self.version}-no-batch"})

    def without_cache_keys(self) -> Routes:
        """A copy for a server that speaks OpenAI's protocol and may refuse what it does not know."""
        plain = {name: spec.model_copy(update={"prompt_cache_key": False}) for name, spec in self.providers.items()}
        return self.model_copy(update={"providers": plain})

    def at(self, base_url: str, prices: Prices = None) -> Routes:
        """A copy in which one endpoint answers for every provider."""
        there = {"base_url": base_url, "prices": prices}
        providers = {name: spec.model_copy(update=there) for name, spec in self.providers.items()}
        return self.model_copy(update={"providers": providers})

    def reached_at(self, base_url: str | None) -> Routes:
        """A copy in which the provider ``openai`` has this address; the routes themselves where it is None or ""."""
        spec = self.providers.get(OPENAI_PRICES)
        if not base_url or spec is None:
            return self
        there = spec.model_copy(update={"base_url": base_url})
        return self.model_copy(update={"providers": {**self.providers, OPENAI_PRICES: there}})

    def without_reply_list(self) -> Routes:
        """A copy that takes any ``reply_to``: for a run that records it and delivers nothing."""
        return self.model_copy(update={"limits": self.limits.model_copy(update={"reply_to": None})})


def family(model: str) -> str:
    """A dated snapshot's model: they share what the account is allowed."""
    return _SNAPSHOT.sub("", model)


class Fault(NamedTuple):
    """What is wrong with a file. ``steps`` lead to the setting at fault, none where it is the file as a whole."""

    steps: tuple[str, ...]
    problem: str


class Unfit(ValueError):
    """A table that is no routes."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults[0].problem)
        self.faults = tuple(faults)


class _Misfit(ValueError):
    """An entry that does not fit the others. ``steps`` lead to it."""

    def __init__(self, steps: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.steps = steps


def _fault(error: Any) -> Fault:
    cause = error.get("ctx", {}).get("error")
    steps = cause.steps if isinstance(cause, _Misfit) else tuple(str(step) for step in error["loc"])
    return Fault(steps, error["msg"].removeprefix("Value error, "))


def _completed(table: dict[str, Any]) -> dict[str, Any]:
    """With what the file leaves to us: a place for its version, and each model's name beside its capabilities."""
    models = table.get("models")
    if isinstance(models, dict):
        named = {name: {"name": name} | spec if isinstance(spec, dict) else spec for name, spec in models.items()}
        table = table | {"models": named}
    return table | {"version": ""}


def _digest(table: dict[str, Any]) -> str:
    return sha256(orjson.dumps(table, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()[:12]
