"""How long appends take, for those who ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .. import signals

T = TypeVar("T")


def measured(store: object, count: int, append: Callable[[], T]) -> T:
    """What `append()` gives; `append_finished` is told of it, if anybody hears it."""
    sender = type(store)
    signal = signals.append_finished
    if not (signal.receivers and signal.has_listeners(sender)):
        return append()
    start, failure = time.perf_counter(), None
    try:
        return append()
    except Exception as error:
        failure = error
        raise
    finally:
        signal.send_robust(
            sender=sender,
            store=store,
            count=count,
            seconds=time.perf_counter() - start,
            error=failure,
        )
        failure = None  # or its traceback would hold itself
