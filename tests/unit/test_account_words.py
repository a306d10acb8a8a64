"""Codes and sentences of many providers that refuse the account, and others that look like them and do not."""

from __future__ import annotations

from typing import Any

import pytest

from lowtide.core.batches import ProviderBatch, ProviderStatus
from lowtide.core.collection import Reading
from lowtide.core.outcomes import Again, Response
from lowtide.core.provider_errors import ProviderError, error_of
from lowtide.core.result_lines import ResultLine
from lowtide.core.whose_fault import Fault, fault_of_batch, fault_of_request


def said(message: str, code: Any = None, kind: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


ACCOUNT_CODES = [
    "negative_account_balance",
    "plan_upgrade_required",
    "included_usage_exhausted",
    "quota_exceeded",
    "QuotaExceeded",
    "quota_exhausted",
    "monthly_quota_exceeded",
    "AllocationQuota.FreeTierOnly",
    "free_tier_exhausted",
    "free_trial_ended",
    "trial_expired",
    "wallet_empty",
    "wallet_balance_low",
    "prepaid_exhausted",
    "prepaid_credit_depleted",
    "INSUFFICIENT_BALANCE",
    "no_credits_left",
    "out_of_credits",
    "credits_required",
    "credit_limit",
    "credit_card_required",
    "card_declined",
    "card_expired",
    "expired_credit_card",
    "payment_past_due",
    "payment_method_missing",
    "no_payment_method",
    "account_past_due",
    "unpaid_invoice",
    "invoice_overdue",
    "billing_disabled",
    "BILLING_DISABLED",
    "spending_cap_reached",
    "spend_cap_exceeded",
    "monthly_usage_cap_exceeded",
    "max_usage_reached",
    "plan_limit_reached",
    "team_budget_exceeded",
    "over_budget",
    "blocked_api_access",
    "api_access_suspended",
    "access_terminated",
    "access_revoked",
    "account_flagged",
    "account_frozen",
    "account_on_hold",
    "blocked_account",
    "suspended_organization",
    "user_banned",
    "team_blocked",
    "workspace_disabled",
    "tenant_suspended",
    "consumer_suspended",
    "CONSUMER_INVALID",
    "ACCOUNT_STATE_INVALID",
    "API_KEY_SERVICE_BLOCKED",
    "API_KEY_IP_ADDRESS_BLOCKED",
    "api_key_leaked",
    "key_revoked",
    "virtual_key_blocked",
    "SERVICE_DISABLED",
    "CREDENTIALS_MISSING",
    "GCP_SUSPENDED",
    "geo_restricted",
    "GeoBlocked",
    "country_blocked",
    "country_not_supported",
    "restricted_region",
    "embargoed_region",
    "sanctioned_country",
    "location_forbidden",
    "insufficient_scope",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
    "missing_permission_scopes_required",
    "subscription_required",
    "subscription_expired",
    "identity_verification_required",
    "kyc_pending",
    "terms_not_accepted",
]


@pytest.mark.parametrize("status", [400, 403, 429, None])
@pytest.mark.parametrize("code", ACCOUNT_CODES)
def test_a_code_of_the_account_decides_wherever_it_comes(code, status):
    error = ProviderError(status, code=code, message="No.")
    assert fault_of_request(error) is fault_of_batch(error) is Fault.ACCOUNT


OTHER_CODES = [
    "content_policy_violation",
    "prompt_blocked",
    "pii_credit_card_detected",
    "invalid_budget_tokens",
    "thinking_budget_exceeded",
    "reasoning_budget_exceeded",
    "context_budget_exceeded",
    "model_not_available_in_region",
    "model_access_restricted",
    "unbalanced_brackets",
    "load_balancer_config",
    "billed_as_text",
    "invalid_card_suit",
    "clinical_trial_topic",
    "country_code_invalid",
    "region_code_unknown",
    "invalid_location_parameter",
    "user_message_missing",
    "team_name_invalid",
    "project_summary_too_long",
    "invalid_scope_of_tool",
    "discredited_source",
    "spend_time_invalid",
    "quotation_missing",
    "censorship_blocked",
    "sensitive_content",
    "moderation_flagged",
]


@pytest.mark.parametrize("status", [400, 403, 429, 451, None])
@pytest.mark.parametrize("code", OTHER_CODES)
def test_a_code_that_only_looks_like_one_of_the_account_does_not_stop_it(code, status):
    error = ProviderError(status, code=code, message="No.")
    assert fault_of_request(error) is not Fault.ACCOUNT
    if status != 403:
        # Any 403 to a batch is taken for the account's.
        assert fault_of_batch(error) is not Fault.ACCOUNT


ACCOUNT_SENTENCES = [
    "Your organization has exceeded its spend limit",
    "Organization `org-1` has reached its configured spend limit. Please visit the console.",
    "Your project has exceeded its monthly spending cap. Please go to AI Studio.",
    "You have hit your monthly usage cap",
    "Spend limit exceeded",
    "Usage limit exceeded",
    "Portkey Error: Usage limit exceeded",
    "Key limit exceeded (monthly limit). Manage it using https://openrouter.ai/settings/keys",
    "Monthly budget cap reached for this workspace",
    "budget limits exceeded for the API key",
    "Sorry, your account balance is insufficient",
    "Insufficient account balance",
    "Prepaid balance exhausted",
    "Wallet balance is zero",
    "Your wallet is empty",
    "You have run out of credits",
    "Your credits have expired",
    "Your free trial has expired. Please upgrade your plan.",
    "The free tier of the model has been exhausted.",
    "Your quota has been exceeded",
    "You are using a Trial key, which is limited to 1000 API calls / month.",
    "Your card was declined",
    "Payment required",
    "Unpaid invoices on this account",
    "No payment method on file",
    "No credits left",
    "Your account is past due",
    "Your subscription has been cancelled",
    "Inactive subscription or usage limit reached",
    "AI Gateway requires a valid credit card on file to service requests.",
    "This API method requires billing to be enabled. Please enable billing on project #1",
    "Please top up your account to continue",
    "Permission denied: Consumer 'api_key:AIza' has been suspended.",
    "Your API key was reported as leaked. Please use another API key.",
    "Team=xyz is blocked. Update via /team/unblock if you're an admin.",
    "Workspace is disabled",
    "Your account has been flagged for potentially violating our usage policy.",
    "Your access was terminated due to violation of our policies",
    "This service is not available in your region",
    "not available in your country",
    "Requests from a restricted country are refused",
    "Missing scopes: api.files.read",
    "The security token included in the request is expired",
    "litellm.RateLimitError: RateLimitError: OpenAIException - You exceeded your current quota, please check your plan",
    "Your organization's credit balance is too low",
    "The organization's credit is used up",
    "Your team's budget is exhausted",
    "The workspace’s prepaid balance is zero",
    "Your key's spending limit has been reached",
    "Please add a payment method",
    "Please add credits to continue",
    "Your last invoice has not been paid",
    "Your subscription has lapsed",
    "Your remaining credits do not cover this request",
    "The API key provided is no longer valid",
    "Your token has been revoked",
    "API access is not enabled for your organization",
    "Your organization must be verified to use the API",
    "Please upgrade your plan to continue",
    "You have reached your monthly included usage of the Pro plan.",
]


@pytest.mark.parametrize("status", [400, 403, 412, 429, None])
@pytest.mark.parametrize("sentence", ACCOUNT_SENTENCES)
def test_a_sentence_of_the_account_decides_where_no_code_does(sentence, status):
    error = ProviderError(status, message=sentence)
    assert fault_of_request(error) is fault_of_batch(error) is Fault.ACCOUNT
    generic = ProviderError(status, type="invalid_request_error", message=sentence)
    assert fault_of_request(generic) is fault_of_batch(generic) is Fault.ACCOUNT


PACES = [
    said("Quota exceeded for quota metric 'Generate Content API requests per minute'.", "quota_exceeded"),
    said("Tokens per day limit exceeded", "token_quota_exceeded", "too_many_tokens_error", "quota"),
    said("Requests per minute limit exceeded - too many requests sent.", "request_quota_exceeded", None, "quota"),
    said("Your quota of 5 requests/minute has been exceeded"),
    said("Quota exhausted. Please retry in 12s.", "quota_exhausted"),
    said("Free tier quota exceeded: 10 requests per minute"),
    said("You are using a Trial key, which is limited to 10 API calls / minute."),
    said("Your account reached its limit of requests per day (RPD): Limit 200, Used 200, Requested 1."),
    said("Rate limit reached for organization org-1 on requests per day (RPD): Limit 0, Used 0, Requested 1."),
    said("Too many requests. Upgrade your plan for a higher quota limit", None, "rate_limit_error"),
    said("You have exceeded the usage limit of 60 requests per minute"),
    said("Your plan limit is exceeded. Please try again in 20s."),
    said("Exceeded 100 credits per minute"),
    said("Your account is restricted to 5 requests per minute"),
    said("Key limit exceeded, 20 rpm"),
    said("Concurrency limit reached for your subscription"),
    said("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 requests per day", 429),
    said("Need a higher limit? Add a payment method to your account."),
    said("Allocated quota exceeded, please increase your quota limit.", "Throttling.AllocationQuota"),
]


@pytest.mark.parametrize("body", PACES, ids=str)
def test_a_quota_for_a_time_that_passes_is_of_the_moment(body):
    assert fault_of_request(error_of(429, body)) is Fault.NOW


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("quota_exceeded", "Quota exceeded.", Fault.NOW),
        (None, "Your quota has been exceeded", Fault.NOW),
        (None, "You exceeded your current quota, please check your plan and billing details.", Fault.ACCOUNT),
        ("insufficient_quota", "No.", Fault.ACCOUNT),
        (None, "Your project has exceeded its monthly spending cap", Fault.ACCOUNT),
    ],
)
def test_a_wait_that_comes_with_a_quota_makes_it_a_pace_but_no_bill_is_paid_by_waiting(code, message, expected):
    error = ProviderError(429, code=code, message=message)
    assert fault_of_request(error, told_to_wait=True) is expected
    assert fault_of_request(error) is Fault.ACCOUNT


