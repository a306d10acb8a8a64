"""The body to send: a request's own, or a payload rendered by its type's template."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, assert_never

from .bodies import TOKEN_LIMITS
from .jsontext import sorted_text
from .routes import GENERIC, ProviderSpec, Routes
from .task import AcceptedTask, Endpoint

CACHED_FROM_TOKENS = 1_024
"""The shortest beginning of a prompt that OpenAI caches. Source: its guide to prompt caching."""

CHARS_PER_TOKEN = 4
"""A rule of thumb for English text."""


def system_text(kind: str | None, routes: Routes) -> str:
    """What a payload of this type is rendered under: its template, or the generic one."""
    spec = routes.type_spec(kind)
    template = routes.templates[spec.template if spec is not None and spec.template is not None else GENERIC]
    return template.replace("{type}", kind or "general").strip()


def cache_key(prompt: str | None, provider: ProviderSpec) -> str | None:
    """One for all tasks with the same system text, so that the provider sends them where it has that text cached.

    None where it would not help: no text of ours, one too short to be cached, or a provider without the field.
    """
    if prompt is None or not provider.prompt_cache_key or len(prompt) < CACHED_FROM_TOKENS * CHARS_PER_TOKEN:
        return None
    return f"lowtide-{sha256(prompt.encode()).hexdigest()[:24]}"


def request_body(task: AcceptedTask) -> dict[str, Any]:
    """A pure function of the task: it was decided at the door what it is asked with.

    Without ``service_tier``, which the lane decides. Where the deployment caps tokens and the body names no limit,
    the cap is its limit.
    """
    came = task.body
    if came is None:
        body = _rendered(task)
    else:
        # The task's model is the body's, unless a fallback answers for it.
        body = {name: came[name] for name in came if name != "service_tier"} | {"model": task.model}
    if task.max_tokens is not None and all(body.get(name) is None for name in TOKEN_LIMITS):
        return body | _limit(task.endpoint, task.max_tokens)
    return body


def _rendered(task: AcceptedTask) -> dict[str, Any]:
    body = {
        "model": task.model,
        # What is the same for every task of a type comes first: providers cache a prompt by its beginning.
        "messages": [
            {"role": "system", "content": task.prompt},
            {"role": "user", "content": sorted_text(task.message["payload"]).decode()},
        ],
    }
    return body if task.cache_key is None else body | {"prompt_cache_key": task.cache_key}


def _limit(endpoint: Endpoint, cap: int) -> dict[str, Any]:
    match endpoint:
        case Endpoint.CHAT:
            return {"max_completion_tokens": cap}
        case Endpoint.RESPONSES:
            return {"max_output_tokens": cap}
        case Endpoint.EMBEDDINGS:
            return {}
        case _:
            assert_never(endpoint)
