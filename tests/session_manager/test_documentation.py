"""The examples of docs/running-agents.md and docs/adding-a-provider.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from asm_store import default_store
from asm_store.session_manager import SessionManager

DOCS = Path(__file__).parents[2] / "docs"


def examples(name: str) -> list[str]:
    text = (DOCS / name).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.django_db(transaction=True, available_apps=["asm_store"])
def test_running_agents(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    outcomes = []
    for example in examples("running-agents.md"):
        exec(compile(example, "running-agents.md", "exec"), names)
        outcomes.append(names["result"])
    once, _watched, stepwise, continued = (outcomes[number] for number in (0, 1, 2, 3))
    assert once.output == {"content": "Good morning."}
    assert once.token_usage == {"input_tokens": 12, "output_tokens": 4}
    assert default_store.get_session(stepwise.session_id).status == "completed"
    assert default_store.get_session(continued.session_id).status == "active"
    roles = [message["role"] for message in names["transcript"].messages]
    assert roles == ["user", "assistant"] * 2
    assert "message_received" in capsys.readouterr().out


@pytest.mark.django_db(transaction=True, available_apps=["asm_store"])
def test_adding_a_provider() -> None:
    names: dict[str, Any] = {}
    [example] = examples("adding-a-provider.md")
    exec(compile(example, "adding-a-provider.md", "exec"), names)
    result = SessionManager(default_store, names["ShoutingProvider"]()).run_once("Hi")
    assert result.output == {"content": "HI"}
    run = default_store.get_run(result.run_id)
    assert (run.provider, run.provider_metadata) == ("shouting", {"model": "shout-1"})
    assert "_validation_warnings" not in str([event.metadata for event in result.events])
