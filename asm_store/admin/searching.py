"""Search by the exact text of an indexed column, or by how it begins: `ses_01*`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_

from django.db.models import Q

ANY_MORE = "*"
LAST = "\U0010ffff"


def is_prefix(term: str) -> bool:
    return term.strip().endswith(ANY_MORE)


def search(columns: Iterable[str], term: str) -> Q:
    """Rows where one of the columns is `term`, or begins with what stands before its asterisk."""
    if not is_prefix(term):
        return reduce(or_, (Q(**{column: term}) for column in columns))
    prefix = term.removesuffix(ANY_MORE)
    return reduce(or_, (_begins(column, prefix) for column in columns))


def _begins(column: str, prefix: str) -> Q:
    """A range, since these columns sort by code point: no database's LIKE is sure of an index."""
    return Q(**{f"{column}__gte": prefix, f"{column}__lte": prefix + LAST})
