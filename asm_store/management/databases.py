"""Which database a command works on."""

from __future__ import annotations

from django.core.management.base import CommandError
from django.db import connections

from asm_store.queries.paging import database


def known_database(using: str | None) -> str:
    """The alias, without one that of the default store; `CommandError` when there is no such."""
    alias = database(using)
    if alias not in connections:
        known = ", ".join(sorted(connections))
        raise CommandError(f"There is no database {alias!r}; DATABASES has {known}.")
    return alias
