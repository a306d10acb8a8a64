"""What happens in one play of the sweep: who is at work, what befalls them, and where they die. Drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from lowtide_local.engine.crashes import Side
from tests.sweep.model_provider import Mishap
from tests.sweep.troubles import How, Trouble, raises

FULL_DAY: tuple[tuple[str, str, str], ...] = (
    ("plain", "A", "plain"),
    ("text", "A", "string-body"),
    ("missing", "A", "missing-once"),
    ("expired", "A", "expire-once"),
    ("stumbled", "A", "500-once"),
    ("refused", "A", "refuse"),
    ("named", "A", "bad-line"),
    ("label", "B", "plain"),
    ("culprit", "B", "unnamed"),
    ("hopeless", "B", "500"),
)
"""(task_id, lot, mark): two models, and a line for each way in which one can go wrong."""

REAL_TIME: tuple[tuple[str, str, str], ...] = (
    *((f"call-{number}", "A", "plain") for number in range(6)),
    ("other-model", "B", "plain"),
    ("stumbles", "A", "500-once"),
    ("refused", "A", "refuse"),
    ("long", "A", "long"),
)
"""The same for a consumer's day: more than its slots, in one message and in single ones."""

TWICE = ("call-0", "stumbles", "refused", "long", "asks")
"""Tasks with second copies, each with a sleeper of its own."""

ASKS, HANDS_ON = "asks", "hands-on"
"""Tasks whose model is asked for; the second goes on to a batch then."""

FULL_MISHAPS = (Mishap.REPLY_LOST, Mishap.TOKEN_LIMIT, Mishap.ERROR_HIDES_IT, Mishap.NO_OUTPUT)

RARE = (Mishap.FORGOTTEN, Mishap.NEVER_ENDS)

DOWN_S = (0, 1, 45, 140, 400, 1_000, 5_000)
"""How long a process is away after it died: shorter and longer than the list's lag, the grace period and leases."""

MOST_CALLS = 300
"""Crashes are drawn from so many calls: most of a play has that many."""

TROUBLED = 0.2
"""The share of drawn schedules in which ports raise."""


@dataclass(frozen=True)
class Schedule:
    """``name`` replays it. ``crashes``: calls, numbered over all actors from 1, at which whoever makes them dies.
    ``troubles``: those at which ports begin to raise.

    ``crew`` is how many assemblers and how many pollers there are; 0: one worker does both, and voids the leases of the
    dead. ``stall``: the share of calls before which an actor stands still for minutes.
    """

    name: str
    seed: str
    tasks: tuple[tuple[str, str, str], ...] = FULL_DAY
    live: int = 0
    mishaps: tuple[Mishap, ...] = FULL_MISHAPS
    crashes: Mapping[int, Side] = field(default_factory=dict)
    crew: int = 0
    repeats: int = 0
    stall: float = 0.0
    flaky: float = 0.0
    skew_s: float = 0.0
    orders: int = 0
    called: tuple[tuple[str, str, str], ...] = ()
    """Tasks for calls. Where there are any, consumers with more slots are at work, and the crew beside them."""
    consumers: int = 1
    """How many of them, at the same queue."""
    asked: tuple[str, ...] = ()
    """More of them, ``ASKS`` or ``HANDS_ON``."""
    copies: tuple[str, ...] = ()
    """Names of tasks of which one more copy is sent for each time that they are named. Empty: of the first task one."""
    troubles: tuple[Trouble, ...] = ()
    unwell: float = 0.0
    """The share of calls that a model answers with a failure."""
    refused_s: float = 0.0
    """How long the account is refused, from the beginning."""
    voids: bool | None = None
    """Are the leases of the dead voided at the next start, or waited out? None: it is drawn."""

    @property
    def dice(self) -> Random:
        return Random(self.seed)


def single(call: int, side: Side, day: Schedule | None = None) -> Schedule:
    """One worker's day (the quiet one), whose process dies at this call."""
    day = day or QUIET
    return replace(day, name=f"{day.seed}/{call}/{side.name.lower()}", crashes={call: side})


