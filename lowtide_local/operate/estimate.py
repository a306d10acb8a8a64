"""What tasks would cost, before anything is spent: from the size of their bodies and the prices of the day.

An estimate and no promise. Text is counted by a rule of thumb (four bytes a token), pictures by their size. Of the
output nothing is known but the limit that a body sets, so the least is an answer of no length and the most one at its
limit, at the first try.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from lowtide.core.acceptance import queue_for
from lowtide.core.bodies import TOKEN_LIMITS
from lowtide.core.charges import Seller
from lowtide.core.choice import choose
from lowtide.core.history import Eta
from lowtide.core.lanes import Lane
from lowtide.core.later import waits_until
from lowtide.core.lines import input_tokens, request_line
from lowtide.core.model import usd_text
from lowtide.core.offpeak import next_open
from lowtide.core.prompts import request_body
from lowtide.core.records import Usage
from lowtide.core.rescues import BATCH_PRIOR, Margins, seal_by
from lowtide.core.routes import Routes
from lowtide.core.shutdowns import shutdown
from lowtide.core.task import AcceptedTask, Endpoint
from lowtide.core.tasks import Strikes
from lowtide.core.tiers import Tier

ZERO = Decimal(0)


@dataclass(slots=True)
class Share:
    """Tasks of one lane and model. ``unlimited`` of them set no limit on their output, which then is in no sum;
    ``unpriced`` have no known price."""

    tasks: int = 0
    input_tokens: int = 0
    output_tokens_at_most: int = 0
    unlimited: int = 0
    unpriced: int = 0
    least_usd: Decimal = ZERO
    most_usd: Decimal = ZERO

    def add(self, other: Share) -> None:
        self.tasks += other.tasks
        self.input_tokens += other.input_tokens
        self.output_tokens_at_most += other.output_tokens_at_most
        self.unlimited += other.unlimited
        self.unpriced += other.unpriced
        self.least_usd += other.least_usd
        self.most_usd += other.most_usd

    def document(self) -> dict[str, Any]:
        return {
            "tasks": self.tasks,
            "input_tokens": self.input_tokens,
            "output_tokens_at_most": self.output_tokens_at_most,
            "unlimited": self.unlimited,
            "unpriced": self.unpriced,
            "least_usd": None if self.unknown else usd_text(self.least_usd),
            "most_usd": None if self.unknown else usd_text(self.most_usd),
        }

    @property
    def unknown(self) -> bool:
        """Whether no task has a known price. The cost is then unknown, not zero."""
        return 0 < self.tasks == self.unpriced


@dataclass(slots=True)
class Estimate:
    by_lane_and_model: dict[tuple[Lane, str], Share] = field(default_factory=lambda: defaultdict(Share))
    warnings: dict[str, str] = field(default_factory=dict)
    """What to say of models that are shut down soon, or were, by model."""

    def add(
        self, tasks: Iterable[AcceptedTask], routes: Routes, seller: Callable[[str], Seller], now: datetime
    ) -> None:
        """Each on the lane that it would go on first, in the hour in which it would, at its provider's prices."""
        for task in tasks:
            lane, at = _bought(task, routes, now)
            if (ends := shutdown(seller(task.provider).prices, task.model, now.date())) is not None:
                self.warnings[task.model] = ends.told(now.date())
            self.by_lane_and_model[lane, task.model].add(_of(task, lane, seller(task.provider), at))

    @property
    def total(self) -> Share:
        total = Share()
        for share in self.by_lane_and_model.values():
            total.add(share)
        return total

    def document(self) -> dict[str, Any]:
        shares = sorted(self.by_lane_and_model.items())
        return self.total.document() | {
            "warnings": [self.warnings[model] for model in sorted(self.warnings)],
            "by_lane_and_model": [
                {"lane": lane.value, "model": model, **share.document()} for (lane, model), share in shares
            ],
        }


def _bought(task: AcceptedTask, routes: Routes, now: datetime) -> tuple[Lane, datetime]:
    """On which lane, and when: off-peak where that is cheaper and there is time. Of how long batches and calls take
    nothing is known here but what a new deployment believes."""
    if queue_for(task) is Tier.LOW:
        hours = next_open(routes.off_peak(task.provider), Lane.BATCH, now)
        batched = seal_by(Eta(tuple(BATCH_PRIOR.samples)), 1, Margins.of(routes.batching))
        waits = hours is not None and hours.opens + batched < task.deadline_at
        return Lane.BATCH, hours.opens if hours is not None and waits else now
    at = waits_until(task, Strikes(), now, routes) or now
    return choose(task, Strikes(), at, routes).lane, at


def _of(task: AcceptedTask, lane: Lane, seller: Seller, at: datetime) -> Share:
    body = request_body(task)
    tokens = input_tokens(body, len(request_line("", task.endpoint, body)))
    limit = _output_limit(task, body)
    least = seller.price(task.model, lane, Usage(input_tokens=tokens), at)
    at_most = Usage(input_tokens=tokens, output_tokens=limit or 0)
    most = seller.price(task.model, lane, at_most, at)
    return Share(
        tasks=1,
        input_tokens=tokens,
        output_tokens_at_most=limit or 0,
        unlimited=int(limit is None),
        unpriced=int(least is None),
        least_usd=least or ZERO,
        most_usd=most or ZERO,
    )


def _output_limit(task: AcceptedTask, body: dict[str, Any]) -> int | None:
    """Tokens, of all the answers that are asked for. None: the body sets no limit."""
    if task.endpoint is Endpoint.EMBEDDINGS:
        return 0
    limits = [body[name] for name in TOKEN_LIMITS if isinstance(body.get(name), int)]
    return None if not limits else limits[0] * (body.get("n") or 1)
