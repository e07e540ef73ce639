"""Writes sample transcripts in the shape in which Claude Code keeps them on disk.

    python -m example_project.sample_data FOLDER

Everything in them is made up and the same each time: three sessions of one project, one with two
subagents, with what real logs have in them too: tools that fail, requests that are tried again,
a user who interrupts, a session that was resumed, comments, and lines that nobody knows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

OPUS = "claude-opus-4-5-20251101"
HAIKU = "claude-haiku-4-5-20251001"
PROJECT = "-home-ada-lighthouse"
STARTED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
Block = dict[str, Any]


def text(content: str) -> Block:
    return {"type": "text", "text": content}


def thinking(content: str) -> Block:
    return {"type": "thinking", "thinking": content, "signature": "c2lnbmVk"}


def tool_use(call_id: str, name: str, **arguments: Any) -> Block:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def usage(fresh: int, output: int, read: int = 0, created: int = 0) -> dict[str, Any]:
    """The usage of a message; `fresh` input tokens exclude those of the cache."""
    return {
        "input_tokens": fresh,
        "cache_creation_input_tokens": created,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": created, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "service_tier": "standard",
    }


class Transcript:
    """The lines of one log, made one after the other; the clock goes on a second with each."""

    def __init__(
        self, name: str, *, agent_id: str | None = None, started: datetime = STARTED
    ) -> None:
        self.session_id = str(uuid5(NAMESPACE_URL, name))
        self.agent_id = agent_id
        self.now = started
        self.lines: list[str] = []
        self._parent: str | None = None
        self._messages = 0

    def line(self, record: Mapping[str, Any] | str) -> None:
        """Any line, as it is."""
        as_text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)
        self.lines.append(as_text)

    def record(self, kind: str, **fields: Any) -> dict[str, Any]:
        """A line with the fields that all lines of the conversation have."""
        self.now += timedelta(seconds=1)
        owner = f"{self.session_id}/{self.agent_id}/{len(self.lines)}"
        record = {
            "parentUuid": self._parent,
            "isSidechain": self.agent_id is not None,
            "userType": "external",
            "cwd": "/home/ada/lighthouse",
            "sessionId": self.session_id,
            "version": "2.1.15",
            "gitBranch": "main",
            **({"agentId": self.agent_id} if self.agent_id else {}),
            "type": kind,
            "uuid": str(uuid5(NAMESPACE_URL, owner)),
            "timestamp": self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **fields,
        }
        self._parent = record["uuid"]
        self.line(record)
        return record

    def user(self, content: str | list[Block], **fields: Any) -> dict[str, Any]:
        return self.record("user", message={"role": "user", "content": content}, **fields)

    def result(self, call_id: str, content: str | list[Block], *, is_error: bool = False) -> None:
        block = {"type": "tool_result", "tool_use_id": call_id, "content": content}
        self.user([{**block, "is_error": is_error}], toolUseResult={"content": content})

    def answer(
        self, *blocks: Block, usage: Mapping[str, Any], model: str = OPUS, stop: str | None = None
    ) -> None:
        """One API message: a line for each block, and the usage in each of them."""
        self._messages += 1
        name = f"{self.agent_id or ''}{self.session_id[:8]}{self._messages:04}"
        for block in blocks:
            message = {
                "model": model,
                "id": f"msg_{name}",
                "type": "message",
                "role": "assistant",
                "content": [block],
                "stop_reason": stop if block is blocks[-1] else None,
                "stop_sequence": None,
                "usage": usage,
            }
            self.record("assistant", message=message, requestId=f"req_{name}")

    def api_error(self, status: int, attempt: int) -> None:
        """A request that failed and will be tried again."""
        error = {"status": status, "error": {"type": "error", "error": {"message": "Overloaded"}}}
        self.record(
            "system",
            subtype="api_error",
            level="error",
            error=error,
            retryInMs=500.0 * 2**attempt,
            retryAttempt=attempt,
            maxRetries=10,
        )

    def resume(self) -> None:
        """Write the conversation so far once more, under new uuids, as Claude Code may do."""
        for number, line in enumerate(list(self.lines)):
            record = json.loads(line) if line.startswith("{") else {}
            if record.get("type") in {"user", "assistant"}:
                self._parent = str(uuid5(NAMESPACE_URL, f"{self.session_id}/again/{number}"))
                self.line({**record, "uuid": self._parent})

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")
        return path


def write_samples(folder: Path) -> list[Path]:
    """Write all samples below `folder`; returns the files."""
    project = folder / PROJECT
    written = []
    for log in (broken_lamp(), crowded_harbour(), storm()):
        written.append(log.write(project / f"{log.session_id}.jsonl"))
    parent = crowded_harbour().session_id
    for log in harbour_agents():
        written.append(log.write(project / parent / "subagents" / f"agent-{log.agent_id}.jsonl"))
    return written


def broken_lamp() -> Transcript:
    """A bug is found and mended; the session is resumed later for one more question."""
    log = Transcript("broken-lamp")
    log.line("// Written by the example project; not a real session.")
    first = log.user("The lamp stays dark after sunset. Find out why and mend it.")
    log.line({"type": "file-history-snapshot", "messageId": first["uuid"], "snapshot": {}})
    log.answer(
        thinking("Sunset is computed somewhere; start there."),
        text("I will look at how the sunset is computed."),
        tool_use("toolu_lamp_1", "Grep", pattern="sunset", path="lighthouse"),
        usage=usage(12, 164, 15_300, 4_100),
    )
    log.result("toolu_lamp_1", "lighthouse/sun.py:14: def sunset(day):")
    log.answer(
        tool_use("toolu_lamp_2", "Read", file_path="/home/ada/lighthouse/lighthouse/sun.py"),
        usage=usage(8, 71, 19_400, 260),
    )
    log.result("toolu_lamp_2", "14 def sunset(day):\n15     return noon(day) - 6 * HOUR")
    log.answer(
        text("The sign is wrong: sunset comes after noon."),
        tool_use("toolu_lamp_3", "Edit", old_string="- 6 * HOUR", new_string="+ 6 * HOUR"),
        usage=usage(8, 140, 19_660, 330),
    )
    log.result("toolu_lamp_3", [text("The file has been updated.")])
    log.answer(
        tool_use("toolu_lamp_4", "Bash", command="pytest -q"),
        tool_use("toolu_lamp_5", "Bash", command="ruff check ."),
        usage=usage(8, 96, 19_990, 210),
    )
    log.record("progress", data={"type": "bash_progress", "elapsedTimeSeconds": 2})
    log.result("toolu_lamp_4", "1 failed, 22 passed: test_polar_night", is_error=True)
    log.result("toolu_lamp_5", "All checks passed!")
    log.answer(
        text("One test is left: in the polar night there is no sunset at all."),
        tool_use("toolu_lamp_6", "Edit", old_string="noon", new_string="polar or noon"),
        usage=usage(8, 171, 20_200, 340),
    )
    log.result("toolu_lamp_6", "The file has been updated.")
    log.answer(
        text("The lamp is lit after sunset again. All 23 tests pass."),
        usage=usage(8, 38, 20_540, 120),
        stop="end_turn",
    )
    log.record("system", subtype="turn_duration", durationMs=31_000)
    log.line({"type": "summary", "summary": "Mend the lamp", "leafUuid": first["uuid"]})
    log.resume()
    log.user([text("Thanks! Is the foghorn affected too? ☂")])
    log.answer(
        text("No. The foghorn listens to the humidity, not to the sun."),
        usage=usage(10, 44, 20_700, 510),
        model=HAIKU,
        stop="end_turn",
    )
    log.line({"type": "moon-phase", "sessionId": log.session_id, "phase": "waning"})
    return log


def crowded_harbour() -> Transcript:
    """Two subagents are sent out; what they did is in files of their own."""
    log = Transcript("crowded-harbour", started=STARTED + timedelta(hours=2))
    log.user("Which piers are free today, and which ships are expected?")
    log.answer(
        text("I will ask two agents at once."),
        tool_use("toolu_harbour_1", "Task", subagent_type="clerk", prompt="Free piers"),
        tool_use("toolu_harbour_2", "Task", subagent_type="clerk", prompt="Expected ships"),
        usage=usage(9, 210, 18_200, 700),
    )
    log.result("toolu_harbour_1", [text("Piers 2 and 5 are free.")])
    log.result("toolu_harbour_2", [text("Three ships: Aurora, Björk, Cormorant.")])
    log.answer(
        text("Piers 2 and 5 are free; three ships are expected, so one will have to wait."),
        usage=usage(7, 58, 18_900, 420),
        stop="end_turn",
    )
    log.line({"type": "queue-operation", "operation": "enqueue", "sessionId": log.session_id})
    log.user("Let the Cormorant wait.")
    log.answer(
        text("The Cormorant waits outside."), usage=usage(10, 17, 19_300, 90), stop="end_turn"
    )
    return log


def harbour_agents() -> list[Transcript]:
    """The two subagents of `crowded_harbour`."""
    return [
        _agent("a1b2c3d", "List the free piers.", "Piers 2 and 5 are free."),
        _agent("e4f5a6b", "List the expected ships.", "Three ships: Aurora, Björk, Cormorant."),
    ]


def _agent(agent_id: str, task: str, found: str) -> Transcript:
    started = STARTED + timedelta(hours=2, seconds=3)
    log = Transcript("crowded-harbour", agent_id=agent_id, started=started)
    log.user(task)
    call = f"toolu_{agent_id}"
    log.answer(
        tool_use(call, "Read", file_path="/home/ada/harbour.csv"), usage=usage(2, 61, 10_900, 380)
    )
    log.result(call, "pier,ship,from,until\n1,Wren,08:00,18:00")
    log.answer(text(found), usage=usage(4, 33, 11_300, 1_200), stop="end_turn")
    return log


def storm() -> Transcript:
    """Everything that can go wrong with a request."""
    log = Transcript("storm", started=STARTED + timedelta(hours=5))
    log.user("Write the storm warning.")
    log.api_error(529, 1)
    log.api_error(529, 2)
    log.answer(
        thinking("Wind of force ten."),
        tool_use("toolu_storm_1", "Write", file_path="/home/ada/warning.txt", content="Gale!"),
        usage=usage(11, 120, 0, 16_400),
    )
    log.result("toolu_storm_1", "The user does not want this tool to be used.", is_error=True)
    log.user([text("[Request interrupted by user for tool use]")])
    log.user("Softer, please.")
    failed = {
        "model": "<synthetic>",
        "id": "msg_storm_failed",
        "role": "assistant",
        "content": [text("API Error: Connection lost.")],
        "stop_reason": "stop_sequence",
        "usage": usage(0, 0),
    }
    log.record("assistant", message=failed, isApiErrorMessage=True, error="server_error")
    log.line("not JSON at all {")
    return log


if __name__ == "__main__":
    for path in write_samples(Path(sys.argv[1])):
        print(path)
