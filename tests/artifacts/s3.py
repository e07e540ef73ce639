"""A server that speaks S3, on loopback: moto's, in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BUCKET = "artifacts"
# It ends with the tests: its standard input does.
SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


def missing() -> list[str]:
    """The packages that are not installed, and have to be."""
    return [name for name in ("storages", "boto3", "moto") if not importlib.util.find_spec(name)]


@contextmanager
def served() -> Iterator[str]:
    """The address of a server with an empty bucket."""
    command = [sys.executable, "-W", "ignore", "-c", SERVER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "moto's server did not start"
        address = f"http://127.0.0.1:{port}"
        _make_bucket(address)
        yield address


def _make_bucket(address: str) -> None:
    from storages.backends.s3 import S3Storage

    storage = S3Storage(**options(address))
    storage.bucket.create()
    empty(storage)


def empty(storage: Any) -> None:
    """Delete what is in the bucket, and close the connections."""
    storage.bucket.objects.delete()
    storage.connection.meta.client.close()


def options(address: str) -> dict[str, Any]:
    """What an entry of STORAGES says about the server."""
    return {
        "bucket_name": BUCKET,
        "endpoint_url": address,
        "access_key": "tests",
        "secret_key": "tests",
        "region_name": "us-east-1",
        "addressing_style": "path",
        "max_memory_size": 1024 * 1024,
    }
