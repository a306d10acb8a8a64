"""A routes file is refused with its line, the last good one staying in force; or what was loaded serves every task."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lowtide.adapters.aws.objects import S3Objects
from lowtide.adapters.aws.parameter import RoutesParameter
from lowtide.core.acceptance import accept, queue_for
from lowtide.core.errors import Refused
from lowtide.core.lanes import Lane
from lowtide.core.offpeak import next_open
from lowtide.core.routes import Routes
from lowtide.core.tiers import Tier
from lowtide_local.engine.metrics import RecordedMetrics
from tests.garbled.routes import shipped

NOW = datetime(2026, 3, 5, 8, 0, tzinfo=UTC)
KINDS = (
    None,
    "safety_check",
    "email_draft",
    "document_analysis",
    "content_generation",
    "fraud_detection",
    "unheard_of",
)


class Parameter:
    """The two versions of an SSM parameter, as its client gives them."""

    def __init__(self, good: str) -> None:
        self.versions = [good]

    def get_parameter(self, Name):  # noqa: N803 - boto3's name
        _, _, asked = Name.partition(":")
        number = int(asked) if asked else len(self.versions)
        return {"Parameter": {"Value": self.versions[number - 1], "Version": number}}


class Clock:
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment


class RoutesCheck:
    """One process of a deployment, whose parameter is changed again and again."""

    def __init__(self) -> None:
        self._parameter, self._clock, self._metrics = Parameter(shipped()), Clock(), RecordedMetrics()
        self._source = RoutesParameter(
            self._parameter, "/routes", S3Objects(None, "bucket"), shipped(), self._clock, self._metrics
        )

    def __call__(self, text: str) -> str:
        """``refused`` or ``loaded``. Raises AssertionError, or whatever the file made escape."""
        good = self._source.current()
        self._parameter.versions[1:] = [text]
        self._clock.moment += timedelta(hours=1)
        found = self._source.current()
        if not self._metrics.lines:
            _serves(found)
            return "loaded"
        told = self._metrics.lines.pop().fields["reason"]
        assert found is good, "the last good file is in force no more"
        assert "line " in told or "characters: keep it below" in told, told
        assert told.isprintable(), told
        assert len(told) < 1_000, told
        return "refused"


def _serves(routes: Routes) -> None:
    for model in ("gpt-5-mini", "gpt-5-2025-08-07", "unheard-of"):
        spec = routes.model(model)
        routes.ceiling(model)
        routes.part_tasks(model)
        routes.batch_tokens(spec.provider, model)
        for lane in Lane:
            next_open(routes.off_peak(spec.provider), lane, NOW)
    for depth in (0, 10, 10**7):
        assert routes.batching.size_at(depth) > 0
    for kind in KINDS:
        for asking in ({"payload": {"text": "…"}}, _request("gpt-5-mini"), _request("unheard-of")):
            raw = {"task_id": "t", "type": kind, "priority": "LOW" if kind is None else None} | asking
            try:
                task = accept(raw, origin="m/0", sent_at=NOW, routes=routes)
            except Refused:
                continue
            assert queue_for(task) in Tier
            assert routes.lanes_of(kind, task.tier)
            task.model_dump_json()


def _request(model: str) -> dict[str, object]:
    body = {"model": model, "messages": [{"role": "user", "content": "?"}]}
    return {"request": {"url": "/v1/chat/completions", "body": body}}
