"""The verbs, their arguments, and how an error becomes one line and an exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lowtide.core.errors import LowtideError

from .stop import ExitCode, Stop

app = typer.Typer(
    name="lowtide",
    help="Every LLM task on the cheapest lane that still meets its deadline, answered once, with a receipt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


@app.command()
def demo(
    tasks: Annotated[int | None, typer.Option(min=20, help="How many tasks the day brings.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same day.")] = 7,
    engine: Annotated[str, typer.Option(help="embedded, or moto: the real handlers and template on a fake AWS.")] = (
        "embedded"
    ),
    *,
    json: Json = False,
) -> None:
    """A day of traffic in seconds, with its mishaps, against the simulated provider."""
    from .demo import demo_command  # noqa: PLC0415 - each verb loads only what it needs

    raise typer.Exit(demo_command(tasks=tasks, seed=seed, engine=engine, as_json=json))


@app.command()
def run(
    tasks: Annotated[Path, typer.Argument(metavar="TASKS.jsonl", help="One task per line.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Records, receipt and state go here.")],
    base_url: Annotated[str | None, typer.Option("--base-url", help="Else OPENAI_BASE_URL, else OpenAI's.")] = None,
    *,
    no_batch: Annotated[bool, typer.Option("--no-batch", help="Answer LOW tasks on real-time lanes.")] = False,
    json: Json = False,
) -> None:
    """Answers a file of tasks on any OpenAI-compatible endpoint. Killed, the same command goes on."""
    from .run import run_command  # noqa: PLC0415

    raise typer.Exit(run_command(tasks, out, base_url, batch=not no_batch, as_json=json))


@app.command()
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9000,
    scenario: Annotated[Path | None, typer.Option(help="A TOML file: latencies, faults, mishaps.")] = None,
) -> None:
    """The simulated provider on real HTTP, on this machine only."""
    from .simulate import simulate_command  # noqa: PLC0415

    simulate_command(port, scenario)


@app.command()
def schema() -> None:
    """The JSON Schema of the task message."""
    from .schema import schema_command  # noqa: PLC0415

    schema_command()


def main() -> None:
    """The entry point. No traceback reaches a user for what went wrong outside this program."""
    try:
        app()
    except Stop as stop:
        _fail(str(stop), stop.code)
    except (LowtideError, OSError) as error:
        _fail(" ".join(str(error).split()), ExitCode.FAILURE)
    except KeyboardInterrupt:
        _fail("interrupted; what was done is kept", ExitCode.FAILURE)


def _fail(message: str, code: ExitCode) -> None:
    sys.stderr.write(f"lowtide: {message}\n")
    sys.exit(int(code))


if __name__ == "__main__":
    main()
