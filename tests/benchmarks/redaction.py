"""The command: appends events with redaction off and on, in turn, and says what it costs.

`python -m tests.benchmarks.redaction --on postgresql`
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from . import report
from .commands import begun
from .plan import OPTIONS, Sizes, alias_of

KIB = 1024
PROSE = (
    "The user's token has expired, so the login form asks for the password again; see the key "
    "points below.\n\n    def authenticate(request, username=None, password=None):\n        "
    'return self.get_user(request.headers["Authorization"])  # commit 5b6f1d0c9a8e7f6b\n'
)


def text(length: int) -> str:
    """Prose and code that speak of secrets, without one."""
    return (PROSE * (length // len(PROSE) + 1))[:length]


def data(length: int) -> dict[str, Any]:
    if length < KIB:
        return {"role": "assistant", "content": text(length)}
    call = {"tool_name": "read_file", "tool_call_id": "toolu_01A2b3C4d5E6f7G8h9J0k1L2"}
    return {**call, "tool_output": {"stdout": text(length), "exit_code": 0}}


# How long its text is, and how often an event of each kind is appended in a round.
KINDS = {
    "a delta, 12 characters": (12, 400),
    "a message, 400 characters": (400, 400),
    "a tool's output, 64 KiB": (64 * KIB, 40),
    "a tool's output, 1 MiB": (KIB * KIB, 5),
}


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.redaction", description=__doc__)
    add = parser.add_argument
    add("--on", choices=OPTIONS, default="sqlite", metavar="DATABASE")
    add("--rounds", type=int, default=7, help="how often each is measured (7)")
    add("--json", type=Path, metavar="PATH", help="write all figures to this file")
    chosen = begun(parser)

    from . import run

    with run.prepared([chosen.on], Sizes(processes=1)):
        environment = report.environment([chosen.on])
        found = measure(alias_of(chosen.on, "recommended"), chosen.rounds)
    print(f"{report.described(environment)}\n\n{table(found)}")  # noqa: T201
    if chosen.json:
        figures = {"environment": environment, "milliseconds": found}
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(alias: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of processor time for an event, by its kind and work: medians of all rounds."""
    return {kind: _measure(alias, rounds, *sizes) for kind, sizes in KINDS.items()}


def _measure(alias: str, rounds: int, length: int, count: int) -> dict[str, float]:
    from django.test import override_settings

    from asm_store.backends.database import DatabaseSessionStore
    from asm_store.models import Event, Session

    store = DatabaseSessionStore(alias)
    session = store.save_session(Session(agent_id="redaction"))
    payload = data(length)

    def append() -> None:
        store.append_event(Event(type="custom", session_id=session.id, data=payload))

    def prepare() -> None:
        Event(type="custom", session_id=session.id, data=payload).prepared().redacted()

    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for is_on in (False, True):
            with override_settings(
                ASM_STORE_REDACTION=is_on, ASM_STORE_EXTRA_EVENT_TYPES=["custom"]
            ):
                for name, work in (("prepare", prepare), ("append", append)):
                    key = f"{name}, {'on' if is_on else 'off'}"
                    times.setdefault(key, []).append(_milliseconds(work, count))
    store.delete_session(session.id)
    return {name: median(values) for name, values in times.items()}


def _milliseconds(work: Callable[[], None], count: int) -> float:
    work()
    begin = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - begin) / count * 1000


def table(found: dict[str, dict[str, float]]) -> str:
    names = list(next(iter(found.values())))
    lines = ["| event | " + " | ".join(f"{name}, ms" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for kind, times in found.items():
        lines.append(f"| {kind} | " + " | ".join(f"{times[name]:.3f}" for name in names) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
