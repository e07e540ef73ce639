"""ASGI servers on a loopback port, and a browser that reads from them what is really sent."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.test import Client

from tests.live.frames import Message, Parser

SECONDS = 30
ROOT = Path(__file__).parents[2]


class Uvicorn:
    """Runs in a thread of this process, so that its tasks can be counted."""

    def __init__(self, **options: Any) -> None:
        uvicorn = pytest.importorskip("uvicorn")
        config = uvicorn.Config(
            ASGIHandler(), lifespan="off", log_config=None, ws="none", loop="asyncio", **options
        )
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self.socket.getsockname()[1]
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = threading.Thread(target=asyncio.run, args=[self._serve()])

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.server.serve(sockets=[self.socket])

    def tasks(self) -> int:
        """How many there are now, beside the server's own."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 2  # it, and this

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(SECONDS)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()


@contextmanager
def serving(**options: Any) -> Iterator[Uvicorn]:
    server = Uvicorn(timeout_graceful_shutdown=1, **options)
    server.thread.start()
    try:
        yield server
    finally:
        server.stop()
        server.socket.close()


OPTIONS = {
    "uvicorn": ["--host", "127.0.0.1", "--lifespan", "off", "--timeout-graceful-shutdown", "1"],
    "daphne": ["-b", "127.0.0.1"],
}


@contextmanager
def serving_process(name: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """That server in a process of its own, and its port."""
    pytest.importorskip(name)
    port = free_port()
    application = "tests.live.asgi:application"
    command = [sys.executable, "-m", name, *OPTIONS[name], "--port", str(port), application]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            started = b"running on" if name == "uvicorn" else b"Listening on"
            while started not in (line := process.stderr.readline()):
                assert line, f"{name} did not start"
            yield process, port
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Visitor:
    """Connects, with the cookies of a client that is logged in."""

    def __init__(
        self, port: int, client: Client, url: str, method: str = "GET", **headers: str
    ) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        cookie = client.cookies.output(header="", sep=";").strip()
        self.connection.request(method, url, headers={"Cookie": cookie, **headers})
        self.response: HTTPResponse = self.connection.getresponse()
        self.parser = Parser()

    def messages(self) -> Iterator[Message]:
        """Until the server ends the answer."""
        while line := self.response.readline():
            yield from self.parser.feed(line)

    def leave(self) -> None:
        self.response.close()
        self.connection.close()