QUIET = Schedule("quiet", "single")
"""The day of the single crashes without one."""

CONSUMER = Schedule("consumer", "consumer", tasks=(), mishaps=(), called=REAL_TIME, asked=(ASKS,), copies=TWICE)
"""The day of a consumer's crashes without one."""


def consumer(call: int, side: Side, *, voids: bool) -> Schedule:
    """The consumer dies at this call; its successor begins as the embedded engine does, or as a function on AWS."""
    name = f"consumer/{call}/{side.name.lower()}/{'voided' if voids else 'waited'}"
    return replace(CONSUMER, name=name, crashes={call: side}, voids=voids)


def consumers(calls: int) -> Iterator[Schedule]:
    """Before and after each of so many calls, in both ways."""
    for call in range(1, calls + 1):
        for side in Side:
            for voids in (True, False):
                yield consumer(call, side, voids=voids)


LASTING = Trouble(0, None, calls=2, seconds=300.0)
"""Longer than a claim, and than a message is hidden."""


def consumer_raised(call: int, how: How | None) -> Schedule:
    """This call of the consumer's raises, and nothing else does; ``how`` None: those of its service go on to."""
    name = f"consumer/{call}/raised/{how.value if how else 'lasting'}"
    return replace(CONSUMER, name=name, troubles=(replace(LASTING, at=call) if how is None else Trouble(call, how),))


def consumers_raised(calls: Sequence[str]) -> Iterator[Schedule]:
    """Each of these calls raises in each way, once and for minutes."""
    for call, name in enumerate(calls, start=1):
        for how in raises(name):
            yield consumer_raised(call, how)
        if raises(name):
            yield consumer_raised(call, None)


def consumers_drawn(seed: int, number: int) -> Schedule:
    """One consumer or two, killed or not, whose ports raise and whose models fail."""
    name = f"consumers/{seed}/{number}"
    dice = Random(name)
    called = tuple(dice.sample(REAL_TIME, dice.randint(4, len(REAL_TIME))))
    asked = dice.choice(((), (ASKS,), (HANDS_ON,), (ASKS, HANDS_ON)))
    many = dice.choice((1, 2, 2))
    crashes = {dice.randint(1, 150): dice.choice(list(Side)) for _ in range(dice.choice((0, 0, 1, 2)))}
    return Schedule(
        name=name,
        seed=f"{name} play",
        tasks=(),
        mishaps=(),
        called=called,
        consumers=many,
        asked=asked,
        crew=int(HANDS_ON in asked),
        copies=tuple(dice.choices([*(each for each, _, _ in called), *asked], k=dice.randint(1, 5))),
        crashes=crashes,
        repeats=dice.choice((0, 1, 3)),
        stall=dice.choice((0.0, 0.0, 0.02)) if many > 1 else 0.0,
        skew_s=30.0 if many > 1 else 0.0,
        troubles=_troubles(dice, dice.choice((0, 1, 2, 3)), 150),
        unwell=dice.choice((0.0, 0.0, 0.1)),
        refused_s=dice.choice((0.0, 0.0, 0.0, 100.0, 2_000.0)),
    )


def _troubles(dice: Random, many: int, calls: int) -> tuple[Trouble, ...]:
    return tuple(
        Trouble(
            at=dice.randint(1, calls),
            calls=dice.choice((1, 1, 1, 2, 5, 20)),
            seconds=dice.choice((0.0, 0.0, 0.0, 0.0, 60.0, 600.0)),
        )
        for _ in range(many)
    )


LATE = Schedule(
    "late",
    "late",
    tasks=tuple(task for task in FULL_DAY if task[0] in ("plain", "text", "label", "hopeless")),
    mishaps=(Mishap.SLOW, Mishap.NEVER_ENDS),
)
"""A day on which one batch is slower than its deadline, and one never ends."""

READS = ("depth", "active", "get", "lines", "open", "find", "results", "owned")
"""What changes nothing: to die after it is to die before it."""


