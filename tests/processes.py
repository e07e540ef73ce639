"""Starting Python processes, commands and races; each uses the same test databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import django
from django.utils.module_loading import import_string

_ROOT = Path(__file__).parents[1]
_SECONDS = 120


def start_command(name: str, *args: str, **streams: Any) -> subprocess.Popen[bytes]:
    """A management command in a process of its own; its output goes into pipes."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "django", name, "--skip-checks", *args],
        cwd=_ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        **{"stdout": pipe, "stderr": pipe, **streams},
    )


def run_processes(path: str, arguments: Iterable[Sequence[Any]]) -> list[Any]:
    """Call the function at `path` ("package.module.name") once for each arguments, each elsewhere.

    Each call has a process of its own; they start together, when every process has set up Django.
    Arguments and results travel as JSON. Raises `AssertionError` when a process fails; its
    traceback is in the captured stderr.
    """
    with ExitStack() as stack:
        children = [_start(path, values, stack) for values in arguments]
        for child in children:
            assert _pipe(child.stdout).readline() == "ready\n", f"{path} did not start"
        for child in children:
            _pipe(child.stdin).write("go\n")
            _pipe(child.stdin).flush()
        return [_result(path, child) for child in children]


@contextmanager
def start_process(path: str, arguments: Sequence[Any]) -> Iterator[subprocess.Popen[str]]:
    """As `run_processes()` calls it, in one process, which is killed at the end of the block."""
    with ExitStack() as stack:
        child = _start(path, arguments, stack)
        assert _pipe(child.stdout).readline() == "ready\n", f"{path} did not start"
        _pipe(child.stdin).write("go\n")
        _pipe(child.stdin).flush()
        yield child


def _start(path: str, arguments: Sequence[Any], stack: ExitStack) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, path, json.dumps(arguments)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    # Last entered, first left: killed, when it has not ended, before it is waited for.
    stack.enter_context(child)
    stack.callback(child.kill)
    return child


def _pipe(stream: IO[str] | None) -> IO[str]:
    return cast("IO[str]", stream)


def _result(path: str, child: subprocess.Popen[str]) -> Any:
    output, _ = child.communicate(timeout=_SECONDS)
    assert child.returncode == 0, f"{path} failed in a child process, see the captured stderr"
    return json.loads(output.splitlines()[-1])


def _main(path: str, arguments: str) -> None:
    django.setup()
    function = import_string(path)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    print(json.dumps(function(*json.loads(arguments))))  # noqa: T201


if __name__ == "__main__":
    _main(*sys.argv[1:])
