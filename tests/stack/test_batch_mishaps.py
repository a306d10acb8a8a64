"""What befalls batches, through the deployed assembler and poller: a table of mishaps, a handful of tasks each.

Beside these: what expires in part, fails validation on a named line, loses the reply to its creation, meets the token
limit or a refused account (test_batch_handlers); orphans (test_sweep_handler); hints (test_webhook_handlers).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import orjson
import pytest
from stack_cases import low, pack

from lowtide.core.batches import Unanswered
from lowtide.core.lines import request_line
from lowtide.core.task import Endpoint
from lowtide.steps.cancel import stop_batch
from lowtide_local.simulator.provider import SimulatedProvider
from lowtide_local.simulator.scenario import BatchWeather, Mishap, MishapKind, Scenario


@dataclass(frozen=True)
class Case:
    """``ends``: status and attempts by task; ``batches``: how many were created."""

    texts: dict[str, str]
    ends: dict[str, tuple[str, int]]
    batches: int
    mishaps: tuple[Mishap, ...] = field(default=())


FINE = {"a": "hello", "b": "hello", "c": "hello"}
ONCE = dict.fromkeys(FINE, ("answered", 1))

CASES = {
    "a failure that names no line is bisected down to the culprit": Case(
        {"a": "hello", "culprit": "hello"},
        {"a": ("answered", 2), "culprit": ("dead", 2)},
        batches=3,
        mishaps=(Mishap(kind=MishapKind.FAILS_VALIDATION, contains="hello culprit"),),
    ),
    "a line in neither file goes again, and dies of its third time": Case(
        {"a": "[sim:missing-once]", "b": "[sim:missing]", "c": "hello"},
        {"a": ("answered", 2), "b": ("dead", 3), "c": ("answered", 1)},
        batches=3,
    ),
    "a line that is there twice counts once": Case(
        FINE | {"c": "[sim:twice]"}, ONCE, batches=1, mishaps=(Mishap(kind=MishapKind.DUPLICATE_LINE),)
    ),
    "a body that is text is read": Case(FINE | {"b": "[sim:string-body]"}, ONCE, batches=1),
    "a completed batch without an output file goes again": Case(
        FINE,
        dict.fromkeys(FINE, ("answered", 2)),
        batches=2,
        mishaps=(Mishap(kind=MishapKind.NO_OUTPUT_FILE, batches=(1,)),),
    ),
    "a batch that names its files late is waited for": Case(
        FINE, ONCE, batches=1, mishaps=(Mishap(kind=MishapKind.LATE_FILE_IDS, seconds=400),)
    ),
    "a result file that is gone is given up alone": Case(
        FINE | {"c": "[sim:refuse]"},
        {"a": ("answered", 2), "b": ("answered", 2), "c": ("dead", 1)},
        batches=2,
        mishaps=(Mishap(kind=MishapKind.FILE_GONE, files=("output",), batches=(1,)),),
    ),
    "files of another dialect are read": Case(
        FINE,
        ONCE,
        batches=1,
        mishaps=(Mishap(kind=MishapKind.DIALECT, dialects=("status_text", "string_body", "pretty", "gzip")),),
    ),
    "a download that breaks goes on": Case(
        FINE, ONCE, batches=1, mishaps=(Mishap(kind=MishapKind.DOWNLOAD_RESET, downloads=2),)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_mishap_of_a_batch_ends_the_same_through_the_handlers(stage, case):
    played = stage(Scenario(batch=BatchWeather(min_s=60, max_s=60, mishaps=case.mishaps)))
    records = played.play(pack(*(low(name, text) for name, text in case.texts.items())))
    assert {name: (record.status.value, record.attempts) for name, record in records.items()} == case.ends
    assert played.asked("POST /v1/batches") == case.batches
    assert len(played.stack.letters()) == sum(status == "dead" for status, _ in case.ends.values())
    assert played.stack.failures == []


def test_a_line_of_somebody_else_settles_nothing_and_is_counted(stage, monkeypatch):
    download = SimulatedProvider.download
    stranger = request_line("nobody-1", Endpoint.CHAT, {})

    def with_a_stranger(provider, file_id, headers):
        sent = download(provider, file_id, headers)
        return replace(sent, content=stranger + sent.content)

    monkeypatch.setattr(SimulatedProvider, "download", with_a_stranger)
    played = stage()
    assert len(played.play(pack(low("a"), low("b")))) == 2
    assert played.metrics.total("unknown_lines") == 1
    [told] = [line.fields for line in played.metrics.lines if line.event == "unknown_lines"]
    assert told["places"] == [
        f"{told['places'][0].split(',')[0]}, line 1 (nobody-1): it is about no line of this batch"
    ]
    [kept] = [orjson.loads(raw) for raw in played.stack.system().objects.lines(told["kept"])]
    assert kept["raw"].encode() + b"\n" == stranger


@pytest.mark.parametrize(("unanswered", "end"), [(Unanswered.AGAIN, "answered"), (Unanswered.CANCEL, "cancelled")])
def test_a_batch_that_is_cancelled_while_it_runs_leaves_what_the_operator_said(stage, unanswered, end):
    slow = Mishap(kind=MishapKind.SLOW, batches=(1,), factor=120)
    played = stage(Scenario(batch=BatchWeather(min_s=60, max_s=60, cancel_s=60, mishaps=(slow,))))
    played.send(pack(low("a"), low("b")))
    played.stack.wait(1_800)
    system = played.stack.system()
    [row] = system.batches.active()
    stop_batch(system, row.batch_id, unanswered)
    played.stack.settle()
    assert {record.status.value for record in played.audited().values()} == {end}
    assert played.asked("POST /v1/batches/{id}/cancel") >= 1
