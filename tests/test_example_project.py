"""The README's first command: what it shows, and that it notices when something is not shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asm_store.models import Event
from asm_store.test import make_event
from example_project.watched_agent import missed

ROOT = Path(__file__).parents[1]
SCREEN = """\
Waiting for the session ses_1.
08:21:45 #1    message_sent        user: #2 is missing
08:21:46 #3    message_streamed    The sign is wrong.
08:21:46 #5    run_completed
"""


def demo(database: Path) -> str:
    environment = {**os.environ, "EXAMPLE_DATABASE": str(database)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    manage = str(ROOT / "example_project" / "manage.py")
    command = [sys.executable, manage, "demo", "--steps", "10"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_twice(tmp_path: Path) -> None:
    first, second = (demo(tmp_path / "example.sqlite3") for _ in range(2))
    assert "events          83 new " in first
    assert "events           0 new " in second
    for out in (first, second):
        shown = "message_streamed    The sign is wrong: sunset comes after noon, not before.\n"
        assert shown in out
        assert 'tool_call_started   read_file {"path":"lighthouse/sun.py"' in out
        assert "asm_tail has shown all 15 events; the run took 1,902 tokens, 0.006450 USD" in out
        assert "40 events, numbered 1 to 40 without gap or duplicate" in out
    assert re.search(r"agent sessions +7$", first, re.MULTILINE)


def events(*texts: str | None) -> list[Event]:
    """Numbered from 1; a text is streamed."""
    streamed = Event.Type.MESSAGE_STREAMED
    made = [make_event() if t is None else make_event(type=streamed, data={"content": t})
            for t in texts]  # fmt: skip
    for number, event in enumerate(made, start=1):
        event.sequence_number = number
    return made


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (events(None), []),
        (events(None, None, "The sign ", "is wrong.", None), [2]),
        (events(None, "a", None, None, None), [2, 4]),
        (events(None, None, "The sign ", "is right.", None), [2, 4]),
        (events(None, None, "The sign ", "is wrong.", None, None), [2, 6]),
    ],
)
def test_what_the_screen_misses(stored: list[Event], expected: list[int]) -> None:
    assert missed(stored, SCREEN) == expected