ECHOES = [
    ("content_policy_violation", "Request blocked by content policy. Input: your account is suspended"),
    ("content_policy_violation", "Your account is suspended"),
    ("content_filter", "insufficient credits"),
    ("invalid_value", "Your credit balance is too low"),
    (None, "Guardrail rejected: user said: 'my account is suspended and payment required'"),
    (None, "Guardrail rejected my account is suspended and payment required"),
    (None, "Violated moderation policy {'text': 'my credits are exhausted'}"),
    (None, "Rate limit reached for user 'payment required'"),
    (None, "Too many requests for prompt hash; text: insufficient credits"),
    (None, 'You sent: "your account has been suspended"'),
    (None, "You sent: your account has been suspended"),
    (None, "Blocked “out of credits”"),
    (None, "Blocked «insufficient balance»"),
    (None, "Blocked ‘insufficient balance, don’t you know’"),
    (None, "Blocked 'insufficient balance, don't you know' by rule 7"),
    (None, "Blocked ```Your subscription has expired```"),
    (None, "Blocked: 'your account is suspended and the rest of a text that was cut off"),
    (None, "Prompt rejected, matched: billing hard limit has been reached"),
    (None, "Input: no payment method"),
    (None, "The user asks: my account is suspended, what now?"),
    (None, "Inappropriate content found. My account was terminated and I am angry."),
    (None, "The model is not available in your region"),
    (None, "Blocked. " + "x" * 300 + " Your account is suspended"),
]