def singles(calls: Sequence[str], day: Schedule | None = None) -> Iterator[Schedule]:
    """One for each state in which the worker of that day (the quiet one) can leave things: after each call that changes
    something, which is also before the next one, because nothing happens in between."""
    yield single(1, Side.BEFORE, day)
    for number, call in enumerate(calls, start=1):
        if call.rpartition(".")[2] not in READS:
            yield single(number, Side.AFTER, day)


def drawn(seed: int, number: int) -> Schedule:
    """The random schedule of this seed and number."""
    name = f"random/{seed}/{number}"
    dice = Random(name)
    many = dice.random() < 0.7
    crashes = {dice.randint(1, MOST_CALLS): dice.choice(list(Side)) for _ in range(dice.choice((0, 1, 2, 3, 5)))}
    mishaps = list(Mishap)
    weights = [1 if mishap in RARE else 4 for mishap in mishaps]
    schedule = Schedule(
        name=name,
        seed=f"{name} play",
        tasks=tuple(dice.sample(FULL_DAY, dice.randint(2, 4))),
        live=dice.choice((0, 0, 1, 2)),
        mishaps=tuple(dice.choices(mishaps, weights, k=dice.randint(0, 3))),
        crashes=crashes,
        crew=2 if many else 0,
        repeats=dice.choice((0, 1, 3)),
        stall=dice.choice((0.0, 0.0, 0.01, 0.05)) if many else 0.0,
        flaky=dice.choice((0.0, 0.0, 0.05)),
        skew_s=30.0 if many else 0.0,
        orders=dice.choice((0, 0, 0, 1, 3)),
    )
    troubled = dice.random() < TROUBLED
    return replace(
        schedule,
        copies=tuple(dice.choices([name for name, _, _ in schedule.tasks], k=dice.choice((1, 1, 2, 3)))),
        troubles=_troubles(dice, dice.choice((1, 1, 2, 3)), MOST_CALLS) if troubled else (),
        refused_s=dice.choice((0.0, 0.0, 0.0, 1_000.0, 5_000.0)) if troubled else 0.0,
    )


def raised(call: int, how: How, day: Schedule | None = None) -> Schedule:
    """One worker's day (the quiet one), on which this call raises once."""
    day = day or QUIET
    return replace(day, name=f"{day.seed}/{call}/raised/{how.value}", troubles=(Trouble(call, how),))


def raised_singles(calls: Sequence[str], day: Schedule | None = None) -> Iterator[Schedule]:
    """One for each call of that day (the quiet one) and each way in which it may raise."""
    for number, call in enumerate(calls, start=1):
        for how in raises(call):
            yield raised(number, how, day)


def named(name: str) -> Schedule:
    """The schedule that a failure named. Raises ValueError for what is no name."""
    match name.split("/"):
        case ["quiet"]:
            return QUIET
        case ["consumer"]:
            return CONSUMER
        case ["consumer", call, "raised", "lasting"]:
            return consumer_raised(int(call), None)
        case ["consumer", call, "raised", how]:
            return consumer_raised(int(call), How(how))
        case ["consumer", call, side, ("voided" | "waited") as how]:
            return consumer(int(call), Side[side.upper()], voids=how == "voided")
        case ["consumers", seed, number]:
            return consumers_drawn(int(seed), int(number))
        case ["late"]:
            return LATE
        case ["single", call, "raised", how]:
            return raised(int(call), How(how))
        case ["late", call, "raised", how]:
            return raised(int(call), How(how), LATE)
        case ["single", call, side]:
            return single(int(call), Side[side.upper()])
        case ["late", call, side]:
            return single(int(call), Side[side.upper()], LATE)
        case ["random", seed, number]:
            return drawn(int(seed), int(number))
        case _:
            known = (
                "quiet, late, single/CALL/before, late/CALL/before, single/CALL/raised/before, random/SEED/NUMBER, "
                "consumer/CALL/before/voided, consumer/CALL/raised/before, consumers/SEED/NUMBER"
            )
            raise ValueError(f"{name!r} names no schedule: {known}")
