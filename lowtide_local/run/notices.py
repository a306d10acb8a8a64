"""What the steps log, as lines for the person who waits for a run. Most of it is for operators, and is left out."""

from __future__ import annotations

from lowtide.core.pace_events import Held
from lowtide.core.result_files import NAMED_WITHIN
from lowtide.core.wording import span

from .contact import Notice


class RunMetrics:
    """A ports.Metrics. Of counts only those are told that say why nothing seems to happen; the receipt has the rest.
    ``refused`` is called with the provider's code where it takes no batch any longer."""

    def __init__(self, notice: Notice, refused: Notice | None = None) -> None:
        self._notice = notice
        self._refused = refused
        self._told: set[str] = set()

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        del value
        self._tell(_waits(name, dimensions))

    def measure(self, name: str, value: float, **dimensions: str) -> None:
        """Left out: the records have it."""

    def log(self, event: str, **fields: object) -> None:
        if event == "breaker_closed":
            # Should it go down once more, that is news.
            self._told.discard(_down(fields))
        if event == "batches_refused":
            self._batches_refused(fields)
        if event == "provider_wait":
            # The step logs each wait once. The next wait may have the same text.
            self._notice(_waiting(fields))
            return
        self._tell(_told(event, fields))

    def _batches_refused(self, fields: dict[str, object]) -> None:
        """End the run: a person has to act before the batch is submitted again."""
        if self._refused is not None:
            self._refused(str(fields.get("code")))

    def _tell(self, text: str | None) -> None:
        if text is not None and text not in self._told:
            self._told.add(text)
            self._notice(text)


def _waits(name: str, dimensions: dict[str, str]) -> str | None:
    if name == "calls_held" and dimensions.get("reason") == Held.FLEX.value:
        return "flex has no capacity: tasks wait for it, and go on default while there is time for that"
    if name == "tasks_waiting_off_peak":
        return "tasks wait for the hours in which their calls cost less; routes.toml says which"
    return None


def _waiting(fields: dict[str, object]) -> str:
    what = fields.get("model") or f"batch {fields.get('batch_id')}"
    wait_s, asked_s = (float(str(fields.get(name))) for name in ("wait_s", "asked_s"))
    again = "" if asked_s <= wait_s else f"; asked again in {span(wait_s)}"
    return f"{what}: the provider says to wait {span(asked_s)} ({fields.get('code')}){again}"


def _down(fields: dict[str, object]) -> str:
    return f"{fields.get('breaker')} does not answer: its tasks wait, and single calls see whether it is there again"


def _told(event: str, fields: dict[str, object]) -> str | None:
    batch = f"batch {fields.get('batch_id')}"
    match event:
        case "breaker_open":
            return _down(fields)
        case "batch_given_back":
            return f"{batch}: handed over anew later ({fields.get('code')})"
        case "token_limit":
            wait_s = fields.get("wait_s")
            when = f" in {span(wait_s)}" if isinstance(wait_s, int | float) else ""
            return f"{batch}: too many tokens are enqueued for its model; submitted again{when}"
        case "token_room":
            return f"{batch}: waits until fewer tokens are enqueued for its model"
        case "submission_refused":
            told = " ".join(str(fields[name]) for name in ("status", "code") if fields.get(name))
            return f"{batch}: the provider would not take it (HTTP {told})"
        case "provider_unreachable":
            return f"{batch}: no headway ({fields.get('reason')}); trying again"
        case "batch_given_up":
            why = "has not ended" if fields.get("known_at_provider") else "is still not known to the provider"
            return f"{batch}: {why}; it is given up, and its tasks are sent anew and counted as repaid"
        case "files_not_named":
            return (
                f"{batch}: the provider says {fields.get('status')} and names no file with its answers yet. "
                f"Looking again for {span(NAMED_WITHIN.total_seconds())} before anything is bought again."
            )
        case "result_file_away":
            return f"{batch}: result file {fields.get('file')} cannot be read ({fields.get('reason')}). Trying again."
        case "result_file_given_up":
            return (
                f"{batch}: result file {fields.get('file')} is given up ({fields.get('reason')}). Tasks that are in no "
                "other file are sent again and counted as repaid."
            )
        case "unknown_lines":
            return _unread(batch, fields)
        case "files_left":
            return f"{batch}: the provider does not delete its files ({fields.get('reason')}). They expire there."
        case "orphan_batch":
            return f"{batch}: {fields.get('provider_id')} was made for it a second time; cancelled if it still ran"
        case _:
            return None


def _unread(batch: str, fields: dict[str, object]) -> str:
    places, count = fields.get("places"), fields.get("lines")
    shown = [str(place) for place in places] if isinstance(places, list) else []
    more = f", and {count - len(shown)} more" if isinstance(count, int) and count > len(shown) else ""
    return (
        f"{batch}: {count} lines of its result files cannot be used ({'; '.join(shown)}{more}). unreadable.jsonl will "
        "list them."
    )
