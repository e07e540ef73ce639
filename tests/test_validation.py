"""What is unusual in an event's data, in sentences; never an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from asm_store.events.types import EventType
from asm_store.events.validation import REQUIRED, warnings_for

DOCUMENTED = Path(__file__).parents[1] / "docs" / "adding-a-provider.md"


@pytest.mark.parametrize(
    ("type", "data", "warnings"),
    [
        ("message_sent", {"content": [], "role": "user"}, []),
        ("message_sent", {}, ["content is missing.", "role is missing."]),
        ("message_streamed", {"content": 5}, ["content: expected a string, got 5."]),
        ("tool_call_started", {"tool_name": "t", "tool_call_id": "c", "tool_input": None}, []),
        ("token_usage_updated", {"input_tokens": 1, "output_tokens": 2.5}, []),
        (
            "token_usage_updated",
            {"input_tokens": True, "output_tokens": -1, "total_tokens": "x"},
            [
                "total_tokens: expected a number >= 0, got 'x'.",
                "input_tokens: expected a number >= 0, got True.",
                "output_tokens: expected a number >= 0, got -1.",
            ],
        ),
        ("run_completed", {"stop_reason": "end", "output": {}, "cost_usd": 0}, []),
        (
            "run_completed",
            {"stop_reason": "end", "output": "text"},
            ["output: expected a mapping, got 'text'."],
        ),
        ("session_created", {"anything": 1}, []),
        ("a_projects_own", {"anything": 1}, []),
    ],
)
def test_warnings(type: str, data: dict[str, Any], warnings: list[str]) -> None:
    assert warnings_for(type, data) == warnings


def test_every_rule_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*) \|$", DOCUMENTED.read_text(), re.MULTILINE)
    told = {
        type: set(re.findall(r"`(\w+)`", fields.partition("where known")[0]))
        for types, fields in rows
        for type in re.findall(r"\w+", types)
    }
    assert told == {EventType(type).value: set(fields) for type, fields in REQUIRED.items()}
