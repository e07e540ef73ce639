"""The stores under test, by names that child processes can import."""

from __future__ import annotations

from functools import partial

from asm_store.backends.database import DatabaseSessionStore

default = partial(DatabaseSessionStore, "default")
other = partial(DatabaseSessionStore, "other")
postgresql = partial(DatabaseSessionStore, "postgresql")
postgresql_other = partial(DatabaseSessionStore, "postgresql_other")
mysql = partial(DatabaseSessionStore, "mysql")
mysql_other = partial(DatabaseSessionStore, "mysql_other")
