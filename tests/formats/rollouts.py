"""Writes rollouts in the shape in which Codex keeps them on disk; everything is made up."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

STARTED = datetime(2026, 4, 7, 6, 15, tzinfo=UTC)
MODEL = "gpt-5.3-codex"


def turn_id(moment: datetime) -> str:
    """A UUIDv7 of that moment, as Codex names its turns."""
    return str(UUID(int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62))


def used(given: int, cached: int, output: int, written: int = 0) -> dict[str, int]:
    """Counts of tokens; `given` includes those that were cached."""
    return {
        "input_tokens": given,
        "cached_input_tokens": cached,
        "cache_write_input_tokens": written,
        "output_tokens": output,
        "reasoning_output_tokens": output // 2,
        "total_tokens": given + output,
    }


class Rollout:
    """The lines of one log, made one after the other; the clock goes on a second with each."""

    def __init__(self, name: str, started: datetime = STARTED, **meta: Any) -> None:
        self.session_id = str(uuid5(NAMESPACE_URL, f"codex/{name}"))
        self.now = started
        self.lines: list[str] = []
        self.line(
            "session_meta",
            id=self.session_id,
            timestamp=self._stamp(),
            cwd="/home/ada/lighthouse",
            cli_version="0.104.0",
            model_provider="openai",
            git={"branch": "main"},
            **meta,
        )

    def _stamp(self) -> str:
        return self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def line(self, kind: str, **payload: Any) -> dict[str, Any]:
        self.now += timedelta(seconds=1)
        record = {"timestamp": self._stamp(), "type": kind, "payload": payload}
        self.lines.append(json.dumps(record, ensure_ascii=False))
        return record

    def item(self, kind: str, **payload: Any) -> dict[str, Any]:
        return self.line("response_item", type=kind, **payload)

    def event(self, kind: str, **payload: Any) -> dict[str, Any]:
        return self.line("event_msg", type=kind, **payload)

    def message(self, role: str, *texts: str) -> dict[str, Any]:
        kind = "output_text" if role == "assistant" else "input_text"
        blocks = [{"type": kind, "text": text} for text in texts]
        return self.item("message", role=role, content=blocks)

    def context(self, model: str = MODEL) -> None:
        self.line("turn_context", turn_id=turn_id(self.now), model=model, cwd="/home/ada")

    def task(self, prompt: str, model: str = MODEL) -> None:
        """A turn begins, as newer versions write it."""
        self.event("task_started", turn_id=turn_id(self.now))
        self.ask(prompt)
        self.context(model)

    def ask(self, prompt: str) -> None:
        self.message("user", prompt)
        self.event("user_message", message=prompt, images=[])

    def answer(self, said: str) -> None:
        self.event("agent_message", message=said)
        self.message("assistant", said)

    def think(self, thought: str) -> None:
        self.event("agent_reasoning", text=thought)
        summary = [{"type": "summary_text", "text": thought}]
        self.item("reasoning", summary=summary, content=None, encrypted_content="c2VjcmV0")

    def call(self, call_id: str, name: str, output: Any, **arguments: Any) -> None:
        given = json.dumps(arguments)
        self.item("function_call", name=name, arguments=given, call_id=call_id)
        self.item("function_call_output", call_id=call_id, output=output)

    def count(self, total: dict[str, int] | None, last: dict[str, int] | None = None) -> None:
        info = None if total is None else {"total_token_usage": total, "last_token_usage": last}
        self.event("token_count", info=info, rate_limits={"limit_id": "codex"})

    def done(self, said: str | None = None, **fields: Any) -> None:
        self.event("task_complete", turn_id=turn_id(self.now), last_agent_message=said, **fields)

    def copy_of(self, parent: Rollout) -> None:
        """The lines of the parent, written at once under new times, as a fork begins."""
        for line in parent.lines:
            self.lines.append(json.dumps({**json.loads(line), "timestamp": self._stamp()}))

    def write(self, path: Path) -> Path:
        path.write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")
        return path


def tide_table() -> Rollout:
    """Two turns with tools, thoughts, and counts that are told several times."""
    log = Rollout("tide-table")
    log.message("developer", "You keep the tide table.")
    log.message("user", "<environment_context>the pier</environment_context>")
    log.task("When is high tide?")
    log.count(None)
    log.think("The table knows.")
    log.answer("I look it up.")
    log.call("call_1", "shell", "06:40\n19:05", command=["grep", "high", "tides"])
    log.count(used(5_000, 1_000, 120), used(5_000, 1_000, 120))
    log.context()
    log.count(used(5_000, 1_000, 120), used(5_000, 1_000, 120))
    log.answer("At 06:40 and at 19:05.")
    log.count(used(10_300, 5_900, 160), used(5_300, 4_900, 40))
    log.done("At 06:40 and at 19:05.", duration_ms=9_000)
    log.task("And low tide? ☂", "gpt-5.4-codex-mini")
    log.item("custom_tool_call", name="look", input="low", call_id="call_2")
    log.item("custom_tool_call_output", call_id="call_2", output=[{"text": "12:50"}])
    log.item("web_search_call", id="ws_1", status="completed", action={"query": "tide"})
    log.answer("At 12:50.")
    log.count(used(16_000, 11_000, 230, 400), used(5_700, 5_100, 70, 400))
    log.done("At 12:50.")
    log.event("moon_phase_changed", phase="waning")
    return log


def squall() -> Rollout:
    """What goes wrong: an error, an interruption, and a turn that is cut off."""
    log = Rollout("squall")
    log.task("Furl the sails.")
    log.event("error", message="Connection lost.", codex_error_info={"http": {"status": 502}})
    log.done()
    log.task("Again!")
    log.answer("I try.")
    log.count(used(4_000, 0, 50))
    log.event("turn_aborted", turn_id=None, reason="interrupted")
    log.lines.append("not JSON at all {")
    log.task("Reef them.")
    log.item("local_shell_call", call_id="call_1", action={"command": ["reef"]}, status="completed")
    return log
