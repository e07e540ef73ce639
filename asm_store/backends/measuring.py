"""How long appends take, for those who ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .. import signals


@contextmanager
def measured(store: object, count: int) -> Iterator[None]:
    """Tell `append_finished` of the append that is made within, if anybody hears it."""
    sender = type(store)
    signal = signals.append_finished
    if not (signal.receivers and signal.has_listeners(sender)):
        yield
        return
    start, failure = time.perf_counter(), None
    try:
        yield
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
