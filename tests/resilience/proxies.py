"""A loopback proxy that cuts connections where it hurts: a server has done what it was asked to,
and the client never hears of it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

CHUNK = 1 << 16
# What PostgreSQL and PgBouncer say, one after the other, when a pooled connection is ended.
TWO_ERRORS = b"".join(
    b"E" + (len(fields) + 5).to_bytes(4, "big") + fields + b"\0"
    for fields in (
        b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0",
        b"SFATAL\0VFATAL\0C08P01\0Mserver conn crashed?\0",
    )
)


class Proxy:
    """Between clients and the server of a value of `DATABASES`, on a port of its own.

    `cut_at` are parts of messages to the server. Of each `every`-th message with one of them in it,
    or of the first alone where that is None, the answer is swallowed, or `instead` is given for it,
    and the connection ends.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut_at: tuple[bytes, ...] = ()
        self.every: int | None = None
        self.instead = b""
        self.cuts = self._seen = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()

    def database(self, database: dict[str, Any]) -> dict[str, Any]:
        """The same database, through the proxy."""
        return {**database, "HOST": "127.0.0.1", "PORT": self.port}

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._upstream) as far:
            is_doomed = threading.Event()
            answers = threading.Thread(target=self._answer, args=(far, client, is_doomed))
            answers.start()
            for data in _chunks(client):
                if self._is_due(data):
                    is_doomed.set()
                far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _is_due(self, data: bytes) -> bool:
        with self._lock:
            if not any(part in data for part in self.cut_at):
                return False
            self._seen += 1
            return self._seen == 1 if self.every is None else self._seen % self.every == 0

    def _answer(
        self, far: socket.socket, client: socket.socket, is_doomed: threading.Event
    ) -> None:
        """Pass the answers on, until one is not to be heard."""
        with contextlib.suppress(OSError):
            for data in _chunks(far):
                if is_doomed.is_set():
                    self.cuts += 1
                    client.sendall(self.instead)
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


def _chunks(peer: socket.socket) -> Iterator[bytes]:
    while data := peer.recv(CHUNK):
        yield data
