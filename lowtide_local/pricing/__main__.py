"""``python -m lowtide_local.pricing --litellm FILE --litellm-version V [--out FILE]``: rewrites prices.json.

Needs no network: LiteLLM's table is a file (its repository and its wheel carry one), genai-prices is a package
installed beside this one (``uv run --with genai-prices``). Exits 1, writing nothing, where the two do not agree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from lowtide_local.report.files import write_json

from .sources import from_genai, from_litellm, regional, shutdown_dates, snapshots, successors
from .table import UnsettledPricesError, build, catalogue

OUT = Path("functions/lowtide/prices.json")
_PUBLIC = 0o644
"""Mode of a file that is no record of anybody's work."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lowtide_local.pricing", description="Rewrites the price table.")
    parser.add_argument("--litellm", type=Path, required=True, help="model_prices_and_context_window.json")
    parser.add_argument("--litellm-version", required=True, help="the release or commit that the file is of")
    parser.add_argument("--on", type=date.fromisoformat, default=datetime.now(UTC).date(), help="when they were read")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    try:
        sources = [from_litellm(args.litellm, args.litellm_version), from_genai()]
        table, notes = build(
            catalogue(),
            sources,
            args.on,
            ends=shutdown_dates(args.litellm),
            dated=snapshots(args.litellm),
            regional=regional(args.litellm),
            successors=successors(args.litellm),
        )
    except (UnsettledPricesError, OSError, ValueError, ModuleNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    document = table.model_dump(mode="json", by_alias=True, exclude_none=True)
    write_json(args.out, document)
    args.out.chmod(_PUBLIC)
    sys.stdout.write("\n".join([*notes, f"{args.out}: {len(table.models)} models"]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
