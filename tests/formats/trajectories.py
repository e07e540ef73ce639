"""Writes trajectories of SWE-agent, of mini-swe-agent and in ATIF; everything is made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Document = dict[str, Any]
STARTED = 1_775_000_000.0


def write(document: Document, path: Path, *, indent: int | None = 2) -> Path:
    path.write_text(json.dumps(document, indent=indent), encoding="utf-8")
    return path


def _called(call_id: str, name: str, **arguments: Any) -> Document:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


def leak() -> Document:
    """What SWE-agent writes: a task that it solved by calling functions."""
    history = [
        {"role": "system", "content": "You mend ships.", "message_type": "system_prompt"},
        {"role": "user", "content": "A demonstration", "is_demo": True},
        {"role": "user", "content": "The hull leaks.", "message_type": "observation"},
        {
            "role": "assistant",
            "content": "I look for the leak.",
            "message_type": "action",
            "action": "find_leak bow",
            "thinking_blocks": [{"type": "thinking", "thinking": "Water comes from the bow."}],
            "tool_calls": [_called("call_1", "find_leak", where="bow")],
        },
        {
            "role": "tool",
            "content": [{"type": "text", "text": "Found at plank 7."}],
            "message_type": "observation",
            "tool_call_ids": ["call_1"],
        },
        {
            "role": "assistant",
            "content": "Mended. ☂",
            "message_type": "action",
            "tool_calls": [_called("call_2", "submit")],
        },
        {"role": "tool", "content": "a patch", "tool_call_ids": ["call_2"]},
    ]
    model = {"name": "openai/gpt-5-ship"}
    return {
        "environment": "harbour",
        "trajectory": [{"execution_time": 0.25, "action": "find_leak bow"}],
        "history": history,
        "info": {
            "exit_status": "submitted",
            "submission": "a patch",
            "swe_agent_version": "1.1.0",
            "model_stats": {
                "instance_cost": 0.375,
                "tokens_sent": 9_000,
                "tokens_received": 450,
                "api_calls": 2,
            },
        },
        "replay_config": json.dumps(
            {"agent": {"model": model}, "problem_statement": {"id": "hull__leak-7"}}
        ),
    }


def knots() -> Document:
    """What mini-swe-agent writes: commands in the text of the answers, usage with each."""

    def answer(number: int, said: str, command: str, prompt: int, cached: int) -> Document:
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        extra = {
            "actions": [{"command": command}],
            "timestamp": STARTED + number,
            "response": {"usage": usage},
            "cost": 0.125,
        }
        return {"role": "assistant", "content": said, "extra": extra}

    def output(number: int, content: str) -> Document:
        return {
            "role": "user",
            "content": content,
            "extra": {"returncode": 0, "timestamp": STARTED + number},
        }

    return {
        "trajectory_format": "mini-swe-agent-1.1",
        "instance_id": "knots__splice-3",
        "messages": [
            {"role": "system", "content": "You splice ropes."},
            {"role": "user", "content": "Splice these two.", "extra": {"timestamp": STARTED}},
            answer(2, "First I look.", "ls ropes", 1_000, 0),
            output(3, "hemp\nsisal"),
            answer(5, "Spliced.", "splice hemp sisal", 1_400, 900),
            {"role": "exit", "content": "done", "extra": {"exit_status": "Submitted"}},
        ],
        "info": {
            "exit_status": "Submitted",
            "submission": "one rope",
            "mini_version": "2.1.0",
            "model_stats": {"instance_cost": 0.25, "api_calls": 2},
            "config": {"model": {"model_name": "anthropic/claude-knot-4"}},
        },
    }


def voyage() -> Document:
    """An ATIF trajectory with everything that the format has, and a subagent in it."""
    return {
        "schema_version": "ATIF-v1.7",
        "session_id": "voyage-1",
        "trajectory_id": "voyage-1-main",
        "agent": {"name": "navigator", "version": "1.2.0", "model_name": "openai/gpt-5-sea"},
        "steps": [
            {"step_id": 1, "source": "system", "message": "You navigate."},
            {
                "step_id": 2,
                "timestamp": "2026-05-04T08:00:00Z",
                "source": "user",
                "message": [
                    {"type": "text", "text": "To the island!"},
                    {"type": "image", "source": {"media_type": "image/png", "path": "a.png"}},
                ],
            },
            {
                "step_id": 3,
                "timestamp": "2026-05-04T08:00:02",
                "source": "agent",
                "model_name": "openai/gpt-5-sea-mini",
                "message": "I ask the pilot. ☂",
                "reasoning_content": "There are reefs.",
                "tool_calls": [
                    {
                        "tool_call_id": "call_1",
                        "function_name": "sound",
                        "arguments": {"place": "reef"},
                    },
                    {"tool_call_id": "call_2", "function_name": "ask_pilot", "arguments": {}},
                ],
                "observation": {
                    "results": [
                        {"source_call_id": "call_1", "content": "4 fathoms"},
                        {
                            "source_call_id": "call_2",
                            "subagent_trajectory_ref": [{"trajectory_id": "pilot"}],
                        },
                    ]
                },
                "metrics": {
                    "prompt_tokens": 1_500,
                    "completion_tokens": 60,
                    "cached_tokens": 900,
                    "cost_usd": 0.0625,
                    "extra": {"cache_creation_input_tokens": 100},
                },
            },
            {
                "step_id": 4,
                "timestamp": "2026-05-04T08:00:09Z",
                "source": "agent",
                "message": "We are there.",
                "metrics": {"prompt_tokens": 1_700, "completion_tokens": 20, "cost_usd": 0.03125},
            },
        ],
        "final_metrics": {
            "total_prompt_tokens": 3_200,
            "total_completion_tokens": 80,
            "total_cached_tokens": 900,
            "total_cost_usd": 0.09375,
            "total_steps": 4,
        },
        "subagent_trajectories": [
            {
                "schema_version": "ATIF-v1.7",
                "trajectory_id": "pilot",
                "agent": {"name": "pilot", "version": "1.2.0"},
                "steps": [
                    {"step_id": 1, "source": "user", "message": "Where are the reefs?"},
                    {"step_id": 2, "source": "agent", "message": "In the west."},
                ],
                "final_metrics": {"total_prompt_tokens": 40, "total_completion_tokens": 7},
            }
        ],
    }


def logbook() -> Document:
    """An ATIF trajectory as this package writes it, with its notes."""
    parts = {
        "reasoning": {"id": "evt_thought", "at": "2026-05-04T08:00:01Z"},
        "message": {"id": "evt_said", "data": {"content": "Aye", "role": "assistant", "x": 1}},
        "call/0": {"id": "evt_call"},
        "result/0": {
            "id": "evt_result",
            "type": "tool_call_failed",
            "data": {"tool_name": "row", "tool_call_id": "call", "error_message": "no oars"},
        },
        "usage": {"id": "evt_used", "no_run": True},
    }
    ids = {"session_created": "evt_created", "run_started": "evt_begun", "run_ended": "evt_ended"}
    own = {
        "parent_session_id": None,
        "run_id": "run_1",
        "provider": "rower",
        "status": "timeout",
        "error": {"error_message": "late"},
        "stop_reason": "late",
        "turn_count": 3,
        "started_at": "2026-05-04T07:59:00+00:00",
        "ended_at": "2026-05-04T08:30:00+00:00",
        "event_ids": ids,
    }
    step = {
        "step_id": 1,
        "timestamp": "2026-05-04T08:00:00Z",
        "source": "agent",
        "message": "Aye",
        "reasoning_content": "",
        "tool_calls": [{"tool_call_id": "call", "function_name": "row", "arguments": {}}],
        "observation": {"results": [{"source_call_id": "call", "content": "no oars"}]},
        "metrics": {"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 4},
        "extra": {"asm_store": {"parts": parts}},
    }
    return {
        "schema_version": "ATIF-v1.7",
        "session_id": "logbook",
        "trajectory_id": "run_1",
        "agent": {"name": "rower", "version": "1"},
        "steps": [step],
        "final_metrics": {
            "total_prompt_tokens": 12,
            "total_completion_tokens": 2,
            "total_cached_tokens": 4,
            "total_cost_usd": 0.5,
        },
        "extra": {"asm_store": own},
    }
