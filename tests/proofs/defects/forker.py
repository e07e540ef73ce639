"""A process that has imported what pytest and Django need, and forks a fresh pytest for each order.

Importing is most of what a short test run costs. It is a script, not a module of `tests`: its
children import `tests` and `asm_store` from the folder that the order names. An order is a line of
JSON; it is answered by a line with the child's exit code.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest

# Absent drivers are no error: their databases are not tested then.
PRELOADED = ("django.test", "django.db.models", "django.contrib.admin", "MySQLdb", "psycopg")


class Recorder:
    """A pytest plugin: keeps what became of every test, by its name, and ends one that hangs."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.outcomes: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.errors: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        signal.signal(signal.SIGALRM, self._give_up)
        signal.alarm(self.patience)
        try:
            yield
        finally:
            signal.alarm(0)

    def _give_up(self, *_: object) -> None:
        raise TimeoutError(f"the test takes more than {self.patience} s")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2]
        if report.failed:
            self.outcomes[name] = "failed"
            self.reasons.setdefault(name, report.longreprtext[-2000:])
        # A subtest that failed was reported before its test.
        elif report.when == "call" or report.skipped:
            self.outcomes.setdefault(name, report.outcome)


def main() -> None:
    for name in PRELOADED:
        with suppress(ImportError):
            import_module(name)
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            os._exit(_run(json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _run(order: dict[str, Any]) -> int:
    """One pytest in the order's folder; its output goes to `log`, what became of it to `result`."""
    _redirect(order["log"])
    faulthandler.dump_traceback_later(order["limit"], exit=True)
    os.chdir(order["directory"])
    sys.path[0] = order["directory"]
    recorder = Recorder(order["patience"])
    start = time.monotonic()
    code = pytest.main(order["arguments"], plugins=[recorder])
    found = {
        "outcomes": recorder.outcomes,
        "reasons": recorder.reasons,
        "errors": recorder.errors,
        "seconds": time.monotonic() - start,
        "package": sys.modules["asm_store"].__file__,
    }
    with open(order["result"], "w", encoding="utf-8") as output:  # noqa: PTH123
        json.dump(found, output)
    return int(code)


def _redirect(log: str) -> None:
    """Let nothing of a child come between the forker's own lines."""
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT)
    for stream, target in enumerate((nothing, output, output)):
        os.dup2(target, stream)


if __name__ == "__main__":
    main()
