"""A key that is slow to come, or does not come: nobody with a key waits, and all without one wait for one read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from threading import Event
from threading import enumerate as enumerate_threads
from typing import Any

import httpx2
import pytest
from botocore.exceptions import ReadTimeoutError

from lowtide.adapters.aws import kept_text
from lowtide.adapters.aws.secrets import KeyWatch, ProviderKeys
from lowtide.adapters.openai.answers import OpenAIAnswers
from lowtide.adapters.openai.client import build_client
from lowtide.core.errors import Busy
from lowtide.core.lanes import Lane
from lowtide.core.outcomes import KEY_STORE_AWAY, Again, Response, judge
from lowtide.core.pace_events import Sign
from lowtide.core.signs import sign_of
from lowtide.core.task import Endpoint
from lowtide.ports import Call, Presence
from lowtide_local.engine.clock import VirtualClock, run_virtual

START = datetime(2026, 3, 2, tzinfo=UTC)
CALL = Call(Endpoint.CHAT, {"model": "gpt-5-mini", "messages": []}, Lane.DEFAULT, "call-1", timeout_s=5)


class Store:
    """A Secrets Manager whose reads end when a test says so. ``hangs`` False: at once. ``reads`` counts them."""

    def __init__(self, clock: VirtualClock, *, hangs: bool = False, newest: bool = False) -> None:
        self.text, self.hangs, self.away = "old", hangs, False
        self.reads = 0
        self._pending: list[Callable[[], None]] = []
        self.keys = ProviderKeys(self, "arn", clock, newest=newest, begin=self._begin)  # type: ignore[arg-type]

    def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: N803 - boto3's name
        if self.away:
            raise ReadTimeoutError(endpoint_url="https://secretsmanager")
        return {"SecretString": self.text}

    def answers(self, text: str = "new") -> None:
        """Every read that hangs comes to its end."""
        self.text, self.hangs = text, False
        while self._pending:
            self._pending.pop(0)()

    def _begin(self, work: Callable[[], None]) -> None:
        self.reads += 1
        if self.hangs:
            self._pending.append(work)
        else:
            work()


def story(told: Callable[[VirtualClock], Coroutine[Any, Any, None]]) -> None:
    run_virtual(told, START)


def test_a_key_at_hand_is_used_while_it_is_read_again_and_once_for_all_who_ask():
    async def told(clock: VirtualClock) -> None:
        store = Store(clock)
        assert await store.keys.key_in_time("openai") == "old"
        await asyncio.sleep(301)
        store.hangs, began = True, clock.now()
        found = await asyncio.gather(*(store.keys.key_in_time("openai") for _ in range(30)))
        assert {*found, store.keys.key("openai")} == {"old"}
        assert (store.reads, clock.now()) == (2, began)
        store.answers()
        assert await store.keys.key_in_time("openai") == "new"
        assert store.reads == 2

    story(told)


@pytest.mark.parametrize("askers", [1, 30, 3_000])
def test_all_who_have_no_key_wait_for_one_read_and_get_what_it_brings(askers):
    async def told(clock: VirtualClock) -> None:
        store = Store(clock, hangs=True)
        asking = [asyncio.create_task(store.keys.key_in_time("openai")) for _ in range(askers)]
        await asyncio.sleep(1)
        store.answers("sk")
        assert set(await asyncio.gather(*asking)) == {"sk"}
        assert store.reads == 1

    story(told)


def test_a_store_that_hangs_holds_each_caller_for_seconds_and_later_ones_not_at_all():
    async def told(clock: VirtualClock) -> None:
        store = Store(clock, hangs=True)
        began = clock.now()
        early = await asyncio.gather(*(store.keys.key_in_time("openai") for _ in range(30)), return_exceptions=True)
        assert {type(each) for each in early} == {Busy}
        assert clock.now() - began == kept_text.WAIT
        for _ in range(20):
            with pytest.raises(Busy):
                await store.keys.key_in_time("openai")
        assert clock.now() - began == kept_text.WAIT
        assert store.reads == 1
        store.answers("late")
        assert await store.keys.key_in_time("openai") == "late"
        assert store.reads == 1

    story(told)


def test_a_read_without_an_end_is_taken_for_lost_and_another_one_begins():
    """As when the process was frozen in the middle of it."""

    async def told(clock: VirtualClock) -> None:
        store = Store(clock, hangs=True)
        with pytest.raises(Busy):
            await store.keys.key_in_time("openai")
        await asyncio.sleep(30)
        store.hangs = False
        assert await store.keys.key_in_time("openai") == "old"
        store.answers("from the lost read")
        assert await store.keys.key_in_time("openai") == "old"

    story(told)


def test_a_read_that_fails_is_remembered_and_repeated_later_each_time():
    async def told(clock: VirtualClock) -> None:
        store = Store(clock)
        store.away = True
        moments = []
        for second in range(100):
            before = store.reads
            for _ in range(30):
                with pytest.raises(Busy, match="ReadTimeoutError"):
                    await store.keys.key_in_time("openai")
            assert store.reads - before <= 1
            moments += [second] * (store.reads - before)
            await asyncio.sleep(1)
        assert moments == [0, 2, 6, 14, 30, 60, 90]
        store.away = False
        await asyncio.sleep(30)
        assert await store.keys.key_in_time("openai") == "old"

    story(told)


def test_a_key_is_used_for_an_hour_while_the_store_is_away_and_no_longer():
    async def told(clock: VirtualClock) -> None:
        store = Store(clock)
        store.keys.key("openai")
        store.away = True
        for _ in range(59):
            await asyncio.sleep(60)
            assert store.keys.key("openai") == "old"
        await asyncio.sleep(60)
        with pytest.raises(Busy):
            store.keys.key("openai")

    story(told)


def test_a_refused_key_is_read_again_before_the_next_call_and_once_in_seconds_however_often_it_is_refused():
    async def told(clock: VirtualClock) -> None:
        store = Store(clock)
        store.keys.key("openai")
        store.text = "new"
        for _ in range(30):
            store.keys.forget()
            assert await store.keys.key_in_time("openai") == "new"
        assert store.reads == 2
        await asyncio.sleep(5)
        store.keys.key("openai")
        assert store.reads == 3

    story(told)


@pytest.mark.parametrize("hangs", [True, False])
def test_a_refused_key_is_used_on_where_the_store_brings_no_other(hangs):
    async def told(clock: VirtualClock) -> None:
        store = Store(clock)
        store.keys.key("openai")
        store.hangs, store.away = hangs, not hangs
        began = clock.now()
        store.keys.forget()
        for _ in range(30):
            assert await store.keys.key_in_time("openai") == "old"
        assert clock.now() - began <= kept_text.WAIT
        assert store.reads == 2

    story(told)


def test_what_judges_webhooks_waits_for_the_newest_secret_and_takes_the_old_one_where_there_is_no_other():
    async def told(clock: VirtualClock) -> None:
        store = Store(clock, newest=True)
        store.keys.key("openai")
        store.text = "new"
        await asyncio.sleep(301)
        assert store.keys.key("openai") == "new"
        store.away = True
        await asyncio.sleep(301)
        assert store.keys.key("openai") == "new"

    story(told)


def test_a_thread_of_its_own_reads_and_the_caller_goes_on(monkeypatch):
    """The read cannot end before the caller has gone on: where it waited for it, this would have no end."""
    goes_on, ended = Event(), Event()
    now = [START]

    class Slow:
        reads = 0

        def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: N803 - boto3's name
            self.reads += 1
            if self.reads == 1:
                return {"SecretString": "old"}
            goes_on.wait()
            ended.set()
            return {"SecretString": "new"}

    class Clock:
        def now(self) -> datetime:
            return now[0]

    keys = ProviderKeys(Slow(), "arn", Clock())  # type: ignore[arg-type]

    async def told() -> None:
        assert await keys.key_in_time("openai") == "old"
        now[0] += timedelta(seconds=301)
        assert await keys.key_in_time("openai") == "old"
        goes_on.set()
        ended.wait()

    asyncio.run(told())
    for thread in enumerate_threads():
        if thread.name == kept_text.THREAD:
            thread.join()
    assert keys.key("openai") == "new"


def calling(store: Store, asked: list[httpx2.Request]) -> KeyWatch:
    def answered(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json={"id": "chatcmpl-1"})

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answered))
    client = build_client(
        base_url="http://provider/v1", api_key=lambda: store.keys.key_in_time("openai"), http_client=http
    )
    return KeyWatch(OpenAIAnswers(client), store.keys)


@pytest.mark.parametrize("timeout_s", [0.5, 2.5, 5, 120])
def test_a_call_that_waits_for_its_key_was_not_sent_whichever_time_is_over_first(timeout_s):
    asked: list[httpx2.Request] = []

    async def told(clock: VirtualClock) -> None:
        answers = calling(Store(clock, hangs=True), asked)
        call = Call(CALL.endpoint, CALL.body, CALL.lane, CALL.call_id, timeout_s=timeout_s)
        response = await answers.answer(call)
        assert (response.status, response.fault, response.sent) == (None, KEY_STORE_AWAY, False)
        assert await answers.presence() is Presence.THERE

    story(told)
    assert asked == []


def test_a_call_that_is_cancelled_while_it_waits_for_its_key_is_cancelled():
    async def told(clock: VirtualClock) -> None:
        store = Store(clock, hangs=True)
        call = asyncio.create_task(calling(store, []).answer(CALL))
        await asyncio.sleep(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        store.answers("sk")
        assert await store.keys.key_in_time("openai") == "sk", "the read is for the others"

    story(told)


@pytest.mark.parametrize("lane", list(Lane))
def test_a_key_store_that_is_away_is_no_try_and_says_nothing_of_the_provider(lane):
    response = Response(None, body="no answer", fault=KEY_STORE_AWAY, sent=False)
    outcome = judge(response, lane)
    assert outcome == Again(KEY_STORE_AWAY, "no answer", counts=False, unsure=False)
    assert sign_of(response, outcome) is Sign.UNUSED
