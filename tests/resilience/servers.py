"""Durable servers of a trial's own."""

from __future__ import annotations

from typing import Any

from tests.cases import require, started
from tests.databases import on_server
from tests.servers import Server, mysql, postgresql
from tests.servers.processes import Processes

OwnServer = mysql.OwnServer | postgresql.OwnServer


def start_server(vendor: str, processes: Processes) -> OwnServer:
    require(vendor)

    def start() -> OwnServer:
        if vendor == "postgresql":
            return postgresql.OwnServer(processes)
        server = mysql.OwnServer(processes)
        server.start()
        return server

    return started(start)


def databases_on(vendor: str, server: Server) -> list[dict[str, Any]]:
    """The server's database with Django's own OPTIONS, and with those that the docs recommend."""
    database = on_server(vendor, server)
    return [database, prepared(database)] if vendor == "postgresql" else [database]


def prepared(database: dict[str, Any]) -> dict[str, Any]:
    """With prepared statements, which PostgreSQL knows."""
    options = {"server_side_binding": True, "prepare_threshold": 5}
    return {**database, "OPTIONS": {**database["OPTIONS"], **options}}
