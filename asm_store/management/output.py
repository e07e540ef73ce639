"""Standard output that somebody reads, until he goes away."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from django.core.management.base import CommandError, OutputWrapper

# What a shell says of a program that wrote to a closed pipe: 128 and SIGPIPE's number.
PIPE_CLOSED = 141
# How long, in milliseconds, the watch of a pipe goes on after a command has ended.
WATCH_MS = 500


@contextmanager
def writing(stdout: OutputWrapper) -> Iterator[None]:
    """Around all that is written: a closed pipe ends the process quietly, a full disk is told."""
    try:
        yield
        stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
        sys.exit(PIPE_CLOSED)
    except OSError as error:
        _forget_stdout()
        raise CommandError(f"Standard output cannot be written: {error.strerror}") from error


def write_bytes(stdout: OutputWrapper, piece: bytes) -> None:
    """Bytes as they are, whatever the terminal's encoding; a test's StringIO takes only text."""
    binary: BinaryIO | None = getattr(stdout, "buffer", None)
    if binary is None:
        stdout.write(piece.decode(), ending="")
    else:
        binary.write(piece)


@contextmanager
def ended_with_reader() -> Iterator[None]:
    """End the process when nobody reads its standard output any more, also if it writes nothing.

    For the main thread of a process of its own that may wait for long.
    """
    is_over = threading.Event()
    if hasattr(select, "poll"):
        threading.Thread(target=_watch, args=(sys.stdout.fileno(), is_over), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _watch(stdout: int, is_over: threading.Event) -> None:
    poll = select.poll()
    poll.register(stdout, 0)
    while not is_over.is_set():
        if poll.poll(WATCH_MS) and not is_over.is_set():
            # As SIGPIPE would: nobody is left to tell, and nothing is half done.
            os._exit(PIPE_CLOSED)


def _forget_stdout() -> None:
    """What Python flushes when it ends goes nowhere, so that it has nothing to complain about."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
