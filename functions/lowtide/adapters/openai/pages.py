"""Lists that come page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from lowtide.core.errors import Unreachable

Row = Mapping[str, Any]


async def pages(
    fetch: Callable[[str | None], Awaitable[Any]], *, limit: int, partial: bool = False
) -> AsyncIterator[list[Row]]:
    """The rows of each page, up to ``limit`` pages.

    What was not looked through may hold what is sought: past the limit, and for an answer that is no list, it raises
    Unreachable, unless ``partial`` says that a part is good enough. A server that does not page, and so repeats
    itself, is read once.
    """
    seen: set[str] = set()
    after: str | None = None
    for _ in range(limit):
        page = await fetch(after)
        data = page.get("data") if isinstance(page, Mapping) else None
        if not isinstance(data, list):
            if partial:
                return
            raise Unreachable("the provider answered with something that is no list")
        rows = [row for row in data if isinstance(row, Mapping)]
        fresh = [row for row in rows if row.get("id") not in seen]
        if not fresh:
            return
        yield fresh
        last = rows[-1].get("id")
        if not page.get("has_more") or not isinstance(last, str):
            return
        seen.update(row["id"] for row in fresh if isinstance(row.get("id"), str))
        after = last
    if not partial:
        raise Unreachable(f"the provider's list did not end in {limit} pages")
