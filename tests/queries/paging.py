"""Walks through the pages of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

MOST_PAGES = 200


def pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    """Every page, by the cursors."""
    cursor = None
    for _ in range(MOST_PAGES):
        page = search(**arguments, cursor=cursor)
        yield page
        cursor = page.cursor
        if cursor is None:
            return
    raise AssertionError(f"more than {MOST_PAGES} pages")


def ids(rows: list[Any]) -> list[str]:
    return [row.pk for row in rows]
