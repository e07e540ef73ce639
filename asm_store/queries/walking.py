"""The ids of many sessions in an order in which they can be stored again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

from django.db.models import QuerySet

from ..backends import transactions
from ..models import Session
from .paging import Order, pages

PAGE = 500
ORDER = Order(("created_at", "id"))
COLUMNS = (*ORDER.columns, "parent_session_id")

Row = Any  # a named tuple of COLUMNS


class SessionWalk:
    """The ids of `rows`, by creation and id, but a parent before its children; for one iteration.

    Where parents go round in a circle, one of them comes before its parent. They are read page by
    page, with nothing open between the pages. Of those behind it the walk remembers nothing, only
    which ones it has taken before their turn.
    """

    def __init__(self, rows: QuerySet[Session]) -> None:
        self._rows = rows.values_list(*COLUMNS, named=True)
        self._ahead: set[str] = set()
        # How many sessions name a parent that is not among the rows.
        self.without_parent = 0

    def __iter__(self) -> Iterator[str]:
        for page in pages(self._rows, ORDER, PAGE):
            parents = self._found({row.parent_session_id for row in page} - {None})
            for row in page:
                if row.id in self._ahead:
                    self._ahead.remove(row.id)
                else:
                    yield from self._ancestors_ahead(row, parents)
                    yield row.id

    def _ancestors_ahead(self, walked: Row, parents: dict[str, Row]) -> list[str]:
        """The ancestors whose turn is yet to come, the oldest first; their turn is now."""
        ancestors: list[str] = []
        parent_id = walked.parent_session_id
        while parent_id is not None:
            parent = (parents or self._found({parent_id})).get(parent_id)
            if parent is None:
                self.without_parent += 1
                break
            is_circle = parent_id in (walked.id, *ancestors)
            is_behind = ORDER.position(parent) < ORDER.position(walked)
            if is_circle or is_behind or parent_id in self._ahead:
                break
            ancestors.append(parent_id)
            parents, parent_id = {}, parent.parent_session_id
        self._ahead.update(ancestors)
        return ancestors[::-1]

    def _found(self, ids: Collection[str]) -> dict[str, Row]:
        if not ids:
            return {}
        wanted = self._rows.filter(id__in=ids)
        rows: list[Row] = transactions.read(self._rows.db, partial(list, wanted))
        return {row.id: row for row in rows}
