"""What a person who waits for a run is told, and how often."""

from __future__ import annotations

from lowtide_local.run.notices import RunMetrics

NOT_NAMED = (
    "the provider says completed and names no file with its answers yet. Looking again for 10 min before anything is "
    "bought again."
)
GIVEN_UP = (
    "result file file-1 is given up (HTTP 404: No such File). Tasks that are in no other file are sent again and "
    "counted as repaid."
)
UNREAD = (
    "7 lines of its result files cannot be used (file-1, line 3: why, and 6 more). unreadable.jsonl will list them."
)


def test_why_nothing_seems_to_happen_is_said_once():
    told: list[str] = []
    metrics = RunMetrics(told.append)
    for _ in range(3):
        metrics.count("calls_held", reason="flex")
        metrics.count("calls_held", reason="rate")
        metrics.count("tasks_waiting_off_peak", tier="NORMAL")
        metrics.count("calls", tier="NORMAL")
        metrics.log("message_failed", error="for operators")
    assert [line.split(":")[0].split(" in which")[0] for line in told] == [
        "flex has no capacity",
        "tasks wait for the hours",
    ]


def test_a_model_that_goes_down_once_more_is_news_and_one_that_stays_down_is_not():
    told: list[str] = []
    metrics = RunMetrics(told.append)
    metrics.log("breaker_open", breaker="openai gpt-5-mini", opens=1)
    metrics.log("breaker_open", breaker="openai gpt-5-mini", opens=2)
    metrics.log("breaker_open", breaker="openai", opens=1)
    metrics.log("breaker_closed", breaker="openai gpt-5-mini")
    metrics.log("breaker_open", breaker="openai gpt-5-mini", opens=1)
    assert [line.partition(" does not answer")[0] for line in told] == [
        "openai gpt-5-mini",
        "openai",
        "openai gpt-5-mini",
    ]


def test_a_batch_that_is_given_up_and_the_wait_for_token_room_are_said():
    told: list[str] = []
    metrics = RunMetrics(told.append)
    anew = "it is given up, and its tasks are sent anew and counted as repaid"
    metrics.log("batch_given_up", batch_id="b", known_at_provider=False)
    metrics.log("batch_given_up", batch_id="c", known_at_provider=True)
    metrics.log("token_limit", batch_id="b", wait_s=600.0, not_before="…")
    assert told == [
        f"batch b: is still not known to the provider; {anew}",
        f"batch c: has not ended; {anew}",
        "batch b: too many tokens are enqueued for its model; submitted again in 10 min",
    ]


def test_what_keeps_a_batch_from_being_read_is_said_once_and_in_words():
    told: list[str] = []
    metrics = RunMetrics(told.append)
    for _ in range(2):
        metrics.log("files_not_named", batch_id="b", status="completed", until="…")
        metrics.log("result_file_away", batch_id="b", file="file-1", reason="HTTP 404: No such File", until="…")
        metrics.log("result_file_given_up", batch_id="b", file="file-1", reason="HTTP 404: No such File", until="…")
        metrics.log("files_left", batch_id="b", reason="HTTP 403")
        metrics.log("unknown_lines", batch_id="b", lines=7, kept="raw/b.jsonl", places=["file-1, line 3: why"])
    assert [line.removeprefix("batch b: ") for line in told] == [
        NOT_NAMED,
        "result file file-1 cannot be read (HTTP 404: No such File). Trying again.",
        GIVEN_UP,
        "the provider does not delete its files (HTTP 403). They expire there.",
        UNREAD,
    ]


def test_a_long_wait_is_told_every_time_with_what_the_provider_asked_for():
    told: list[str] = []
    metrics = RunMetrics(told.append)
    for _ in range(2):
        metrics.log("provider_wait", model="openai gpt-5", code="rate_limit_exceeded", wait_s=120, asked_s=120)
    metrics.log("provider_wait", batch_id="b-1", code="busy", wait_s=900, asked_s=86_400)
    assert told == [
        *["openai gpt-5: the provider says to wait 2 min (rate_limit_exceeded)"] * 2,
        "batch b-1: the provider says to wait 24 h (busy); asked again in 15 min",
    ]


def test_batches_that_are_refused_again_and_again_end_the_run_and_once_are_a_line():
    told: list[str] = []
    ended: list[str] = []
    metrics = RunMetrics(told.append, ended.append)
    metrics.log("batch_given_back", batch_id="b-1", code="no_room", refusals=1, not_before="soon")
    assert (told, ended) == (["batch b-1: handed over anew later (no_room)"], [])
    metrics.log("batches_refused", batch_id="b-1", code="no_room")
    assert ended == ["no_room"]
    RunMetrics(told.append).log("batches_refused", batch_id="b-1", code="no_room")
