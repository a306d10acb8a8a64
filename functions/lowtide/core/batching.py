"""The [batching] of routes.toml: how large batches are, when they go, and when a slow one is given up."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field, field_validator

from .bounds import Count, Seconds, SecondsOrNone, TasksPerSecond, Whole, WholeSeconds
from .model import Value


class Step(Value):
    """A rung of the ladder: where more than ``above`` tasks wait on LOW, a batch of ``size`` is full."""

    above: Whole = 0
    size: Count


class Batching(Value):
    """When LOW tasks become parts and parts become batches. Sizes are per batch; the provider's limits hold as well.

    ``ladder`` has the size at which a batch is full and goes at once, by how much waits on LOW. A task due sooner than
    ``shortest_deadline_s`` after it was sent goes to a real-time lane instead. A slow batch is cancelled so early that
    ``rescue_cancel_s`` are left for the cancelling before its tightest deadline, and for the answers
    ``rescue_answer_s`` and a second for every ``rescue_rate`` tasks.
    """

    part_tasks: Count = 1_000
    part_bytes: Count = 8_000_000
    ladder: tuple[Step, ...] = Field(
        (Step(above=10_000, size=50_000), Step(above=1_000, size=5_000), Step(size=500)), min_length=1
    )
    max_wait_s: Seconds = 900
    max_requests: Count = 50_000
    max_bytes: Count = 190_000_000
    max_tokens: Count = 5_000_000
    max_open_batches: Count = 50
    shortest_deadline_s: SecondsOrNone = 1_800
    poll_first_s: Seconds = 1
    poll_max_s: Seconds = 300
    lease_s: WholeSeconds = 900
    rescue_cancel_s: Seconds = 600
    rescue_answer_s: Seconds = 900
    rescue_rate: TasksPerSecond = 5

    @field_validator("ladder")
    @classmethod
    def _descending(cls, ladder: tuple[Step, ...]) -> tuple[Step, ...]:
        depths = [step.above for step in ladder]
        if depths[-1] != 0:
            raise ValueError("the last step has to serve whatever waits; leave its above out")
        if any(upper <= lower for upper, lower in pairwise(depths)):
            raise ValueError("steps go from the deepest down, each with a smaller above than the one before it")
        return ladder

    def size_at(self, depth: int) -> int:
        """Requests in a batch while ``depth`` tasks wait."""
        return next(step.size for step in self.ladder if depth > step.above or step.above == 0)
