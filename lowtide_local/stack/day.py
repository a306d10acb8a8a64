"""The demo's day on the moto engine: where it can be had, and what it says where it cannot."""

from __future__ import annotations

from pathlib import Path

from lowtide.core.errors import LowtideError
from lowtide_local.demo.play import Day, Watcher


def play_on_moto(tasks: int, seed: int, out: Path, watch: Watcher) -> Day:
    """As ``demo.play.play``, through the real handlers on a fake AWS; the day's files are written to ``out``.

    Raises LowtideError outside a clone, and in one whose development packages are not installed.
    """
    template = find_template()
    try:
        # moto and time-machine are for development: an installed lowtide does without them.
        from .play import play  # noqa: PLC0415
    except ImportError as error:
        raise LowtideError(f"the moto engine needs {error.name}: run `uv sync` in the clone") from error
    return play(template, tasks, seed, out, watch)


def find_template() -> Path:
    """template.yaml of the clone that this package is in, or that one stands in. Raises LowtideError elsewhere."""
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        path = root / "template.yaml"
        if path.is_file() and (root / "functions" / "ingest.py").is_file():
            return path
    raise LowtideError(
        "the moto engine runs what a clone of lowtide deploys, and there is no template.yaml here: "
        "run it in a clone, or use --engine embedded"
    )
