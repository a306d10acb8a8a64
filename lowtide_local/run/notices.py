"""What the steps log, as lines for the person who waits for a run. Most of it is for operators, and is left out."""

from __future__ import annotations

from lowtide.core.wording import span

from .contact import Notice


class RunMetrics:
    """A ports.Metrics. Counts go nowhere: the receipt has them."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._told: set[str] = set()

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        pass

    def log(self, event: str, **fields: object) -> None:
        text = _told(event, fields)
        if text is not None and text not in self._told:
            self._told.add(text)
            self._notice(text)


def _told(event: str, fields: dict[str, object]) -> str | None:
    batch = f"batch {fields.get('batch_id')}"
    match event:
        case "token_limit":
            wait_s = fields.get("wait_s")
            when = f" in {span(wait_s)}" if isinstance(wait_s, int | float) else ""
            return f"{batch}: too many tokens are enqueued for its model; submitted again{when}"
        case "token_room":
            return f"{batch}: waits until fewer tokens are enqueued for its model"
        case "submission_refused":
            return f"{batch}: the provider would not take it ({fields.get('reason')})"
        case "provider_unreachable":
            return f"{batch}: no headway ({fields.get('reason')}); trying again"
        case "batch_unknown_at_provider":
            return f"{batch}: the provider still does not know it; its tasks are sent anew"
        case "orphan_batch":
            return f"{batch}: {fields.get('provider_id')} was made for it a second time; cancelled if it still ran"
        case _:
            return None
