"""The one event loop of a process's sync runs, whatever becomes of the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from runpy import run_path

import pytest

from asm_store.providers import background
from asm_store.providers.background import BackgroundIterator
from tests.processes import run_processes

SECONDS = 30


async def thread_name() -> str:
    return threading.current_thread().name


async def names() -> AsyncIterator[str]:
    yield await thread_name()


def test_all_iterators_run_in_one_thread() -> None:
    first, second = BackgroundIterator(names), BackgroundIterator(names)
    assert [*first, *second] == ["asm_store.providers"] * 2
    assert background.background.run(thread_name()) == "asm_store.providers"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_has_a_loop_of_its_own() -> None:
    path = f"{__name__}.{run_and_fork.__name__}"
    assert run_processes(path, [()]) == [[["asm_store.providers"], 0]]


def run_and_fork() -> list[object]:
    """In a process of its own: the thread is not its child's, nor is what holds the lock."""
    found = list(BackgroundIterator(names))
    with background.background._lock:
        if not (child := os.fork()):
            os._exit(_exit_code(lambda: list(BackgroundIterator(names)) == found))
    _, status = os.waitpid(child, 0)
    return [found, os.waitstatus_to_exitcode(status)]


def _exit_code(is_well: Callable[[], bool]) -> int:
    signal.alarm(SECONDS)  # who waits for ever is killed
    return 0 if is_well() else 1


def test_a_system_without_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "register_at_fork")
    run_path(background.__file__, run_name="asm_store.providers.again")