@pytest.mark.parametrize("status", [400, 403, 412, 422, 429, 451, 500, None])
@pytest.mark.parametrize(("code", "message"), ECHOES)
def test_what_the_sender_wrote_stops_no_account(code, message, status):
    assert fault_of_request(ProviderError(status, code=code, message=message)) is not Fault.ACCOUNT
    if status != 403:
        assert fault_of_batch(ProviderError(status, code=code, message=message)) is not Fault.ACCOUNT


@pytest.mark.parametrize("status", [400, 422, 500, 503, None])
@pytest.mark.parametrize(
    "message",
    [
        "Failed on: your account is suspended",
        "Validation failed; your account has been suspended; out of credits",
        "Internal error near my account is suspended",
        "Your account is suspended? the user asks: internal error",
        "My account is suspended",
    ],
)
def test_elsewhere_only_the_first_words_are_the_providers(message, status):
    assert fault_of_request(ProviderError(status, message=message)) is not Fault.ACCOUNT


@pytest.mark.parametrize("status", [400, 403, 422, 429, None])
@pytest.mark.parametrize(
    "message",
    [
        "Thinking budget exceeded",
        "Budget for thinking exceeded",
        "The reasoning budget is used up",
        "You exceeded the maximum output budget",
        "Budget tokens exceeded the maximum",
        "No balance provided in the arguments of the tool",
        "No credit card number in the schema",
        "The user name is not allowed",
        "The request was blocked",
        "Access denied",
        "Unbalanced brackets",
        "Image region is empty",
    ],
)
def test_a_sentence_that_only_looks_like_one_of_the_account_does_not_stop_it(message, status):
    assert fault_of_request(ProviderError(status, message=message)) is not Fault.ACCOUNT


