"""From a raw task to an accepted one: its rules, its tier, its deadline, and whether a batch may carry it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from .bodies import FOREIGN_LIMITS, TOKEN_LIMITS
from .body_models import other_models, steps_of
from .errors import Refused
from .lanes import Lane, asked_lane
from .message import TaskMessage, content_hash, parse_task
from .model import LONGEST_S
from .prompts import cache_key, system_text
from .refusals import RefusalCode
from .routes import AUTO, PROFILES, STANDARD, ModelSpec, Routes
from .structured import SCHEMA_AT, unjudgeable
from .task import AcceptedTask, Endpoint
from .task_rows import ModelChoice
from .tiers import Tier, classify
from .token_limits import Kind, answers_asked, answers_of, limits_in
from .wording import path, shown, span


def accept(raw: Any, *, origin: str, sent_at: datetime, routes: Routes) -> AcceptedTask:
    """Raises Refused, and nothing else, for whatever is no task of this deployment. ``sent_at`` starts the clock."""
    message = parse_task(raw)
    try:
        return _accepted(raw, message, origin, sent_at, routes)
    except Refused as refusal:
        raise Refused(refusal.code, refusal.message, field=refusal.field, task_id=message.task_id) from None


def queue_for(task: AcceptedTask) -> Tier:
    """The tier whose queue carries the task. LOW's queue is drained into batches: what cannot be batched, or has no
    model yet, goes with NORMAL, keeping its own tier and deadline."""
    return Tier.NORMAL if task.tier is Tier.LOW and not (task.batchable and task.candidates is None) else task.tier


def with_model(task: AcceptedTask, choice: ModelChoice, routes: Routes) -> AcceptedTask:
    """The task once its model was chosen among its candidates."""
    model = routes.model(choice.model)
    obstacle = _unbatchable(task.type, model, task.deadline_at - task.accepted_at, routes)
    return task.model_copy(
        update={
            "model": model.name,
            "provider": model.provider,
            "candidates": None,
            "batchable": task.tier is Tier.LOW and obstacle is None,
            "cache_key": cache_key(task.prompt, routes.provider(model.provider)),
            "route": f"{task.route}; {choice.reason}",
        }
    )


def _accepted(
    raw: dict[str, Any], message: TaskMessage, origin: str, sent_at: datetime, routes: Routes
) -> AcceptedTask:
    endpoint = message.request.url if message.request is not None else Endpoint.CHAT
    wanted = _wanted(message, routes)
    model = routes.model(wanted or routes.named(STANDARD))
    # A bare batch line has url and body at its top.
    at = "" if "custom_id" in raw else "request."
    if endpoint not in model.endpoints:
        answered = ", ".join(model.endpoints)
        problem = f"{at}url is {endpoint}: model {model.name} answers {answered}; change the one or the other"
        raise Refused(RefusalCode.UNSUPPORTED_ENDPOINT, problem, field=f"{at}url")
    _check_limits(message, model.name, f"{at}body", routes)
    _check_schema(message, endpoint, f"{at}body", routes)
    tier, reason = (decided := classify(message, routes)).tier, decided.reason
    deadline_at = _deadline(message, tier, sent_at, routes)
    obstacle = _unbatchable(message.type, model, deadline_at - sent_at, routes) if tier is Tier.LOW else "not LOW"
    body = message.request.body if message.request is not None else {}
    if tier is Tier.LOW and obstacle is None and asked_lane(body) in (Lane.DEFAULT, Lane.PRIORITY):
        reason = f"{reason}; service_tier {body['service_tier']} not followed, LOW is batched"
    prompt = system_text(message.type, routes) if message.request is None else None
    return AcceptedTask(
        message=raw,
        tenant=message.tenant,
        task_id=message.task_id,
        type=message.type,
        tags=message.tags,
        tier=tier,
        route=f"{reason}; {obstacle}" if tier is Tier.LOW and obstacle else reason,
        provider=model.provider,
        model=model.name,
        endpoint=endpoint,
        accepted_at=sent_at,
        deadline_at=deadline_at,
        content_hash=content_hash(raw),
        origin=origin,
        routes_version=routes.version,
        batchable=obstacle is None,
        validate_output=routes.validates(message.type),
        reply_to=message.reply_to,
        traceparent=message.traceparent,
        prompt=prompt,
        cache_key=cache_key(prompt, routes.provider(model.provider)),
        max_tokens=_share(message, routes.limits.max_tokens),
        candidates=_candidates(routes) if wanted is None else None,
    )


def _share(message: TaskMessage, cap: int | None) -> int | None:
    """What each of the answers may have of the cap."""
    return cap if cap is None or message.request is None else cap // answers_asked(message.request.body)


def _wanted(message: TaskMessage, routes: Routes) -> str | None:
    """The model that the body or the type names; None where it is to be asked for."""
    if message.request is not None:
        return str(message.request.body["model"])
    spec = routes.type_spec(message.type)
    named = spec.model if spec is not None and spec.model is not None else STANDARD
    return None if named == AUTO else routes.named(named)


def _candidates(routes: Routes) -> dict[str, str] | None:
    """By profile, as far as this deployment allows them; None where that leaves nothing to choose."""
    allowed = routes.limits.models
    models = {
        profile: routes.profiles[profile]
        for profile in PROFILES
        if (allowed is None or routes.profiles[profile] in allowed)
        and Endpoint.CHAT in routes.model(routes.profiles[profile]).endpoints
    }
    return models if len(set(models.values())) > 1 else None


def _check_limits(message: TaskMessage, model: str, at: str, routes: Routes) -> None:
    body = message.request.body if message.request is not None else {}
    _check_models(body, model, at if message.request is not None else None, routes.limits.models)
    if routes.limits.max_tokens is not None:
        _check_tokens(body, at, routes.limits.max_tokens)
    allowed = routes.limits.reply_to
    if message.reply_to is not None and allowed is not None and message.reply_to not in allowed:
        problem = (
            f"reply_to is {shown(message.reply_to)}, which is not on the allow-list: have it added or leave it out"
        )
        raise Refused(RefusalCode.REPLY_TO_NOT_ALLOWED, problem, field="reply_to")


def _check_models(body: dict[str, Any], model: str, at: str | None, allowed: frozenset[str] | None) -> None:
    """The task's own, and whatever else its request names."""
    if allowed is None:
        return
    listed = ", ".join(sorted(allowed)) or "none"
    if model not in allowed:
        problem = f"model {model} is not allowed here: ask for one of {listed}"
        raise Refused(RefusalCode.MODEL_NOT_ALLOWED, problem, field=None if at is None else f"{at}.model")
    for way, other in other_models(body):
        if other not in allowed:
            field = f"{at}.{path(steps_of(way))}"
            told = f"is {shown(other)}, which is not allowed here" if other else "is left open"
            problem = f"{field} {told}: name one of {listed}, or leave it out"
            raise Refused(RefusalCode.MODEL_NOT_ALLOWED, problem, field=field)


