"""``lowtide results``: records as lines, as ``results.jsonl`` has them."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lowtide.core.model import utc_text
from lowtide_local.operate.desk import Desk, opened
from lowtide_local.operate.named_tasks import NamedTasks
from lowtide_local.operate.records import NamedResults, SettledResults, Wanted
from lowtide_local.run.reading import lines

from .given import named, reader
from .moments import since
from .showing import JsonList
from .stop import ExitCode, usage

EVERY_S = 5.0
"""Between two looks."""

Results = SettledResults | NamedResults


@dataclass(frozen=True, slots=True)
class Asked:
    """As it was said on the command line."""

    since: str | None
    ids: Path | None
    tags: tuple[str, ...]
    tenant: str | None

    def wanted(self, now: datetime) -> Wanted:
        return Wanted(
            since=None if self.since is None else since(now, self.since, "--since"),
            tenant=self.tenant,
            tags=dict(_tag(text) for text in self.tags),
        )


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise usage(f"--tags {text} is no tag; give it as NAME=VALUE")
    return name, value


def results_command(where: tuple[str | None, str | None], asked: Asked, *, follow: bool, as_json: bool) -> ExitCode:
    if follow and as_json:
        raise usage("--json prints one document at the end; with --follow leave it out: each line is a document")
    with opened(*where) as desk:
        found = _found(desk, asked)
        document = JsonList("results") if as_json else None
        try:
            _print(found, document)
            while follow and not _complete(found):
                time.sleep(EVERY_S)
                _print(found, document)
        except BrokenPipeError:
            raise
        except BaseException:
            if document is not None:
                document.end(_facts(found, complete=False))
            sys.stderr.write(_to_go_on(found))
            raise
    if document is not None:
        document.end(_facts(found, complete=True))
    else:
        sys.stderr.write(_said(found))
    return ExitCode.DONE


def _found(desk: Desk, asked: Asked) -> Results:
    wanted = asked.wanted(desk.system.clock.now())
    if asked.ids is None:
        return SettledResults(desk, wanted)
    with ExitStack() as held:
        tasks = NamedTasks(desk.system, named(asked.ids), asked.tenant)
        found = NamedResults(desk, wanted, tasks.keys(lines(reader(asked.ids, held))))
    if tasks.refused:
        sys.stderr.write(f"{tasks.refused} lines are no tasks of this deployment, so they have no record\n")
    return found


def _print(found: Results, document: JsonList | None) -> None:
    """Each portion is through the pipe before the position moves past it."""
    for records in found.look():
        for record in records:
            line = record.model_dump_json().encode()
            if document is not None:
                document.add(line)
            else:
                sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


def _complete(found: Results) -> bool:
    return isinstance(found, NamedResults) and not found.left


def _position(found: SettledResults) -> str | None:
    return None if found.position is None else utc_text(found.position)


def _facts(found: Results, *, complete: bool) -> dict[str, Any]:
    own = {"next_since": _position(found)} if isinstance(found, SettledResults) else {"without_record": len(found.left)}
    counts = {"removed": found.gone, "of_a_newer_release": found.newer, "unreadable": found.unreadable}
    return own | counts | {"complete": complete}


def _said(found: Results) -> str:
    said = []
    if isinstance(found, SettledResults):
        said.append(f"for the next time: --since {_position(found)}")
    elif found.left:
        said.append(f"tasks without a record yet: {len(found.left)} (lowtide status TASK says where one is)")
    if found.gone:
        said.append(f"records that have been removed (ResultRetentionDays): {found.gone}")
    if found.newer:
        said.append(f"tasks that a newer release wrote (ask with that one): {found.newer}")
    if found.unreadable:
        first = found.unreadable[0]
        said.append(f"records that cannot be read: {len(found.unreadable)}; the first is in object {first}")
    return "".join(f"{line}\n" for line in said)


def _to_go_on(found: Results) -> str:
    if not found.given:
        return ""
    if isinstance(found, SettledResults) and found.position is not None:
        return f"to go on: --since {_position(found)}\n"
    return "cut off: give the same command again for all of the records\n"
