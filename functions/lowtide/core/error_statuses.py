"""HTTP statuses that words and numbers stand for in errors that come with status 200."""

from __future__ import annotations

STATUS_OF = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "payment_required": 402,
    "permission_denied": 403,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found": 404,
    "not_found_error": 404,
    "request_timeout": 408,
    "request_too_large": 413,
    "capacity_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "resource_unavailable": 429,
    "too_many_requests": 429,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "invalid_request": 400,
    "invalid_request_error": 400,
    "internal_error": 500,
    "internal_server_error": 500,
    "server_error": 500,
    "upstream_error": 502,
    "service_unavailable": 503,
    "slow_down": 503,
    "timeout": 504,
    "overloaded": 529,
    "overloaded_error": 529,
}
"""HTTP status that a code or type stands for, for errors that come with 200."""
STATUS_OF_BASE_RESP = {
    1001: 504,
    1002: 429,
    1004: 401,
    1008: 402,
    1013: 500,
    1026: 400,
    1027: 400,
    1039: 429,
    2013: 400,
    2049: 401,
}
"""HTTP status that a number of ``base_resp`` stands for. Source: MiniMax's list of error codes."""
