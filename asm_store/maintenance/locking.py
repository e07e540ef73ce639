"""The locks of maintenance: that of a database, and those of sessions.

One maintenance of a database at a time is a courtesy: without it, two do no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ..backends import transactions
from ..db import get_operations
from ..expressions import Texts
from ..models import Session

NAME = "asm_store.maintenance"


@contextmanager
def lock_held(using: str) -> Iterator[bool]:
    """Whether this is the only one; the database's own lock, which ends with the connection.

    Behind a pooler that gives every transaction another connection, and on SQLite, which has no
    such locks, it may be no lock at all.
    """
    operations = get_operations(using)
    is_held = transactions.read(using, lambda: operations.try_lock(NAME))
    try:
        yield is_held
    finally:
        if is_held:
            transactions.read(using, lambda: operations.unlock(NAME))


def lock_sessions(using: str, ids: Collection[str]) -> set[str]:
    """Lock sessions as every write does, their counters first: nothing is appended meanwhile.

    Returns the ids of those that there are.
    """
    rows = Session.objects.using(using).values_list("id")
    return set(get_operations(using).locker(rows)(Texts(ids)))
