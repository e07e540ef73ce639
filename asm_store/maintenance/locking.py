"""One maintenance of a database at a time, as a courtesy: without it, two do no harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..backends import transactions
from ..db import get_operations

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
