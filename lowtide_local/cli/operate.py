"""The verbs that work with a deployment, and their arguments."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
dead = typer.Typer(help="Tasks that cannot succeed: look at them, and send them round again.", no_args_is_help=True)
app.add_typer(dead, name="dead")
config = typer.Typer(help="A deployment's own routes.", no_args_is_help=True)
app.add_typer(config, name="config")

DEFAULT_TENANT = "default"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Stack = Annotated[str | None, typer.Option("--stack", envvar="LOWTIDE_STACK", help="The deployment's stack.")]
EndpointUrl = Annotated[str | None, typer.Option("--endpoint-url", help="Of an AWS-compatible server, if not AWS.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help='Tenant that owns the task (default: "default").')]

Code = Annotated[str | None, typer.Option("--code", help="Only those that died of this.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")]
Kind = Annotated[str | None, typer.Option("--type", help="Only tasks of this type.")]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", help="Only those that died so long ago: 90s, 15m, 2h, 7d.")
]
NewerThan = Annotated[
    str | None, typer.Option("--newer-than", help="Only those that died since then: 90s, 15m, 2h, 7d.")
]


class Rest(StrEnum):
    """As core.batches.Unanswered, which is not worth loading for ``--help``."""

    AGAIN = "again"
    CANCEL = "cancel"


@app.command()
def submit(
    file: Annotated[
        Path, typer.Argument(metavar="FILE|-", help="One task per line; - is standard input.", show_default=False)
    ],
    stack: Stack = None,
    endpoint_url: EndpointUrl = None,
    *,
    json: Json = False,
) -> None:
    """Send a file of tasks to a deployment. Each line is checked first; what would be refused is not sent.

    Sending a file twice is harmless: a task that was sent before is dropped as a duplicate, by its task_id.
    """
    from .submit import submit_command  # noqa: PLC0415 - each verb loads only what it needs

    raise typer.Exit(submit_command((stack, endpoint_url), file, as_json=json))


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="TASK|BATCH", show_default=False)] = None,
    tenant: Tenant = None,
    stack: Stack = None,
    endpoint_url: EndpointUrl = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds, until interrupted.")] = False,
    json: Json = False,
) -> None:
    """Every queue and tier, part and batch of a deployment; or one task, or one batch."""
    from .status import status_command  # noqa: PLC0415

    raise typer.Exit(status_command((stack, endpoint_url), name, tenant, watch=watch, as_json=json))


@app.command()
def results(
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="Tasks that settled since: 2h, or 2026-02-28T10:00:00Z.")
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            "--ids", metavar="FILE|-", help="Only these tasks: a task id a line, or the file of tasks itself."
        ),
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tags", metavar="K=V", help="Only tasks with this tag.")] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help='Only this tenant\'s. Ids without it are of "default".')
    ] = None,
    stack: Stack = None,
    endpoint_url: EndpointUrl = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on looking, until interrupted or until all --ids have their records.")
    ] = False,
    json: Json = False,
) -> None:
    """One record a line, as in results.jsonl, of tasks that were answered, died or were cancelled.

    Without --since or --ids it prints all that is remembered (30 days). It ends with the --since for the next time.
    """
    from .results import Asked, results_command  # noqa: PLC0415

    asked = Asked(since, ids, tuple(tags or ()), tenant)
    raise typer.Exit(results_command((stack, endpoint_url), asked, follow=follow, as_json=json))


@app.command()
def batches(stack: Stack = None, endpoint_url: EndpointUrl = None, *, json: Json = False) -> None:
    """The batches that are not done, oldest first."""
    from .status import batches_command  # noqa: PLC0415

    raise typer.Exit(batches_command((stack, endpoint_url), as_json=json))


@app.command()
def cancel(
    names: Annotated[list[str], typer.Argument(metavar="TASK|BATCH", show_default=False)],
    tenant: Tenant = None,
    unanswered: Annotated[
        Rest, typer.Option(help="What a batch has not answered: again, in a later batch, or cancel, with it.")
    ] = Rest.AGAIN,
    stack: Stack = None,
    endpoint_url: EndpointUrl = None,
    *,
    json: Json = False,
) -> None:
    """Tasks, or batches, in whatever state they are."""
    from .cancel import cancel_command  # noqa: PLC0415

    raise typer.Exit(cancel_command((stack, endpoint_url), names, tenant, unanswered.value, as_json=json))


OfTenantLow = Annotated[str | None, typer.Option("--tenant", help="This tenant's LOW tasks.")]
OfModelLow = Annotated[str | None, typer.Option("--model", help="LOW tasks of this model.")]
AllLow = Annotated[bool, typer.Option("--all", help="All LOW tasks.")]


@app.command()
def pause(
    tenant: OfTenantLow = None,
    model: OfModelLow = None,
    reason: Annotated[str, typer.Option(help="Why; status shows it.")] = "paused by an operator",
    stack: Stack = None,
    endpoint_url: EndpointUrl = None,
    *,
    every: AllLow = False,
    json: Json = False,
) -> None:
    """LOW tasks wait in durable parts, for as long as it takes, and no new batch is made of them."""
    from .pause import pause_command  # noqa: PLC0415

    raise typer.Exit(pause_command((stack, endpoint_url), tenant, model, reason, every=every, as_json=json))


@app.command()
def resume(
    tenant: OfTenantLow = None,
    model: OfModelLow = None,
    stack: Stack = None,
    endpoint_url: EndpointUrl = None,
    *,
    every: AllLow = False,
    json: Json = False,
) -> None:
    """Lets go what pause held: give the same scope again."""
    from .pause import resume_command  # noqa: PLC0415

    raise typer.Exit(resume_command((stack, endpoint_url), tenant, model, every=every, as_json=json))


@dead.command("list")
def dead_list(  # noqa: PLR0913 - an option each
    code: Code = None,
    tenant: OfTenant = None,
    kind: Kind = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    stack: Stack = None,
    endpoint_url: EndpointUrl = None,
    *,
    json: Json = False,
) -> None:
    """Lists failed tasks, newest first."""
    from .dead import Which, dead_list_command  # noqa: PLC0415

    which = Which(code, tenant, kind, older_than, newer_than)
    raise typer.Exit(dead_list_command((stack, endpoint_url), which, limit, as_json=json))


@dead.command("show")
def dead_show(
    task: Annotated[str, typer.Argument(metavar="TASK", show_default=False)],
    tenant: Tenant = None,
    stack: Stack = None,
    endpoint_url: EndpointUrl = None,
    *,
    json: Json = False,
) -> None:
    """One dead letter: the task as it came, and what it died of. Shows the prompt."""
    from .dead import dead_show_command  # noqa: PLC0415

    raise typer.Exit(dead_show_command((stack, endpoint_url), task, tenant, as_json=json))


@dead.command("redrive")
def dead_redrive(  # noqa: PLR0913, PLR0917 - an option each
    tasks: Annotated[list[str] | None, typer.Argument(metavar="TASK", show_default=False)] = None,
    code: Code = None,
    tenant: OfTenant = None,
    kind: Kind = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many of those that are found.")] = None,
    stack: Stack = None,
    endpoint_url: EndpointUrl = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that are dead.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would cost, and end.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Sends dead tasks round again, after showing what that would cost. Cut off, give the same order again."""
    from .dead import Which  # noqa: PLC0415
    from .redrive import Consent, dead_redrive_command  # noqa: PLC0415

    which = Which(code, tenant, kind, older_than, newer_than, tuple(tasks or ()), limit, every=every)
    consent = Consent.DRY_RUN if dry_run else Consent.GIVEN if yes else Consent.ASK
    raise typer.Exit(dead_redrive_command((stack, endpoint_url), which, consent, as_json=json))


@config.command("check")
def config_check(
    file: Annotated[Path, typer.Argument(metavar="FILE|-", help="Routes, or only what differs.", show_default=False)],
    *,
    json: Json = False,
) -> None:
    """Show what a file of routes changes in the shipped ones, and what is wrong with it. Nothing is changed."""
    from .config import config_check_command  # noqa: PLC0415

    raise typer.Exit(config_check_command(file, as_json=json))
