"""The verbs, their arguments, and how an error becomes one line and an exit code."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from lowtide import __version__
from lowtide.core.errors import LowtideError
from lowtide_local.disk import DiskFault, fault_in, told

from . import operate
from .demo_engines import EngineName
from .signals import treat_terminate_as_interrupt
from .stop import ExitCode, Stop


class _Verbs(typer.core.TyperGroup):
    """Typer would end at an interrupt without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stop("interrupted") from None


app = typer.Typer(
    cls=_Verbs,
    name="lowtide",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(operate.app)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        sys.stdout.write(f"lowtide {__version__}\n")
        raise typer.Exit


@app.callback()
def lowtide(
    *,
    show: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Answers every LLM task on the cheapest lane that still meets its deadline, once, and shows the receipt."""


LEAST_COLUMNS = 20
"""Narrowest width that ``COLUMNS`` may set. No table is readable in less."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


@app.command()
def demo(
    tasks: Annotated[int | None, typer.Option(min=20, help="How many tasks the day brings.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same day.")] = 7,
    engine: Annotated[
        EngineName, typer.Option(help="embedded, or moto: the real handlers and template on a fake AWS.")
    ] = (EngineName.EMBEDDED),
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
    prices: Annotated[
        str | None,
        typer.Option(
            metavar="openai|none|FILE",
            help="Whose prices the receipt uses. Default: OpenAI's for its own hosts and for this machine, else none.",
        ),
    ] = None,
    no_batch: Annotated[bool, typer.Option("--no-batch", help="Answer LOW tasks on real-time lanes.")] = False,
    json: Json = False,
) -> None:
    """Answers every task in a file, using any OpenAI-compatible endpoint.

    If it is interrupted, run the same command again to continue.
    """
    from .run import run_command  # noqa: PLC0415

    raise typer.Exit(run_command(tasks, out, base_url, batch=not no_batch, prices=prices, as_json=json))


@app.command()
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9000,
    scenario: Annotated[Path | None, typer.Option(help="A TOML file: latencies, faults, mishaps.")] = None,
) -> None:
    """The simulated provider on real HTTP, on this machine only."""
    from .simulate import simulate_command  # noqa: PLC0415

    simulate_command(port, scenario)


@app.command()
def schema(*, json: Json = False) -> None:
    """The JSON Schema of the task message: one JSON document, with --json or without."""
    del json
    from .schema import schema_command  # noqa: PLC0415

    schema_command()


def main() -> None:
    """The entry point. No traceback reaches a user for what went wrong outside this program."""
    treat_terminate_as_interrupt()
    _open_streams()
    _mend_width()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # a full disk is told below, and not by the interpreter on its way out
    except Stop as stop:
        _fail(str(stop), stop.code)
    except BrokenPipeError:
        _discard_stdout()  # who read it has gone, and nobody is left to tell
        sys.exit(int(ExitCode.FAILURE))
    except OSError as error:
        _discard_stdout()
        _fail(told(error, unnamed="standard output"), ExitCode.FAILURE)
    except LowtideError as error:
        _fail(str(error), ExitCode.FAILURE)
    except KeyboardInterrupt:
        _fail("interrupted", ExitCode.FAILURE)
    except (Exception, DiskFault, BaseExceptionGroup) as error:
        if (fault := fault_in(error)) is not None:
            _fail(fault, ExitCode.FAILURE)
        # A defect of ours. A traceback may quote a prompt, so it is shown to those alone who ask for it.
        if "LOWTIDE_TRACEBACK" in os.environ:
            raise
        _fail(f"a defect of lowtide ({type(error).__name__}); LOWTIDE_TRACEBACK=1 shows where", ExitCode.FAILURE)


def _mend_width() -> None:
    """Ignore a ``COLUMNS`` that is no usable width. With 0, Rich would print nothing at all."""
    width = os.environ.get("COLUMNS", "")
    if width and not (width.isdecimal() and int(width[:6]) >= LEAST_COLUMNS):
        del os.environ["COLUMNS"]


def _open_streams() -> None:
    """Replace streams that the shell has closed by the null device, and let no character fail to print."""
    # In this order, so that no file that is opened later gets the number of a standard stream.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
        elif isinstance(stream, TextIOWrapper) and number:
            stream.reconfigure(errors="replace")


def _fail(message: str, code: ExitCode) -> None:
    sys.stderr.write(f"lowtide: {' '.join(message.split())}\n")
    sys.exit(int(code))


def _discard_stdout() -> None:
    """What could not be written would be tried again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
