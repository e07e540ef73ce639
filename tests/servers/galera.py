"""A cluster of MariaDB servers on the loopback interface, by Galera: each takes writes.

https://mariadb.com/kb/en/configuring-mariadb-galera-cluster/
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from . import Server, ServerUnavailableError
from .mysql import OwnServer
from .processes import Processes, free_port

_LIBRARIES = (
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
    "/usr/lib64/galera/libgalera_smm.so",
    "/usr/local/lib/libgalera_smm.so",
)


class Cluster:
    """So many nodes, the first of which began it; all have the same users and databases."""

    def __init__(self, processes: Processes, count: int = 3) -> None:
        library = next(filter(Path.exists, map(Path, _LIBRARIES)), None)
        if library is None:
            raise ServerUnavailableError("no libgalera_smm.so on this machine: install galera-4")
        ports = [free_port() for _ in range(count)]
        address = "gcomm://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        self.nodes = [
            OwnServer(processes, f"node-{n}", _options(library, n, port), is_empty=n > 0)
            for n, port in enumerate(ports)
        ]
        self._address = f"--wsrep-cluster-address={address}"
        first, *others = self.nodes
        for other in others:  # whose users come from the first
            other.server = replace(
                other.server, user=first.server.user, password=first.server.password
            )
        first.start("--wsrep-new-cluster", "--wsrep-cluster-address=gcomm://")
        for other in others:
            self.join(other)

    @property
    def servers(self) -> list[Server]:
        return [node.server for node in self.nodes]

    def join(self, node: OwnServer) -> None:
        """Start a node, also one that was killed: another gives it what it lacks."""
        node.start(self._address)


def _options(library: Path, number: int, port: int) -> list[str]:
    provider = {
        "gmcast.listen_addr": f"tcp://127.0.0.1:{port}",
        "ist.recv_addr": f"127.0.0.1:{free_port()}",
        "gcache.size": "32M",
        # By default all wait for five seconds for a node that is gone.
        "evs.suspect_timeout": "PT2S",
        "evs.keepalive_period": "PT0.5S",
    }
    return [
        "--wsrep-on=ON",
        f"--wsrep-provider={library}",
        "--wsrep-provider-options=" + ";".join(f"{k}={v}" for k, v in provider.items()),
        f"--wsrep-node-name=node-{number}",
        f"--wsrep-node-address=127.0.0.1:{port}",
        "--wsrep-sst-method=rsync",
        f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
    ]