def test_a_field_at_fault_leaves_the_sentence_unread():
    body = said("Insufficient quota says the user: invalid tool name", "bad_name", None, "tools[0].name")
    assert fault_of_request(error_of(400, body)) is Fault.ITEM


LOW = "Your credit balance is too low to access the API."
WRAPPED = [
    said('litellm.BadRequestError: AnthropicException - {"type":"error","error":{"message":"' + LOW + '"}}', "400"),
    said(f'litellm.BadRequestError: AnthropicException - b\'{{"error":{{"message":"{LOW}"}}}}\'', "400"),
    said("Error code: 429 - {'error': {'message': 'No.', 'code': 'insufficient_quota'}}"),
    said('OpenAIException - {"error":{"code":"insufficient_quota","message":"No."}}. Received Model Group=m', 400),
    said('{"error":{"code":"billing_hard_limit_reached"}}'),
    {
        "error": {
            "message": "Provider returned error",
            "code": 400,
            "metadata": {"raw": '{"error":{"message":"' + LOW + '"}}'},
        }
    },
    {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "insufficient_quota"}}},
    {"error": [{"message": "Insufficient credits"}]},
    {"errors": [{"message": "Insufficient credits", "code": 1}]},
    {"error": "insufficient_quota"},
    {"message": "INSUFFICIENT_BALANCE: no."},
    {"error": {"code": 400, "message": "No.", "details": [{"reason": "API_KEY_INVALID"}]}},
    {"error_code": "QUOTA_EXHAUSTED", "message": "No."},
]


@pytest.mark.parametrize("body", WRAPPED, ids=str)
def test_an_error_inside_the_text_of_a_router_is_read_as_itself(body):
    assert fault_of_request(error_of(400, body)) is Fault.ACCOUNT


NOT_WRAPPED = [
    said('Invalid request: {"error":{"code":"insufficient_quota"}}'),
    said('You sent {"code":"insufficient_quota","message":"No."}'),
    said('{"messages":[{"role":"user","content":"x"}],"metadata":{"code":"insufficient_quota"}}'),
    said("Error code: 400 - {'error': {'message': 'Bad: {\"code\": \"insufficient_quota\"}'}}"),
    said('OpenAIException - {"error": {"message": "Bad: {\\"code\\": \\"insufficient_quota\\"}"}}'),
    said('"insufficient_quota" is no model'),
    said("insufficient_quota is no tool that we know", None, None, "tools"),
]


@pytest.mark.parametrize("body", NOT_WRAPPED, ids=str)
def test_a_request_that_is_repeated_is_no_error_of_a_server(body):
    assert fault_of_request(error_of(400, body)) is Fault.ITEM


OF_ITSELF = [
    (400, said("No connected db.", "400", "no_db_connection")),
    (400, said("Internal error", "server_error")),
    (400, said("Bad gateway from upstream", "upstream_error")),
    (400, said("upstream timeout", "timeout")),
    (400, said("engine is overloaded", "overloaded")),
    (400, said("x", "engine_overloaded_error")),
    (400, said("x", "model_overloaded")),
    (400, said("x", "internal_server_error")),
    (400, said("x", "service_unavailable")),
    (400, said("x", "database_error")),
    (400, said("x", "gateway_timeout")),
    (400, {"error": "Model x is currently loading", "estimated_time": 20.0}),
    (404, said("Model is loading", "model_loading")),
    (404, said("x", "model_not_ready")),
    (424, {"error": "Request failed during generation", "error_type": "generation"}),
    (424, None),
    (422, said("The server is overloaded, please come back later")),
]


@pytest.mark.parametrize(("status", "body"), OF_ITSELF, ids=str)
def test_a_provider_that_failed_itself_is_asked_again_whatever_the_status(status, body):
    assert fault_of_request(error_of(status, body)) is Fault.PROVIDER
    assert fault_of_batch(error_of(status, body)) is Fault.PROVIDER


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, said("x", "invalid_server_url")),
        (400, said("x", "invalid_timeout")),
        (400, said("Timeout must be below 600", "bad_request", None, "timeout")),
        (400, said("x", "server_error", None, "messages")),
        (400, said("Unknown model 'overloaded'")),
        (400, said("You wrote: the server is overloaded")),
        (400, said("x", "model_not_found")),
        (400, said("x", "unsupported_loading")),
        (422, said("The tool called server is unavailable here", "invalid_tool")),
    ],
    ids=str,
)
def test_a_request_at_fault_is_not_asked_again(status, body):
    assert fault_of_request(error_of(status, body)) is Fault.ITEM


