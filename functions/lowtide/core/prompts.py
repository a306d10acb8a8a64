"""The body to send: a request's own, or a payload rendered by its type's template."""

from __future__ import annotations

from typing import Any, assert_never

from .bodies import TOKEN_LIMITS
from .jsontext import canonical
from .routes import GENERIC, Routes
from .task import AcceptedTask, Endpoint


def request_body(task: AcceptedTask, routes: Routes) -> dict[str, Any]:
    """A pure function of its arguments: the same task and routes give the same body.

    Without ``service_tier``, which the lane decides. Where the deployment caps tokens and the body names no limit,
    the cap is its limit.
    """
    came = task.body
    if came is None:
        body = _rendered(task, routes)
    else:
        body = {name: value for name, value in came.items() if name != "service_tier"}
    cap = routes.limits.max_tokens
    if cap is not None and all(body.get(name) is None for name in TOKEN_LIMITS):
        return body | _limit(task.endpoint, cap)
    return body


def _rendered(task: AcceptedTask, routes: Routes) -> dict[str, Any]:
    spec = routes.types.get(task.type) if task.type is not None else None
    template = routes.templates[spec.template if spec is not None and spec.template is not None else GENERIC]
    return {
        "model": task.model,
        # What is the same for every task of a type comes first: providers cache a prompt by its beginning.
        "messages": [
            {"role": "system", "content": template.replace("{type}", task.type or "general").strip()},
            {"role": "user", "content": canonical(task.message["payload"]).decode()},
        ],
    }


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
