"""Functions as Lambda runs them: beside each other, within their timeouts, in processes of their own."""

from __future__ import annotations

import os
from datetime import timedelta

import lambdas
import pytest
from stack_cases import START

from lowtide import wiring
from lowtide_local.engine.clock import Deadlock
from lowtide_local.stack.containers import Container, Invocation, Killed
from lowtide_local.stack.hands import standing_still
from lowtide_local.stack.template import Function

FUNCTION = Function("Sleeper", "lambdas.handler", 60, 512, {}, (), ())


@pytest.fixture
def hands():
    with standing_still(START) as hands:
        yield hands


@pytest.fixture
def container(hands):
    made = []

    def make(environment=None):
        made.append(Container(FUNCTION, environment or {}, wiring.Outside(), hands))
        return made[-1]

    yield make
    for each in made:
        each.close()


def play(hands, *invocations):
    """To the end of them all; the seconds at which each was woken."""
    woken = []
    while waiting := [each for each in invocations if not each.ended]:
        first = min(waiting, key=lambda each: each.due)
        hands.turn_to(first.due)
        woken.append((first.container, (hands.now - START).total_seconds()))
        first.wake()
    return woken


def test_an_invocation_sees_its_time_pass(hands, container):
    invocation = Invocation(container(), {"sleep_s": 12.5})
    play(hands, invocation)
    assert invocation.answer["left_ms"] == (60_000, 47_500)
    assert hands.now == START + timedelta(seconds=12.5)


def test_two_invocations_overlap(hands, container):
    long, short = container(), container()
    woken = play(hands, Invocation(long, {"sleep_s": 30}), Invocation(short, {"sleep_s": 10}))
    assert [(who is long, at) for who, at in woken] == [(True, 0), (False, 0), (False, 10), (True, 30)]


def test_a_container_keeps_its_loop_and_another_has_its_own(hands, container):
    warm, other = container(), container()
    answers = []
    for each in (warm, warm, other):
        invocation = Invocation(each, {})
        play(hands, invocation)
        answers.append(invocation.answer["loop"])
    assert answers[0] == answers[1] != answers[2]


def test_a_functions_environment_is_there_while_it_runs_and_no_longer(hands, container, monkeypatch):
    monkeypatch.setenv("MARK", "outside")
    first = Invocation(container({"MARK": "inside", "ONLY": "here"}), {"sleep_s": 1})
    first.wake()
    assert (os.environ["MARK"], "ONLY" in os.environ) == ("outside", False)
    play(hands, first)
    assert first.answer["mark"] == "inside"


def test_what_takes_longer_than_its_timeout_is_killed_at_it(hands, container):
    late = container()
    invocation = Invocation(late, {"sleep_s": 61})
    play(hands, invocation)
    assert hands.now == START + timedelta(seconds=60)
    assert isinstance(invocation.error, Killed)
    assert "timed out after 60 seconds" in str(invocation.error)
    assert not late.free


def test_what_is_killed_does_nothing_any_more(hands, container):
    lambdas.unwound.clear()
    invocation = Invocation(container(), {"sleep_s": 30})
    invocation.wake()
    invocation.kill()
    assert isinstance(invocation.error, Killed)
    assert lambdas.unwound == []


def test_a_handler_that_raises_ends_with_its_error_and_its_container_lives_on(hands, container):
    each = container()
    invocation = Invocation(each, {"raise": "not today"})
    play(hands, invocation)
    assert str(invocation.error) == "not today"
    again = Invocation(each, {})
    play(hands, again)
    assert again.error is None


def test_what_waits_for_nothing_that_could_come_is_told(hands, container, monkeypatch):
    async def forever(_seconds):
        await lambdas.asyncio.get_running_loop().create_future()

    monkeypatch.setattr(lambdas, "_sleep", forever)
    invocation = Invocation(container(), {})
    play(hands, invocation)
    assert isinstance(invocation.error, Deadlock)
