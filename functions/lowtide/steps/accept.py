"""Accept: validate and classify what publishers sent, and forward it to its tier. Writes no state of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lowtide.core.acceptance import accept, queue_for
from lowtide.core.admission import FIRST_WAIT_S, SHED_CODE, Overflow, over, wait_s
from lowtide.core.documents import refused_letter
from lowtide.core.errors import Refused, safely_told
from lowtide.core.jsontext import carriable
from lowtide.core.message import MOST_TASKS, split_message
from lowtide.core.outward import Callback, refused
from lowtide.core.receipts import Receipt
from lowtide.core.records import DeadLetter
from lowtide.core.refusals import RefusalCode
from lowtide.core.returns import away_s
from lowtide.core.task import AcceptedTask
from lowtide.core.tiers import Tier
from lowtide.core.trace import traced, traceparent_of
from lowtide.ports import Message, System

from .apart import apart
from .carry import send_tasks
from .deliver import enter_without_task
from .letters import send_letters
from .tell import wake

SLEEPERS_ATTRIBUTE = "task_token"
"""Of a message: the token of the state machine that sleeps until its task has ended."""
FAILURES = 2
"""Messages that are tried by themselves and fail, before the others of their delivery come again with them."""
TOKEN_CHARS = 2048
"""The most that Step Functions takes of one."""


@dataclass
class Intake:
    """What a delivery came to."""

    accepted: list[AcceptedTask] = field(default_factory=list)
    refused: list[tuple[str, DeadLetter]] = field(default_factory=list)
    failed: list[Message] = field(default_factory=list)
    """For reasons of ours: to be delivered again, while the others go on."""
    callbacks: list[Callback] = field(default_factory=list)
    """For the tokens of what was refused: their holders would sleep until they time out."""
    waiting: list[Message] = field(default_factory=list)
    """Deferred, because a tier of theirs is full: they come again by themselves."""
    later: list[Message] = field(default_factory=list)
    """Not looked at, because those before them held many tasks: they come again at once."""

    @property
    def again(self) -> list[Message]:
        """What is not to be deleted."""
        return [*self.failed, *self.waiting, *self.later]


def accept_messages(system: System, messages: Sequence[Message]) -> Intake:
    """Each task is judged on its own: a broken one becomes a dead letter and harms nothing around it.

    A message with a task for a tier that is past its cap waits whole, or has such tasks shed, as the tier's route says.
    A message whose tasks no queue takes comes again alone. Raises where that is all of them; then the messages are to
    be delivered again, and what had been sent already is recognised at its claim by its origin.
    """
    intake = Intake()
    try:
        going = _forwarded(system, _let_in(system, _judged(system, messages, intake), intake), intake)
    except Exception:
        _give_back(system, messages)
        raise
    for _, judged in going:
        intake.accepted += judged.accepted
        intake.refused += judged.refused
        intake.callbacks += judged.callbacks
    _give_back(system, intake.failed)
    _defer(system, [(message, wait_s(message.receives)) for message in intake.waiting])
    _defer(system, [(message, 0) for message in intake.later])
    for task in intake.accepted:
        # With second copies of a task, and those of another delivery: which of them are accepted their claims find out.
        system.metrics.count("tasks_forwarded", tier=task.tier.value)
    return intake


Judged = tuple[Message, Intake]
"""A message, and what its tasks came to."""


def _forwarded(system: System, going: Sequence[Judged], intake: Intake) -> Sequence[Judged]:
    """Those whose tasks are on their queues: all at once, or one message after the other where that fails."""
    try:
        _forward(system, going)
    except Exception:
        if len(going) == 1:
            raise
    else:
        return going
    went: list[Judged] = []
    errors: list[Exception] = []
    for each in going:
        # One message may be at fault. Where a second fails, it is rather a queue, and trying on takes time.
        if len(errors) < FAILURES:
            with apart(system, errors, "message_failed", message_id=each[0].id, receives=each[0].receives):
                _forward(system, [each])
                went.append(each)
    if not went:
        raise errors[0]
    sent = {message.id for message, _ in went}
    intake.failed += [message for message, _ in going if message.id not in sent]
    system.metrics.count("message_errors", len(going) - len(went))
    return went


def _forward(system: System, going: Sequence[Judged]) -> None:
    send_tasks(system, [task for _, judged in going for task in judged.accepted])
    send_letters(system, [letter for _, judged in going for letter in judged.refused])
    wake(system, [callback for _, judged in going for callback in judged.callbacks])
    refused_ = [(message, len(judged.refused)) for message, judged in going if judged.refused]
    if refused_:
        enter_without_task(system, [(f"intake/{message.id}", Receipt(refused=count)) for message, count in refused_])


def _give_back(system: System, messages: Sequence[Message]) -> None:
    """As soon as the queue would by itself, until that would use up their receives."""
    now = system.clock.now()
    _defer(system, [(m, round(away_s(FIRST_WAIT_S, m.receives, m.sent_at, (), now))) for m in messages])


def _defer(system: System, delays: Sequence[tuple[Message, int]]) -> None:
    """Where the queue does not take it, they come again when their visibility ends; what was forwarded stays so."""
    try:
        system.intake.defer(delays)
    except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours are done
        system.metrics.log("messages_not_put_back", messages=len(delays), error=safely_told(error))


def _judged(system: System, messages: Sequence[Message], intake: Intake) -> list[Judged]:
    judged: list[Judged] = []
    tasks = 0
    for place, message in enumerate(messages):
        if tasks >= MOST_TASKS:
            # Packs of junk: the function must not run out of time with the neighbours' tasks in its hands.
            intake.later += messages[place:]
            break
        try:
            judged.append((message, judge(system, message)))
            tasks += len(judged[-1][1].accepted) + len(judged[-1][1].refused)
        except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours go on
            system.metrics.count("message_errors")
            system.metrics.log(
                "message_failed", message_id=message.id, receives=message.receives, error=safely_told(error)
            )
            intake.failed.append(message)
    return judged


def judge(system: System, message: Message) -> Intake:
    """What publishers sent: its tasks that are accepted, and letters for what is refused. Nothing is sent yet."""
    intake = Intake()
    token = message.attributes.get(SLEEPERS_ATTRIBUTE)
    try:
        raws = split_message(message.body)
        if token is not None:
            _check_token(system, token, len(raws))
    except Refused as refusal:
        _refuse(system, intake, message.id, message.body, refusal, token)
        return intake
    for place, raw in enumerate(raws):
        origin = f"{message.id}/{place}"
        try:
            task = accept(raw, origin=origin, sent_at=message.sent_at, routes=system.routes)
        except Refused as refusal:
            _refuse(system, intake, origin, raw, refusal, token)
        else:
            intake.accepted.append(task if token is None else task.model_copy(update={"task_token": token}))
    return intake


def _check_token(system: System, token: str, tasks: int) -> None:
    """One token, one task: a state machine is woken once. Before money is spent on an answer that wakes nobody."""
    if tasks != 1:
        problem = f"a message with a task_token carries {tasks} tasks: send each in a message of its own, with its own"
    elif len(token) > TOKEN_CHARS:
        problem = f"task_token has {len(token)} characters: Step Functions takes {TOKEN_CHARS}"
    elif not system.callbacks.taken:
        problem = (
            "this deployment wakes no state machine: name it in StateMachineArns, or send the task without a token"
        )
    else:
        return
    raise Refused(RefusalCode.INVALID_TASK, problem, field=SLEEPERS_ATTRIBUTE)


def _refuse(system: System, intake: Intake, origin: str, raw: Any, refusal: Refused, token: str | None) -> None:
    # On the dead-letter queue every refusal at the door has one code; the field and the remedy are in the message.
    letter = refused_letter(carriable(raw), "invalid_task", refusal.message, system.clock.now())
    intake.refused.append((origin, letter))
    if token is not None:
        intake.callbacks.append(refused(token, letter))
    with traced(traceparent_of(raw)):
        system.metrics.log("task_refused", code=refusal.code, field=refusal.field, origin=origin)


def _let_in(system: System, judged: Sequence[Judged], intake: Intake) -> list[Judged]:
    """What need not wait, without what is shed."""
    full = _full(system, {queue_for(task) for _, each in judged for task in each.accepted})
    going = []
    for message, each in judged:
        stopped = Counter(tier for task in each.accepted if (tier := queue_for(task)) in full)
        if any(system.routes.tiers[tier].cap.overflow is Overflow.WAIT for tier in stopped):
            # Whole, so that nothing of it is sent again and again while the rest waits.
            intake.waiting.append(message)
            system.metrics.count("admission_waits")
            continue
        if stopped:
            system.metrics.count("shed", stopped.total())
        going.append((message, _shed(system, each, full) if stopped else each))
    return going


def _full(system: System, tiers: set[Tier]) -> Mapping[Tier, str]:
    """The tiers that are past their cap, each with what it has too much of. Where a service does not say, none is: the
    intake must not stop for it."""
    try:
        levels = system.levels.look(sorted(tiers))
    except Exception as error:  # noqa: BLE001 - whatever it is, tasks are let in
        system.metrics.log("levels_unknown", error=safely_told(error))
        return {}
    full = {tier: reason for tier in tiers if (reason := over(tier, system.routes.tiers[tier].cap, levels[tier]))}
    for tier, reason in full.items():
        system.metrics.log("tier_full", tier=tier.value, reason=reason)
    return full


def _shed(system: System, judged: Intake, full: Mapping[Tier, str]) -> Intake:
    now = system.clock.now()
    kept = Intake(refused=list(judged.refused), callbacks=list(judged.callbacks))
    for task in judged.accepted:
        if (reason := full.get(queue_for(task))) is None:
            kept.accepted.append(task)
            continue
        message = f"task {task.task_id!r} was not taken in: {reason}; send it again when there is room"
        letter = refused_letter(task.message, SHED_CODE, message, now)
        kept.refused.append((task.origin, letter))
        if task.task_token is not None:
            kept.callbacks.append(refused(task.task_token, letter))
    return kept