@pytest.mark.parametrize(
    "body",
    [
        {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "x"},
        {"message": "REQUEST_LIMIT_EXCEEDED: Exceeded workspace output tokens per minute rate limit"},
        {"__type": "ThrottlingException", "message": "Rate exceeded"},
        said("x", "concurrency_limit_exceeded"),
        said("x", "tokens_per_minute_exceeded"),
    ],
    ids=str,
)
def test_a_pace_that_comes_with_400_is_of_the_moment(body):
    assert fault_of_request(error_of(400, body)) is Fault.NOW


@pytest.mark.parametrize(
    ("message", "kind", "expected"),
    [
        ("on tokens per min (TPM): Limit 30000, Used 0, Requested 34230.", "tokens", Fault.ITEM),
        ("on tokens per day (TPD): Limit 100,000, Requested 342,389.", None, Fault.ITEM),
        ("on requests per day (RPD): Limit 0, Used 0, Requested 1.", "requests", Fault.NOW),
        ("on requests per min (RPM): Limit 3, Used 3, Requested 4.", "requests", Fault.NOW),
        ("on images per minute (IPM): Limit 5, Requested 6.", None, Fault.NOW),
        ("on tokens per min (TPM): Limit 0, Used 0, Requested 10.", "tokens", Fault.NOW),
        ("Request too large for m on tokens per min (TPM): Limit 0, Requested 1.", "tokens", Fault.NOW),
        ("for `limit 1 requested 5` on TPM", None, Fault.NOW),
        ("for 'tokens: limit 1, requested 5'", None, Fault.NOW),
        ("on tokens per min (TPM): Limit 30000, Used 29000, Requested 3423.", "tokens", Fault.NOW),
    ],
)
def test_only_more_tokens_than_a_limit_has_can_never_pass(message, kind, expected):
    error = ProviderError(429, code="rate_limit_exceeded", type=kind, message=f"Rate limit reached for m {message}")
    assert fault_of_request(error) is expected


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("context_window_exceeded", "No."),
        ("model_context_window_exceeded", "No."),
        ("invalid_jsonl_file", "Line 3 is not valid JSON."),
        ("invalid_jsonl_file", "No."),
        ("invalid_json_line", "No."),
        ("invalid_file_format", "Line 3 lacks a custom_id."),
        ("file_parse_error", "No."),
        ("file_encoding_invalid", "No."),
        ("duplicate_custom_id", "No."),
        ("file_too_large", "No."),
        ("input_file_too_large", "No."),
        ("file_size_exceeded", "No."),
        ("image_file_too_small", "No."),
        ("empty_image_file", "No."),
        ("file_search_unsupported", "No."),
        ("file_data_invalid", "No."),
    ],
)
def test_a_line_of_a_batch_is_found_by_halves_even_if_its_code_names_the_file(code, message):
    assert fault_of_batch(ProviderError(None, code=code, message=message)) is Fault.ITEM


@pytest.mark.parametrize(
    "code",
    [
        "EmptyFile",
        "empty_file",
        "invalid_file",
        "file_not_found",
        "input_file_expired",
        "invalid_file_purpose",
        "invalid_endpoint",
        "invalid_completion_window",
        "completion_window_unsupported",
        "invalid_metadata",
    ],
)
def test_what_names_the_file_or_the_creation_is_the_batchs(code):
    assert fault_of_batch(ProviderError(None, code=code, message="No.")) is Fault.BATCH


@pytest.mark.parametrize(
    ("code", "answered", "account"),
    [(None, False, True), (None, True, False), ("insufficient_quota", False, True), ("insufficient_quota", True, True)],
)
def test_a_sentence_on_one_line_stops_no_account_that_answered_others_and_uses_up_a_try(code, answered, account):
    refused = Response(403, {"error": {"code": code, "message": "Your account is suspended"}})
    sent = {"a-1": 1, "b-1": 2}
    reading = Reading()
    reading.take(ResultLine("a-1", refused, None, None), sent)
    if answered:
        reading.take(ResultLine("b-1", Response(200, {"id": "x"}), None, None), sent)
    outcomes = reading.unanswered(sent, ProviderBatch(id="batch_1", status=ProviderStatus.COMPLETED))
    outcome = next(outcome for name, outcome, _ in outcomes if name == "a-1")
    assert isinstance(outcome, Again)
    assert (outcome.account, outcome.counts) == (account, not account)
