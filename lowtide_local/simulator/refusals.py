"""The provider's errors, in its own shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

_TYPES = {
    401: "invalid_request_error",
    403: "permission_error",
    429: "requests",
    500: "server_error",
    502: "server_error",
    503: "server_error",
    504: "server_error",
}
_CODES = {
    401: "invalid_api_key",
    404: "not_found",
    408: "request_timeout",
    409: "conflict",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "service_unavailable",
}


class ApiError(Exception):
    """An answer that is no. ``retry_after_s`` goes out as the Retry-After header."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code if code is not None else _CODES.get(status)
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "invalid_request_error")
        if self.code == "insufficient_quota":
            kind = "insufficient_quota"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def rate_limited(retry_after_s: int) -> ApiError:
    return ApiError(429, f"Rate limit reached. Please try again in {retry_after_s}s.", retry_after_s=retry_after_s)


def quota_exceeded() -> ApiError:
    return ApiError(429, "You exceeded your current quota, please check your plan.", code="insufficient_quota")


def flex_unavailable() -> ApiError:
    """Not charged."""
    return ApiError(429, "Flex capacity is not available at the moment.", code="resource_unavailable")


def content_refused() -> ApiError:
    return ApiError(400, "The request was refused by the content policy.", code="content_policy_violation")


def server_error() -> ApiError:
    return ApiError(500, "The server had an error while processing your request.")


def invalid(message: str, param: str | None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)
