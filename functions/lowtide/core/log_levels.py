"""How loud each event is in the log, so that a level can be set, searched and alarmed on.

ERROR: something was lost, or does not go on before somebody acts. WARNING: something failed, was put off or was
refused, and lowtide goes on by itself. INFO: what happened.
"""

from __future__ import annotations

from typing import Literal

Level = Literal["INFO", "WARNING", "ERROR"]

_ERRORS = frozenset(
    {
        "account_open",
        "account_refused",
        "batches_refused",
        "callbacks_dropped",
        "collection_diverged",
        "events_dropped",
        "lot_failed",
        "newer_rows",
        "not_preserved",
        "orphan_stays",
        "prices_unread",
        "reply_dropped",
        "result_file_given_up",
        "routes_refused",
        "salvage_failed",
    }
)
_WARNINGS = frozenset(
    {
        "assembler_step_failed",
        "batch_given_back",
        "batch_given_up",
        "batch_step_failed",
        "breaker_open",
        "cancel_failed",
        "clean_failed",
        "depth_unseen",
        "drain_outlived_lease",
        "files_left",
        "files_not_named",
        "heartbeat_missed",
        "hint_failed",
        "key_store_away",
        "late_answer",
        "levels_unknown",
        "message_failed",
        "message_not_put_back",
        "messages_not_put_back",
        "orphan_batch",
        "orphan_file",
        "pace_untold",
        "part_step_failed",
        "provider_unreachable",
        "provider_wait",
        "result_file_away",
        "routes_unread",
        "stragglers",
        "submission_refused",
        "sweep_failed",
        "task_refused",
        "tier_full",
        "token_limit",
        "unknown_lines",
        "webhook_refused",
    }
)
_NEWS = frozenset(
    {
        "account_closed",
        "account_probe",
        "batch_done",
        "batch_rescued",
        "batch_stopped",
        "batch_submitted",
        "breaker_closed",
        "breaker_probe",
        "hint",
        "messages_held",
        "part_rescued",
        "preserved",
        "question_held",
        "submission_found",
        "submission_held",
        "task_settled",
        "token_limit_learned",
        "token_room",
        "yielding",
    }
)
LISTED = _ERRORS | _WARNINGS | _NEWS


def level_of(event: str) -> Level:
    """Return the level at which ``event`` is logged: INFO for an event that is not listed."""
    if event in _ERRORS:
        return "ERROR"
    return "WARNING" if event in _WARNINGS else "INFO"