def _check_tokens(body: dict[str, Any], at: str, cap: int) -> None:
    """All the answers that one request asks for share the cap."""
    limits = list(limits_in(body))
    answers = answers_of(limits)
    most = cap // answers
    for name in FOREIGN_LIMITS:
        if body.get(name) is not None:
            problem = f"cannot be held to this deployment's cap: give {TOKEN_LIMITS[0]}, at most {most}"
            raise _over_cap(f"{at}.{name}", problem)
    for way, kind, value, number in sorted(limits, key=lambda found: found.kind is Kind.LIMIT):
        bound = cap if kind is Kind.FAN_OUT else most
        if number is not None and 0 <= number <= bound:
            continue
        told = f"is {shown(value)}"
        if kind is Kind.FAN_OUT:
            problem = f"{told}: ask for at most {cap} answers, this deployment's cap on tokens"
        else:
            several = f", for each of {answers} answers" if answers > 1 else ""
            problem = f"{told}{several}: give at most {most}, this deployment's cap"
        raise _over_cap(f"{at}.{path(steps_of(way))}", problem)


def _over_cap(field: str, problem: str) -> Refused:
    return Refused(RefusalCode.MAX_TOKENS_OVER_CAP, f"{field} {problem}", field=field)


def _check_schema(message: TaskMessage, endpoint: Endpoint, at: str, routes: Routes) -> None:
    if message.request is None or not routes.validates(message.type):
        return
    if (why := unjudgeable(message.request.body, endpoint)) is not None:
        field = f"{at}.{SCHEMA_AT[endpoint]}"
        raise Refused(RefusalCode.INVALID_REQUEST, f"{field} {why}", field=field)


def _deadline(message: TaskMessage, tier: Tier, sent_at: datetime, routes: Routes) -> datetime:
    if message.deadline_at is None:
        return sent_at + timedelta(seconds=message.deadline_seconds or routes.tiers[tier].deadline_s)
    if not timedelta(0) < message.deadline_at - sent_at <= timedelta(seconds=LONGEST_S):
        sent = sent_at.isoformat(timespec="seconds")
        problem = f"deadline_at is not ahead of {sent}, when the task was sent: give a later time, within ten years"
        raise Refused(RefusalCode.INVALID_DEADLINE, problem, field="deadline_at")
    return message.deadline_at


def _unbatchable(kind: str | None, model: ModelSpec, due_in: timedelta, routes: Routes) -> str | None:
    """Why no batch may carry a LOW task, in words for its route; None where one may."""
    if Lane.BATCH not in routes.lanes_of(kind, Tier.LOW):
        return "its lanes leave out batch"
    if not model.batch:
        return f"{model.name} cannot be batched"
    if not routes.provider(model.provider).batch:
        return f"{model.provider} takes no batches"
    if due_in < timedelta(seconds=routes.batching.shortest_deadline_s):
        return f"due in {span(due_in.total_seconds())}, too soon for a batch"
    return None
