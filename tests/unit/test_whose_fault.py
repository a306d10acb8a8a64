"""Whose fault a refusal is, in the words of many providers. docs/compatibility.md names where each was seen."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.core.provider_errors import ProviderError, error_inside, error_of
from lowtide.core.whose_fault import Fault, fault_of_batch, fault_of_request, no_capacity


def openai(message: str, code: Any = None, kind: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


QUOTA = "You exceeded your current quota, please check your plan and billing details."
XAI = "Your team 1f has either used all available credits or reached its monthly spending limit."
ACCOUNT = [
    (401, openai("Incorrect API key provided", "invalid_api_key")),
    (401, "Unauthorized"),
    (402, openai("Insufficient Balance", "invalid_request_error", "unknown_error")),
    (402, openai("This request requires more credits, or fewer max_tokens.", 402)),
    (402, {"error": {"message": "Credit limit exceeded.", "type": "credit_limit", "param": None, "code": None}}),
    (402, "Payment Required"),
    (429, openai(QUOTA, "insufficient_quota", "insufficient_quota")),
    (429, openai(QUOTA)),
    (429, openai("No.", "rate_limit_exceeded", "insufficient_quota")),
    (400, openai("Billing hard limit has been reached", "billing_hard_limit_reached", "billing_limit_user_error")),
    (429, openai("Your account is not active.", None, "billing_not_active")),
    (429, openai("Usage limit.", "organization_usage_limit_exceeded", "insufficient_quota")),
    (429, openai("No.", "project_spend_limit_exceeded")),
    (403, openai("No.", "credit_balance_exhausted")),
    (403, openai("Country, region, or territory not supported", "unsupported_country_region_territory")),
    (403, openai("You have insufficient permissions for this operation. Missing scopes: model.request.")),
    (403, openai("No.", "missing_scope")),
    (403, openai("The account was closed.", "account_deactivated")),
    (403, openai("The organization was closed.", "organization_deactivated")),
    (400, openai("Organization has been restricted. Please reach out.", "organization_restricted")),
    (429, {"code": "Some resource has been exhausted", "error": XAI}),
    (403, {"code": "permission-denied", "error": "Your newly created team doesn't have any credits or licenses yet."}),
    (412, {"error": {"message": "Account a-1 is suspended, possibly due to reaching the monthly spending limit."}}),
    (429, openai("Your account org-1 is suspended due to insufficient balance", None, "exceeded_current_quota_error")),
    (403, openai("Your account <ak> is not active, organization <o> exceeded current quota")),
    (400, openai("Access denied, please make sure your account is in good standing.", "Arrearage", "Arrearage")),
    (403, openai("The account has an overdue balance.", "AccountOverdueError", "Forbidden")),
    (403, openai("user quota is not enough", "insufficient_user_quota", "one_api_error")),
    (403, openai("token quota is not enough", "pre_consume_token_quota_failed", "new_api_error")),
    (400, openai("Your credit balance is too low to access the API.", None, "invalid_request_error")),
    (400, openai("Budget has been exceeded! Current cost: 26.0, Max budget: 0.25", "400")),
    (429, openai("Budget has been exceeded! Current cost: 10.5", "429", "budget_exceeded")),
    (400, openai("litellm.BadRequestError: OpenAIException - Budget has been exceeded! Current cost: 14", "400")),
    (400, openai("ExceededBudget: End User=x over budget. Spend=0.1", 400, "auth_error")),
    (429, openai("No deployments available - crossed budget: Exceeded budget for deployment", "429")),
    (400, openai("User location is not supported for the API use.", 400)),
    (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "X"}}]),
    (400, openai("You have reached your specified API usage limits. You will regain access soon.")),
    (429, openai("Your prepayment credits are depleted.", 429, "RESOURCE_EXHAUSTED")),
    (500, openai("Insufficient credits", "insufficient_credits")),
]


@pytest.mark.parametrize(("status", "body"), ACCOUNT, ids=str)
def test_these_are_the_accounts(status, body):
    assert fault_of_request(error_of(status, body)) is Fault.ACCOUNT
    assert fault_of_batch(error_of(status, body)) is Fault.ACCOUNT


TPM = "in organization org-1 on tokens per min (TPM): Limit 30000, Used 27000, Requested 3500. Please try again in 1s."
TPD = "Rate limit reached for model `m` on tokens per day (TPD): Limit 100000, Used 97050, Requested 3619. Try again "
NOW = [
    (429, openai("Rate limit reached for gpt-4o " + TPM, "rate_limit_exceeded", "tokens")),
    (
        429,
        openai(TPD + "in 9m38s. Need more tokens? Upgrade at https://console.groq.com/settings/billing", "x", "tokens"),
    ),
    (
        429,
        openai("exceeded token rate limit of your pricing tier. Please go to https://aka.ms/oai/quotaincrease", "429"),
    ),
    (429, openai(QUOTA + " * Quota exceeded for metric: requests, limit: 10\nPlease retry in 34.5s.", 429)),
    (429, [{"error": {"code": 429, "message": QUOTA, "status": "RESOURCE_EXHAUSTED"}}]),
    (429, openai("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 requests per day", 429)),
    (429, openai("Please add a payment method to your account to increase your rate limit.", "rate_limit_exceeded")),
    (429, {"object": "error", "message": "Service tier capacity exceeded for this model.", "code": "3505"}),
    (429, {"title": "Too Many Requests", "detail": "Wait a bit and try again.", "status": 429}),
    (429, "Too Many Requests"),
    (498, openai("Over capacity.", "capacity_exceeded")),
    (403, openai("Rate Limit Exceeded", "rateLimitExceeded")),
    (503, openai("Slow down", "slow_down")),
    (408, None),
    (409, openai("Conflict")),
    (425, None),
]


@pytest.mark.parametrize(("status", "body"), NOW, ids=str)
def test_these_are_of_the_moment(status, body):
    assert fault_of_request(error_of(status, body)) is Fault.NOW


ITEM = [
    (
        429,
        openai("Request too large for gpt-4o on TPM: Limit 30000, Requested 342389.", "rate_limit_exceeded", "tokens"),
    ),
    (429, openai("Rate limit reached: Limit: 30,000, Requested: 342,389.", "rate_limit_exceeded", "tokens")),
    (413, openai("Request too large for model m on TPM: Limit 6000, Requested 10338", "rate_limit_exceeded", "tokens")),
    (413, "<html><head><title>413 Request Entity Too Large</title></head></html>"),
    (400, openai("maximum context length", "context_length_exceeded", "invalid_request_error", "messages")),
    (400, openai("No.")),
    (400, openai("Your input was flagged.", "content_policy_violation")),
    (400, openai("The response was filtered due to content management policy", "content_filter")),
    (403, openai("Your chosen model requires moderation and your input was flagged.", 403)),
    (403, openai("Project `p` does not have access to model `gpt-4o`", "model_not_found")),
    (401, openai("key not allowed to access model. This key can only access models=['a'].", "401", "auth_error")),
    (403, openai("Tried to access m", "403", "team_model_access_denied")),
    (404, openai("The model `gpt-9` does not exist or you do not have access to it.", "model_not_found")),
    (404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}),
    (404, openai("This is not a chat model and thus not supported.", None, None, "model")),
    (404, openai("No endpoints found for vendor/x.", 404)),
    (404, openai("The API deployment for this resource does not exist.", "DeploymentNotFound")),
    (404, openai("No such file object: file-abc", None, None, "file_id")),
    (400, openai("Previous response not found.", "previous_response_not_found")),
    (422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}),
    (400, openai("Invalid thinking budget", "invalid_budget_tokens")),
    (400, openai("The thinking budget is used up", "thinking_budget_exceeded")),
]


@pytest.mark.parametrize(("status", "body"), ITEM, ids=str)
def test_these_are_the_requests_own(status, body):
    assert fault_of_request(error_of(status, body)) is Fault.ITEM


ECHOES = [
    (
        400,
        openai("Invalid value: 'insufficient balance, your account is suspended'.", "invalid_value", None, "messages"),
    ),
    (400, openai("1 validation error: input='Insufficient credits. Billing hard limit has been reached'")),
    (404, openai('The model "insufficient credits" does not exist.')),
    (404, openai("The model `api key expired` does not exist.", None, "NotFoundError")),
    (422, {"detail": [{"loc": ["body", "x"], "msg": "bad", "input": "You exceeded your current quota"}]}),
    (500, openai("Internal error while processing: 'insufficient balance'")),
    (403, openai('Your input was flagged: "out of credits" by moderation', None)),
]


@pytest.mark.parametrize(("status", "body"), ECHOES, ids=str)
def test_a_prompt_or_a_models_name_that_is_quoted_stops_no_account(status, body):
    assert fault_of_request(error_of(status, body)) is not Fault.ACCOUNT


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, openai("Forbidden", None, "permission_error")),
        (403, openai("Access denied due to Virtual Network/Firewall rules.", "AccessDenied")),
        (403, None),
        (404, {"detail": "Not Found"}),
        (404, "404 page not found"),
        (404, openai("Invalid URL (POST /chat/completions)", None, "invalid_request_error")),
        (405, None),
        (301, None),
        (400, "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>"),
        (404, openai("No endpoints found matching your data policy.", 404)),
    ],
    ids=str,
)
def test_these_do_not_say_whose_they_are(status, body):
    found = fault_of_request(error_of(status, body))
    assert found is (Fault.ITEM if "endpoints found" in str(body) else Fault.UNNAMED)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 529])
def test_these_are_the_providers(status):
    assert fault_of_request(error_of(status, None)) is Fault.PROVIDER
    assert fault_of_batch(error_of(status, None)) is Fault.PROVIDER


def failed(code: str | None = None, message: str | None = None, param: str | None = None, kind: str | None = None):
    return fault_of_batch(ProviderError(None, code=code, type=kind, param=param, message=message))


@pytest.mark.parametrize(
    "param", ["file_id", "input_file_id", "endpoint", "completion_window", "metadata", "metadata.key"]
)
def test_a_field_of_the_creation_is_the_batchs_and_a_field_of_a_line_is_not(param):
    assert failed("invalid_request", "No.", param) is Fault.BATCH
    assert fault_of_batch(error_of(400, openai("No.", "invalid_request", None, param))) is Fault.BATCH
    assert failed("invalid_request", "No.", f"body.{param}") is Fault.ITEM
    assert failed("invalid_request", "No.", "body.messages") is Fault.ITEM


def test_a_failure_of_a_batch_is_told_apart_by_its_code():
    assert failed("insufficient_quota", "No.") is Fault.ACCOUNT
    assert failed(None, QUOTA) is Fault.ACCOUNT
    assert failed("invalid_request", "Cannot find file file-1, or organization org-1 may not use it.") is Fault.BATCH
    assert failed("EmptyFile") is Fault.BATCH
    assert failed("rate_limit_exceeded") is Fault.NOW
    assert failed("server_error") is failed("internal_error") is failed() is Fault.PROVIDER
    assert failed("invalid_request", "The input file could not be downloaded") is Fault.BATCH
    assert failed("invalid_request", "Failed to fetch the input file") is Fault.BATCH
    for code in ("unknown", "batch_failed", "batch_processing_failed", "unexpected_error", "processing_error"):
        assert failed(code) is failed(code, "Something went wrong") is Fault.PROVIDER
        assert failed(code, "The model gpt-x does not exist") is failed(code, "Line 3 is no JSON") is Fault.ITEM
    assert failed("server_error", "x", "line") is Fault.PROVIDER
    assert failed("mismatched_model") is failed("invalid_request") is failed("service_tier_unknown") is Fault.ITEM


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        (Fault.UNNAMED, (400, 415, 422)),
        (Fault.BATCH, (404, 405, 501)),
        (Fault.ACCOUNT, (401, 402, 403, 407)),
        (Fault.ITEM, (413,)),
        (Fault.NOW, (408, 409, 429)),
        (Fault.PROVIDER, (500, 502, 503)),
    ],
)
def test_a_refused_upload_or_creation_is_told_apart_by_its_status(fault, statuses):
    assert {fault_of_batch(error_of(status, openai("No."))) for status in statuses} == {fault}


def test_there_is_no_capacity_in_two_ways():
    assert no_capacity(error_of(498, None))
    assert no_capacity(error_of(429, openai("No.", "resource_unavailable")))
    assert no_capacity(error_of(503, openai("No.", "flex_capacity_exhausted")))
    assert not no_capacity(error_of(429, openai("No.", "rate_limit_exceeded")))


PIECES = [
    "?key=",
    "account=",
    "key=0&",
    "insufficient ",
    "your account ",
    "is ",
    "limit: 9",
    "requested ",
    "`",
    '"',
    "error: ",
    "(",
    "models ",
    "\n",
    "9",
]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("status", [400, 403, 429, 200])
def test_a_message_of_a_megabyte_is_judged_at_once(piece, status):
    body = openai(piece * (1_000_000 // len(piece)), piece * 10_000, piece * 10_000)
    began = time.process_time()
    error = error_of(status, body) if status != 200 else error_inside(body) or error_of(200, body)
    fault_of_request(error)
    fault_of_batch(error)
    assert len(error.sentence) <= 500
    assert time.process_time() - began < 0.5


@given(
    status=st.integers(0, 700) | st.none(),
    code=st.text(max_size=40) | st.none(),
    kind=st.text(max_size=40) | st.none(),
    param=st.text(max_size=20) | st.none(),
    message=st.text(max_size=400) | st.none(),
)
def test_every_error_is_somebodys(status, code, kind, param, message):
    error = ProviderError(status, code, kind, param, message)
    assert fault_of_request(error) in Fault
    assert fault_of_batch(error) in Fault
