"""Settings of the benchmarks. Importing them finds or starts durable servers, once a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests import servers

from .plan import OPTIONS, alias_of

# Commits must cost what they cost in production.
os.environ["ASM_TEST_DURABLE"] = "1"

SECRET_KEY = "only for benchmarks"
USE_TZ = True
INSTALLED_APPS = ["django_filters", "asm_store"]


def _sqlite(folder: Path, kind: str) -> dict[str, Any]:
    # A file for each kind of OPTIONS: the journal's mode is kept in it.
    name = str(folder / f"benchmark_{kind}.sqlite3")
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": name}


def _on_server(vendor: str, folder: Path, server: servers.Server) -> dict[str, Any]:
    return {
        "ENGINE": f"django.db.backends.{vendor}",
        "HOST": server.host,
        "PORT": server.port,
        "USER": server.user,
        "PASSWORD": server.password,
        # The folder is this run's own, and so is the database.
        "NAME": f"{server.name}_benchmark_{folder.name}",
    }


def _databases(found: servers.Servers) -> dict[str, dict[str, Any]]:
    folder = Path(found.directory)
    # No work is to use the default by mistake.
    databases: dict[str, dict[str, Any]] = {"default": {}}
    for vendor in ("sqlite", *found.servers):
        for kind, options in OPTIONS[vendor].items():
            server = found.servers.get(vendor)
            database = _on_server(vendor, folder, server) if server else _sqlite(folder, kind)
            # Django makes and drops it like a test database, but under this name.
            database["TEST"] = {"NAME": database["NAME"], "DEPENDENCIES": []}
            database["OPTIONS"] = {**(server.options if server else {}), **options}
            databases[alias_of(vendor, kind)] = database
    return databases


FOUND = servers.obtain()
DATABASES = _databases(FOUND)
