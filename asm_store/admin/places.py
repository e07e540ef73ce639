"""The store and the database that the admin shows: the default store's."""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS

from ..handler import default_store


def database() -> str:
    """The alias of the default store; where it has none, that of Django."""
    alias: str = getattr(default_store, "using", DEFAULT_DB_ALIAS)
    return alias
