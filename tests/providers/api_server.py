"""A server on loopback that answers as a model's API does, with what a test gives it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

SECONDS = 30


@dataclass(frozen=True)
class Reply:
    """One response: `end` says what becomes of the connection when all has been sent.

    "whole": the body ends. "cut": the connection is closed in the middle of it. "hang": nothing
    more comes, until the client leaves; with no `pieces`, not even the headers.
    """

    pieces: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    end: Literal["whole", "cut", "hang"] = "whole"


def problem(status: int, body: Any, **headers: str) -> Reply:
    """A response that is an error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply([json.dumps(body).encode()], status, {"content-type": "application/json", **named})


class ApiServer(ThreadingHTTPServer):
    """Answers each request with the next of `replies`; requests are kept, as JSON."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.requests: list[Any] = []
        # A request hangs; and its client has closed the connection.
        self.is_hanging = threading.Event()
        self.is_left = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append(json.loads(body))
        reply = self.server.replies.pop(0)
        if reply.pieces:
            self._send(reply)
        if reply.end == "hang":
            self._hang()
        elif reply.end == "cut":
            self._cut()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        headers = {"content-type": "text/event-stream", **reply.headers}
        for name, value in {**headers, "transfer-encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in reply.pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _hang(self) -> None:
        self.wfile.flush()
        self.server.is_hanging.set()
        self.connection.settimeout(SECONDS)
        try:
            if self.rfile.read(1) == b"":
                self.server.is_left.set()
        except ConnectionResetError:
            self.server.is_left.set()
        self.close_connection = True

    def _cut(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@contextmanager
def served() -> Iterator[ApiServer]:
    server = ApiServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
