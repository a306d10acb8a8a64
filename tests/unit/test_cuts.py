"""What 429s do to a rate: those of a limit cut it, stray ones do not, and a run of them stops all calls for a while."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median

import pytest

from lowtide.core.cuts import EPOCH_S, MOST_STRAY, grant_stamp
from lowtide.core.outcomes import Headroom
from lowtide.core.pace import born, transition
from lowtide.core.pace_events import Begun, CallEnd, Ceiling, Held, PaceVerdict, Sign, Take, Tell
from lowtide.core.pace_rows import PaceRow
from lowtide.core.rates import HEADROOM, per_minute

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
KEY = "openai gpt-6-luna"
FREE = Ceiling()
TICK_S = 0.1


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class Traffic:
    """One consumer with ``offered`` calls a second to make, and a provider that answers within a tick, or ``late_s``
    after it: it refuses what is above ``limit`` a minute, a ``stray`` share of the rest, and everything in a storm."""

    def __init__(
        self,
        *,
        limit: float | None = None,
        stray: float = 0.0,
        offered: float = 1_000.0,
        retry_after_s: float | None = 1.0,
        ceiling: Ceiling = FREE,
        seed: int = 7,
        late_s: float = 0.0,
    ) -> None:
        self.limit, self.stray, self.offered, self.storm = limit, stray, offered, False
        self.row: PaceRow | None = None
        self.passed: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self._retry_after_s, self._ceiling, self._dice = retry_after_s, ceiling, Random(seed)
        self._room, self._waiting, self._ticks = 0.0, 0.0, 0
        self._late_ticks = round(late_s / TICK_S)
        self._ends: defaultdict[int, list[CallEnd]] = defaultdict(list)
        self._begun: Counter[datetime] = Counter()

    def run(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> float:
        """Return how many seconds passed."""
        for tick in range(round(seconds / TICK_S)):
            if until():
                return tick * TICK_S
            self._tick()
        return seconds

    @property
    def now_s(self) -> float:
        return self._ticks * TICK_S

    def share_passed(self, seconds: float) -> float:
        """Return the share of what was offered, or of the limit, that passed within the last ``seconds``."""
        most = self.offered if self.limit is None else min(self.offered, self.limit / 60)
        return sum(self._last(self.passed, seconds)) / (most * seconds)

    def share_refused(self, seconds: float) -> float:
        refused = sum(self._last(self.refused, seconds))
        return refused / max(1, refused + sum(self._last(self.passed, seconds)))

    def _last(self, counted: Counter[int], seconds: float) -> list[int]:
        end = int(self.now_s)
        return [counted[second] for second in range(round(end - seconds), end)]

    def _tick(self) -> None:
        now = at(self.now_s)
        if self.limit is not None:
            self._room = min(self.limit / 60, self._room + self.limit / 60 * TICK_S)
        self._waiting = min(self.offered, self._waiting + self.offered * TICK_S)
        begun = tuple(Begun(granted_at, count) for granted_at, count in self._begun.items())
        asked = Take(
            KEY,
            "call",
            (0,) * int(self._waiting),
            0.0,
            60.0,
            ceiling=self._ceiling,
            told=tuple(self._ends.pop(self._ticks, ())),
            begun=begun,
        )
        decision = transition(self.row, asked, now)
        self.row, self._begun = decision.row, Counter()
        assert decision.granted_at is not None
        for _ in decision.moments:
            self._call(decision.granted_at)
        self._ticks += 1

    def _call(self, granted_at: datetime) -> None:
        self._waiting -= 1
        self._begun[granted_at] += 1
        over = self.limit is not None and self._room < 1
        refused = self.storm or over or self._dice.random() < self.stray
        ends = self._ends[self._ticks + 1 + self._late_ticks]
        if refused:
            ends.append(CallEnd(Sign.LIMITED, granted_at, "call", retry_after_s=self._retry_after_s))
        else:
            self._room -= self.limit is not None
            ends.append(CallEnd(Sign.ANSWERED, granted_at, "call"))
        (self.refused if refused else self.passed)[int(self.now_s)] += 1


@pytest.mark.parametrize("share", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("retry_after_s", [1.0, 20.0, None])
def test_stray_429s_do_not_slow_the_calls_down_whatever_they_ask_for(share, retry_after_s):
    traffic = Traffic(stray=share, offered=20.0, retry_after_s=retry_after_s)
    traffic.run(120)
    assert traffic.share_passed(80) >= 0.9 * (1 - share)


def test_where_42_in_100_are_refused_by_chance_most_runs_are_as_fast():
    """Not all: a run of 429s, or a trial of few calls, may look like a limit."""
    shares = []
    for seed in range(1, 6):
        traffic = Traffic(stray=0.42, offered=20.0, seed=seed)
        traffic.run(120)
        shares.append(traffic.share_passed(80))
    assert median(shares) >= 0.9 * (1 - 0.42)


@pytest.mark.parametrize("late_s", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("share", [0.15, 0.3])
def test_stray_429s_that_take_as_long_as_answers_are_not_taken_for_a_limit(share, late_s):
    traffic = Traffic(stray=share, offered=20.0, late_s=late_s)
    traffic.run(240)
    assert traffic.share_passed(180) >= 0.85 * (1 - share)


def test_a_trial_is_not_over_before_its_calls_have_ended():
    row = told(None, 2, [*answered(1, 20), *limited(1, 3)])
    out = transition(row, Tell(KEY, (), FREE, (Begun(at(2.5), 200),)), at(3)).row
    assert out is not None
    assert out.trial is not None
    assert told(out, 5, answered(2.5, 100)).trial is None


@pytest.mark.parametrize("limit", [300, 1_000, 3_000])
def test_a_limit_that_only_429s_tell_is_found_and_used(limit):
    traffic = Traffic(limit=limit)
    traffic.run(240)
    assert traffic.share_passed(180) >= 0.9
    assert traffic.share_refused(180) <= 0.03


def test_a_limit_among_stray_429s_is_used():
    traffic = Traffic(limit=3_000, stray=0.15)
    traffic.run(240)
    assert traffic.share_passed(180) >= 0.85
    assert traffic.share_refused(180) <= 0.25


@pytest.mark.parametrize("retry_after_s", [1.0, None])
def test_after_a_minute_in_which_all_was_refused_the_rate_is_back_within_half_a_minute(retry_after_s):
    traffic = Traffic(limit=3_000, retry_after_s=retry_after_s)
    traffic.run(120)
    traffic.storm = True
    traffic.run(60)
    assert sum(traffic.refused[second] for second in range(125, 180)) <= 0.1 * 55 * 50, "most calls waited meanwhile"
    traffic.storm = False
    traffic.run(30)
    assert traffic.share_passed(5) >= 0.9


def test_a_limit_that_is_cut_by_half_is_followed_and_so_is_its_return():
    traffic = Traffic(limit=3_000)
    traffic.run(120)
    traffic.limit = 1_500
    traffic.run(60)
    assert traffic.share_refused(30) <= 0.1
    traffic.limit = 3_000
    traffic.run(60)
    assert traffic.share_passed(10) >= 0.9


def test_strays_that_end_are_forgotten_and_a_limit_is_noticed_again():
    traffic = Traffic(stray=0.3, offered=20.0)
    traffic.run(120)
    traffic.stray, traffic.limit, traffic.offered = 0.0, 600.0, 1_000.0
    traffic.run(180)
    assert traffic.share_passed(60) >= 0.85
    assert traffic.share_refused(60) <= 0.1


def test_a_queue_that_runs_dry_on_trial_takes_nothing_from_the_rate():
    """What was called meanwhile says nothing of what may be."""
    traffic = Traffic(stray=0.15, offered=20.0)
    traffic.run(120, until=lambda: traffic.row is not None and traffic.row.trial is not None)
    assert traffic.row is not None
    before = per_minute(traffic.row, FREE, at(traffic.now_s))
    traffic.offered = 0.05
    traffic.run(120)
    traffic.offered = 20.0
    traffic.run(20)
    assert per_minute(traffic.row, FREE, at(traffic.now_s)) >= min(before, 1_200) * 0.8
    assert traffic.share_passed(10) >= 0.75


def limited(granted: float, count: int = 1, **more: float) -> list[CallEnd]:
    return [CallEnd(Sign.LIMITED, at(granted), f"call {number}", **more) for number in range(count)]


def told(row: PaceRow | None, seconds: float, ends: list[CallEnd], *, ceiling: Ceiling = FREE) -> PaceRow:
    begun = tuple(Begun(granted_at, count) for granted_at, count in Counter(end.granted_at for end in ends).items())
    row = transition(row, Tell(KEY, tuple(ends), ceiling, begun), at(seconds)).row
    assert row is not None
    return row


def answered(granted: float, count: int) -> list[CallEnd]:
    return [CallEnd(Sign.ANSWERED, at(granted), f"call {number}") for number in range(count)]


def test_one_429_stops_nobody_else_whatever_it_asks_for():
    row = told(None, 1, limited(0, retry_after_s=900.0))
    asked = Take(KEY, "call", (0,), 0.0, 60.0)
    assert transition(row, asked, at(1)).verdict is PaceVerdict.APPLIED


def test_three_in_a_row_stop_all_calls_for_as_long_as_the_provider_asks():
    row = told(None, 1, limited(0, 3, retry_after_s=20.0))
    held = transition(row, Take(KEY, "call", (0,), 0.0, 60.0), at(19))
    assert (held.verdict, held.later, held.held) == (PaceVerdict.LATER, at(21), Held.RATE)
    assert transition(row, Take(KEY, "call", (0,), 0.0, 60.0), at(21)).moments == (at(21),)


def test_where_calls_that_began_have_not_ended_yet_their_fast_429s_are_no_storm():
    begun = (Begun(at(0), 40),)
    row = transition(None, Tell(KEY, tuple(limited(0, 4, retry_after_s=20.0)), FREE, begun), at(1)).row
    assert row is not None
    assert row.not_before is None


def test_pauses_in_a_row_without_a_time_grow_and_end_at_eight_seconds():
    row, now, waits = None, 1.0, []
    for _ in range(7):
        row = told(row, now, limited(now - 0.01, 3))
        assert row.not_before is not None
        waits.append((row.not_before - at(now)).total_seconds())
        now += waits[-1] + 0.1
    assert waits[0] <= 1.0
    assert max(waits) <= 8.0
    assert waits[-1] > waits[0]


def test_a_429_of_a_call_that_was_granted_before_the_cut_says_nothing_new():
    row = told(None, 2, [*answered(1, 20), *limited(1, 3)])
    assert row.cut_at == at(2)
    after = told(row, 3, limited(2, 1))
    assert (after.begun, after.refused, after.refused_run, after.peak) == (0, 0, 0, row.peak)


def test_calls_granted_in_the_very_instant_of_a_cut_and_after_it_are_counted():
    row = told(None, 2, [*answered(1, 20), *limited(1, 3)])
    decision = transition(row, Take(KEY, "call", (0,), 1.0, 60.0), at(2))
    assert decision.granted_at == grant_stamp(row, at(2)) > at(2)
    counted = transition(row, Tell(KEY, (), FREE, (Begun(decision.granted_at, 1),)), at(3)).row
    assert counted is not None
    assert (row.begun, counted.begun) == (0, 1)


def test_a_limit_told_in_headers_ends_what_429s_had_taught():
    row = told(None, 2, [*answered(1, 20), *limited(1, 3)])
    assert row.trial is not None
    end = CallEnd(Sign.ANSWERED, at(3), "call", headroom=Headroom(requests_limit=5_000))
    row = told(row, 3, [end])
    assert (row.trial, row.peak) == (None, None)
    assert per_minute(row, FREE, at(3)) == 5_000 * HEADROOM


@pytest.mark.parametrize("limit", [9_000.0, 11_000.0])
def test_a_limit_in_headers_that_changes_voids_nothing_that_429s_taught(limit):
    row = told(None, 1, [CallEnd(Sign.ANSWERED, at(0), "call", headroom=Headroom(requests_limit=10_000.0))])
    row = told(row, 3, [*answered(2, 20), *limited(2, 3)])
    after = told(row, 4, [CallEnd(Sign.ANSWERED, at(3.5), "call", headroom=Headroom(requests_limit=limit))])
    assert after.requests_limit == limit
    assert (after.peak, after.trial, after.counted_since) == (row.peak, row.trial, row.counted_since)
    assert after.trial is not None


def test_a_guess_is_not_cut_on_a_few_calls():
    row = told(None, 2, [*answered(1, 8), *limited(1, 2)])
    assert (row.peak, row.refused) == (None, 2)


def test_where_all_is_refused_from_birth_the_guess_does_not_grow_through_pauses():
    traffic = Traffic(retry_after_s=5.0)
    traffic.storm = True
    traffic.run(600)
    assert sum(traffic._last(traffic.refused, 540)) <= 10 * 540 / 5
    assert traffic.row is not None
    assert per_minute(traffic.row, FREE, at(traffic.now_s)) <= 1_200


def test_an_answer_between_429s_ends_their_run_whenever_it_is_told():
    row = told(None, 1, limited(0, 2))
    row = transition(row, Tell(KEY, tuple(answered(0, 1))), at(2)).row
    assert row is not None
    assert row.refused_run == 0
    assert told(row, 3, limited(2.5, 2)).not_before is None


def test_429s_after_an_answer_begin_a_run_of_their_own():
    assert told(None, 1, [*limited(0, 2), *answered(0, 1), *limited(0, 2)]).refused_run == 0, "more began than refused"
    begun = (Begun(at(0), 2),)
    row = transition(None, Tell(KEY, (*answered(0, 1), *limited(0, 2)), FREE, begun), at(1)).row
    assert row is not None
    assert row.refused_run == 2


def test_a_limit_of_ten_a_minute_is_found_though_whole_epochs_are_refused():
    row, room, refused = None, 1.0, Counter[bool]()
    for tick in range(9_000):
        now = at(tick * TICK_S)
        room = min(1.0, room + 10 / 60 * TICK_S)
        decision = transition(row, Take(KEY, "call", (0,), 0.0, 60.0), now)
        row = decision.row
        if not decision.moments or decision.granted_at is None:
            continue
        over, room = room < 1, room - (room >= 1)
        refused[over] += tick > 3_000
        end = CallEnd(Sign.LIMITED if over else Sign.ANSWERED, decision.granted_at, "call", retry_after_s=None)
        row = transition(row, Tell(KEY, (end,), FREE, (Begun(decision.granted_at, 1),)), now).row
    assert refused[False] >= 0.7 * 10 * 10
    assert refused[True] <= 0.3 * refused[False]


def test_a_rate_that_routes_allow_is_not_taken_below_a_call_a_minute_by_any_number_of_429s():
    row, once = None, Ceiling(requests=1)
    for second in range(0, 600, 20):
        row = told(row, second + 1, [*answered(second, 1), *limited(second, 2)], ceiling=once)
    assert per_minute(row, once, at(600)) == 1.0


def test_a_clock_that_runs_backwards_between_two_writers_harms_nothing():
    row = told(None, 10, [*answered(9, 20), *limited(9, 3)])
    row = told(row, 4, [*answered(3.5, 20), *limited(3.5, 5)])
    row = told(row, 11, answered(10.5, 20))
    assert per_minute(row, FREE, at(40)) >= 60


def test_a_row_of_the_release_before_is_read_and_paced():
    kept = born(KEY, NOW).model_copy(update={"peak": 500.0, "cut_at": NOW}).model_dump_json()
    row = PaceRow.model_validate_json(kept[:-1] + ',"limited":4,"limited_at":"2026-03-02T10:00:00Z"}')
    assert told(row, 2, [*answered(1, 20), *limited(1, 3)]).trial is not None


def test_a_row_stays_within_one_write_unit():
    """DynamoDB bills a write by the kilobyte."""
    traffic = Traffic(limit=1_000, stray=1 / 7, retry_after_s=1.1)
    longest = 0
    for _ in range(240):
        traffic.run(1)
        assert traffic.row is not None
        longest = max(longest, len(traffic.row.model_dump_json(exclude_none=True)))
    assert longest <= 1_024


def test_more_429s_than_any_stray_share_slow_the_calls_down():
    traffic = Traffic(stray=0.8, offered=20.0)
    traffic.run(120)
    assert sum(traffic.refused.values()) < 0.5 * 20 * 120
    assert traffic.row is not None
    assert traffic.row.stray <= MOST_STRAY


def test_counts_begin_anew_after_an_epoch():
    row = told(None, 1, answered(0.5, 10))
    assert row.begun == 10
    assert told(row, EPOCH_S + 2, answered(EPOCH_S + 1, 5)).begun == 0
