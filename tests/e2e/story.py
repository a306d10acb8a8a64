"""What happens, in order: tasks and faults, a kill, an operator's orders, until everything has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lowtide.core.tasks import SETTLED, TaskRow
from lowtide_local.operate.desk import Desk
from lowtide_local.operate.looking import overview
from lowtide_local.stack.view import StackView

from . import workload
from .deployment import Deployment, Ended
from .emulator import Emulator
from .findings import Findings
from .processes import wait_until

WAITING_S = 300.0
"""How long each thing that is waited for may take."""
CALLING = "POST /v1/chat/completions"
ENOUGH = len(workload.IN_FLIGHT) // 2
LONG_LEASES = ("Assembler", "Poller", "Hinted")
"""What a killed one of these had in hand comes back after its lease, in a quarter of an hour."""


class Story:
    def __init__(self, emulator: Emulator, deployment: Deployment, desk: Desk, findings: Findings) -> None:
        self._emulator = emulator
        self._deployment = deployment
        self._desk = desk
        self._findings = findings

    def play(self) -> None:
        """Raises NeverCame."""
        self._order("pause", "--tenant", workload.HELD_TENANT, "--reason", "an audit")
        self._send(workload.first_wave())
        # What NORMAL's consumer has in hand when it is killed comes back after ten minutes.
        self._wait("CRITICAL, HIGH and NORMAL have ended", [*workload.CRITICAL, *workload.HIGH, *workload.NORMAL])
        self._kill()
        self._redrive()
        self._await("LOW is in batches or held", self._untaken)
        self._operate()
        self._wait("every task has ended", workload.ACCEPTED)
        self._await("nothing is on a queue or open", self._open)

    def _send(self, messages: Sequence[str]) -> None:
        workload.send(self._deployment.outputs["IntakeQueueUrl"], messages)
        self._findings.say(f"{len(messages)} messages sent")

    def _await(self, what: str, missing: Callable[[], object]) -> None:
        wait_until(what, missing, WAITING_S)
        self._findings.say(what)

    def _wait(self, what: str, tasks: Sequence[workload.Task]) -> None:
        wanted = workload.keys(tasks)

        def missing() -> list[str]:
            rows = self._rows()
            return [
                key[1] for key in wanted if key not in rows or rows[key].state not in SETTLED or rows[key].redriving
            ]

        self._await(what, missing)

    def _kill(self) -> None:
        before = self._calls()
        self._send(workload.second_wave())
        wait_until("calls are in flight", lambda: self._calls() < before + ENOUGH, WAITING_S, 0.05)
        killed = self._emulator.kill_functions(spare=LONG_LEASES)
        self._findings.check("functions were killed with calls in flight", killed, f"{killed} processes")

    def _order(self, *arguments: str, code: int = 0) -> Ended:
        """Gives an order and checks its exit code."""
        ended = self._deployment.lowtide(*arguments)
        said = ended.err.strip() if ended.code != code else ""
        verb = " ".join(arguments[:2] if arguments[0] == "dead" else arguments[:1])
        self._findings.check(f"{verb}: exit code {code}", ended.code == code, said)
        return ended

    def _redrive(self) -> None:
        equal, name = self._findings.equal, workload.DIES_ONCE
        listed = self._order("dead", "list", "--type", "email_draft", "--json")
        equal("dead list: tasks", [each["task_id"] for each in listed.json["dead"]], [name])
        shown = self._order("dead", "show", name, "--tenant", workload.TENANT, "--json")
        equal("dead show: the task as it came", shown.json["task"]["task_id"], name)
        redriven = self._order("dead", "redrive", name, "--tenant", workload.TENANT, "--yes", "--json")
        equal("dead redrive: tasks", redriven.json["redriven"], 1)

    def _operate(self) -> None:
        equal, tenant = self._findings.equal, workload.HELD_TENANT
        status = self._order("status", "--json")
        equal("status: the pause", [hold["reason"] for hold in status.json["holds"]], ["an audit"])
        equal("status: tasks that are held", status.json["parts"]["held"]["tasks"], len(workload.HELD))
        batches = self._order("batches", "--json")
        stuck = [each for each in batches.json["batches"] if each["model"] == workload.STUCK_MODEL]
        equal("batches: the one that never ends", [each["requests"] for each in stuck], [len(workload.STUCK)])
        for each in stuck:
            self._order("cancel", each["batch_id"], "--unanswered", "cancel")
        cancelled = self._order("cancel", workload.HELD[0]["task_id"], "--tenant", tenant, "--json")
        equal("cancel TASK: outcome", [each["outcome"] for each in cancelled.json["cancelled"]], ["cancelled"])
        self._order("resume", "--tenant", tenant)
        self._order("resume", "--tenant", tenant, code=1)

    def _rows(self) -> dict[tuple[str, str], TaskRow]:
        view = StackView(self._deployment.outputs["TableName"], self._desk.system.ledger)
        return {(row.tenant, row.task_id): row for row in view.tasks.scan()}

    def _calls(self) -> int:
        return int(self._deployment.provider("state")["requests"].get(CALLING, 0))

    def _untaken(self) -> list[object]:
        """LOW tasks that the assembler has not taken, and the batch that it may submit and has not."""
        low = workload.keys([*workload.LOW, *workload.LINES, *workload.STUCK, *workload.HELD])
        active = self._desk.system.batches.active()
        submitted = {batch.lot.model for batch in active if batch.provider_batch is not None}
        return [*(low - self._rows().keys()), *({workload.STUCK_MODEL} - submitted)]

    def _open(self) -> dict[str, object]:
        seen = overview(self._desk)
        depths = {name: depth for name, depth in self._deployment.depths().items() if name != "DeadLetterQueue"}
        return {name: left for name, left in {"parts": seen.parts, "batches": seen.batches, **depths}.items() if left}
