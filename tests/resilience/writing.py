"""A writer of a trial: a process that appends until it is told to stop, and keeps a ledger.

Its retries are the store's own; an error that comes through the store's door is noted, so that the
trial fails which does not expect it, and the append is made again.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from tests.standalone import arguments, configure, say

T = TypeVar("T")

PATIENCE = 120  # seconds that the store goes on trying
PAUSE = 0.1  # after an error that came through its door


def stopped() -> threading.Event:
    """Set when the standard input ends."""
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    return stop


def until_stored(append: Callable[[], T], note: Callable[[str], None]) -> T:
    """What is refused, is given again."""
    from asm_store.exceptions import StorageError

    while True:
        try:
            return append()
        except StorageError as error:
            note(repr(error.__cause__))
            time.sleep(PAUSE)


def work(database: dict[str, Any], ledger: str, kind: str, sessions: list[str]) -> None:
    logging.disable(logging.WARNING)  # each failure is counted
    configure(database, ASM_STORE_RETRY_SECONDS=PATIENCE)
    # The models need django.setup() first.
    from asm_store import signals
    from asm_store.backends.database import DatabaseSessionStore
    from tests.proofs.writers import KINDS, make, notes_in

    retries: Counter[str] = Counter()

    def count(*, failure: str, **_: Any) -> None:
        retries[failure] += 1

    signals.retrying.connect(count)
    note, durable = notes_in(ledger), os.open(ledger, os.O_WRONLY)
    store, stop = DatabaseSessionStore(), stopped()
    longest, last = 0.0, time.monotonic()
    say("ready")
    for call in KINDS[kind](sessions):
        if stop.is_set():
            break
        note("began", call)
        events = until_stored(partial(make, store, call), partial(note, "refused"))
        note("done", [event.to_dict() for event in events])
        os.fsync(durable)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    note("ended", {"longest": longest, "retries": retries})


if __name__ == "__main__":
    work(*arguments())
