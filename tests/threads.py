"""Starting threads together, for races."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

T = TypeVar("T")
_START_SECONDS = 30


def run_threads(functions: Iterable[Callable[[], T]]) -> list[T]:
    """Call all at once, each in a thread of its own, and return their results in order.

    Each thread's database connections are closed. When functions raise, the first one's exception
    is raised, after all have ended.
    """
    functions = list(functions)
    together = threading.Barrier(len(functions))

    def call(function: Callable[[], T]) -> T:
        together.wait(_START_SECONDS)
        try:
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(call, function) for function in functions]
    return [future.result() for future in futures]
