"""An agent at work, and `asm_tail`, in a process of its own, which shows what it does meanwhile.

`run_watched` is also what running agents looks like: a provider, a manager, one call. A real
provider asks a model; this one has its lines from a script, so that it works offline.
"""

from __future__ import annotations

import codecs
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO, Any

from django.core.management import CommandError

from asm_store import default_store
from asm_store.models import Event, Run, Session
from asm_store.session_manager import RunResult, SessionManager
from asm_store.test import ScriptedProvider
from asm_store.transcripts import Transcript

MANAGE = Path(__file__).with_name("manage.py")
TASK = "Why does the lamp stay dark after sunset?"
ANSWER = ("The sign ", "is wrong: ", "sunset comes ", "after noon, ", "not before.")
# Between what the agent does, in seconds.
PAUSE = 0.08
WAITING = "Waiting for the session"
STREAMED = Event.Type.MESSAGE_STREAMED


def _call(type: str, **data: Any) -> dict[str, Any]:
    return {"type": type, "data": {"tool_name": "read_file", "tool_call_id": "call-1", **data}}


SCRIPT: list[dict[str, Any]] = [
    _call("tool_call_started", tool_input={"path": "lighthouse/sun.py", "lines": [14, 15]}),
    _call("tool_call_completed", tool_output="def sunset(day):\n    return noon(day) - 6 * HOUR"),
    *({"type": "message_streamed", "data": {"content": delta}} for delta in ANSWER),
    {"type": "message_received", "data": {"role": "assistant", "content": "".join(ANSWER)}},
    {"type": "token_usage_updated", "data": {"input_tokens": 1_840, "output_tokens": 62}},
    {
        "type": "run_completed",
        "data": {"stop_reason": "end_turn", "provider_metadata": {"model": "sample-1"}},
    },
]


class SampleAgent(ScriptedProvider):
    """Takes its time, as a model does."""

    def execute(
        self, run: Run, session: Session, *, transcript: Transcript | None = None
    ) -> Iterator[Any]:
        for item in super().execute(run, session, transcript=transcript):
            time.sleep(PAUSE)
            yield item


def run_watched(show: Callable[[str], None]) -> tuple[RunResult, str]:
    """Run the agent while `asm_tail` follows it; its result, and what was shown of it."""
    session = Session(agent_id="lamp-keeper")
    manager = SessionManager(default_store, SampleAgent(SCRIPT, name="sample"))
    with tail(session.id, show) as screen:
        result = manager.run_once(
            TASK, session_id=session.id, agent_id=session.agent_id, tags=["demo"]
        )
    return result, "".join(screen)


@contextmanager
def tail(session_id: str, show: Callable[[str], None]) -> Iterator[list[str]]:
    """Follow a session that is made in the block; the list has all that was shown in the end."""
    command = [sys.executable, str(MANAGE), "asm_tail", session_id, "--wait", "--all"]
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, stdout=pipe, stderr=both, bufsize=0) as process:
        assert process.stdout is not None
        screen: list[str] = []
        copying = Thread(target=_copy, args=(process.stdout, show, screen))
        try:
            first = process.stdout.readline().decode()
            if not first.startswith(WAITING):
                raise CommandError(f"asm_tail does not wait: {first}")
            show(first)
            copying.start()
            yield screen
            copying.join()
            if process.wait():
                raise CommandError(f"asm_tail ended with {process.returncode}.")
        except BaseException:
            process.kill()
            raise


def _copy(source: IO[bytes], show: Callable[[str], None], screen: list[str]) -> None:
    """What comes, as soon as it comes: streamed text has no end of a line yet."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while piece := os.read(source.fileno(), 4096):
        screen.append(decoder.decode(piece))
        show(screen[-1])


def missed(events: Iterable[Event], screen: str) -> list[int]:
    """The numbers of the events that are not on the screen: each has a line with its number, but
    for streamed text that goes on in the line that it began.
    """
    shown = {int(number) for number in re.findall(r"^\S+ #(\d+) ", screen, re.MULTILINE)}
    lines = screen.splitlines()
    missing, text = [], ""
    for event in events:
        if event.type != STREAMED:
            text, is_shown = "", event.sequence_number in shown
        else:
            is_shown = bool(text) or event.sequence_number in shown
            text += event.data["content"]
            is_shown = is_shown and any(text in line for line in lines)
        if not is_shown:
            missing.append(event.sequence_number)
    return missing
