"""Durable servers of a trial's own."""

from __future__ import annotations

from tests.cases import require, started
from tests.servers import mysql, postgresql
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
