"""When a statement may pass by Django's cursor: where nobody but Django has a part in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

import django
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

DJANGO = f"{Path(django.__file__).parent}{os.sep}"
# What others replace in a connection, to see each statement, or to prepare the server for it.
REPLACED = frozenset({"cursor", "_cursor", "_prepare_cursor", "create_cursor", "make_cursor"})


def is_direct(connection: BaseDatabaseWrapper) -> bool:
    """Whether nobody looks at the statements of this connection, or does something for each, such
    as to choose a tenant's schema. It is open then; raises where Django's cursor would.
    """
    kind: Any = type(connection)
    makers = kind.cursor, kind._cursor, kind._prepare_cursor, kind.create_cursor, kind.make_cursor
    if (
        connection.execute_wrappers
        or connection.queries_logged
        or not _are_djangos(CursorWrapper.execute, *makers)
        or (not REPLACED.isdisjoint(vars(connection)) and _is_replaced(connection))
    ):
        return False
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_thread_sharing()
    connection.validate_no_broken_transaction()
    return True


def _is_replaced(connection: BaseDatabaseWrapper) -> bool:
    """Django's TestCase leaves methods in connections that are their own."""
    held = vars(connection)
    return any(
        getattr(held[name], "__func__", None) is not getattr(type(connection), name)
        for name in REPLACED & held.keys()
    )


@lru_cache(maxsize=64)
def _are_djangos(*methods: Callable[..., Any]) -> bool:
    return all(
        type(method) is FunctionType and method.__code__.co_filename.startswith(DJANGO)
        for method in methods
    )
