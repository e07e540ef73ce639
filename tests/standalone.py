"""Python processes with a Django of their own, whose database is none of the tests' aliases."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import django
from django.conf import settings

ROOT = Path(__file__).parents[1]
SECONDS = 900


class Child:
    """A process that runs a module with such arguments, as JSON, and says lines of JSON.

    It is killed, when it has not ended, at the end of `stack`.
    """

    def __init__(self, stack: ExitStack, module: str, *arguments: Any) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *map(json.dumps, arguments)],
            cwd=ROOT, stdin=pipe, stdout=pipe, text=True,
        )  # fmt: skip
        # Last entered, first left: killed before it is waited for.
        stack.enter_context(self.process)
        stack.callback(self.process.kill)

    def heard(self) -> Any:
        """The next that it says."""
        line = cast("IO[str]", self.process.stdout).readline()
        assert line, "a child process failed, see the captured stderr"
        return json.loads(line)

    def go(self) -> None:
        """Let it go on that waits for a line."""
        stdin = cast("IO[str]", self.process.stdin)
        stdin.write("go\n")
        stdin.flush()

    def end(self) -> None:
        assert self.process.wait(SECONDS) == 0


# In the process


def arguments() -> list[Any]:
    return [json.loads(value) for value in sys.argv[1:]]


def configure(database: dict[str, Any], **more: Any) -> None:
    """Set Django up for this one database."""
    settings.configure(
        DATABASES={"default": database},
        INSTALLED_APPS=["django_filters", "asm_store"],
        USE_TZ=True,
        SECRET_KEY="only for tests",
        **more,
    )
    django.setup()


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201
