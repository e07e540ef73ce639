"""The six database aliases of the tests, and which of them this test run has."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers import Server, Servers

ALIASES = ("default", "other", "postgresql", "postgresql_other", "mysql", "mysql_other")
# Child processes read from it the names of the databases that the test runner made.
_NAMES = "ASM_TEST_DATABASE_NAMES"

_SQLITE: dict[str, dict[str, Any]] = {
    # Django's own transaction mode, DEFERRED, and its own timeout of five seconds.
    "default": {"init_command": "PRAGMA journal_mode=WAL"},
    "other": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    },
}
_POSTGRESQL: dict[str, dict[str, Any]] = {
    "postgresql": {},
    # Prepared from the first execution, so that no statement escapes it.
    "postgresql_other": {"server_side_binding": True, "prepare_threshold": 0},
}
_MYSQL: dict[str, dict[str, Any]] = {
    "mysql": {},
    # The server's own default, under which a transaction keeps the snapshot of its first read.
    "mysql_other": {"isolation_level": "repeatable read"},
}


def vendor_of(alias: str) -> str:
    """`connections[alias].vendor`, also of an alias whose server is missing."""
    return "sqlite" if alias in _SQLITE else alias.partition("_")[0]


def configure(servers: Servers) -> dict[str, dict[str, Any]]:
    """`DATABASES`: the aliases whose servers there are, in a child process as its parent's."""
    databases = {
        alias: _sqlite(Path(servers.directory, f"{alias}.sqlite3"), options)
        for alias, options in _SQLITE.items()
    }
    if server := servers.servers.get("postgresql"):
        for alias, options in _POSTGRESQL.items():
            databases[alias] = _alias_on_server("postgresql", alias, server, options, {})
    if server := servers.servers.get("mysql"):
        for alias, options in _MYSQL.items():
            charset = {"CHARSET": "utf8mb4"}
            databases[alias] = _alias_on_server("mysql", alias, server, options, charset)
    for alias, name in json.loads(os.environ.get(_NAMES, "{}")).items():
        if alias in databases:
            databases[alias]["NAME"] = name
    return databases


def _sqlite(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": dict(options),
        # A file: the default, in memory, is for one process only.
        "TEST": {"NAME": str(path.with_name(f"test_{path.name}")), "DEPENDENCIES": []},
    }


def _alias_on_server(
    engine: str, alias: str, server: Server, options: Mapping[str, Any], test: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        **on_server(engine, server, options),
        "NAME": f"{server.name}{alias.removeprefix(engine)}",
        # Not on "default", which is not made when only this alias is tested.
        "TEST": {**test, "DEPENDENCIES": []},
    }


def on_server(
    engine: str, server: Server, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A value of `DATABASES`: the database that the server names."""
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.user,
        "PASSWORD": server.password,
        "NAME": server.name,
        "OPTIONS": {**server.options, **(options or {})},
    }


def tell_child_processes(names: Mapping[str, str]) -> None:
    """Let child processes started from now on use these databases; an empty mapping ends it."""
    os.environ[_NAMES] = json.dumps(dict(names))
