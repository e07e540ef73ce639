"""The examples of docs/exporting.md run, and its options are those of the command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from asm_store import default_store
from asm_store.formats import ExportReport, import_paths
from asm_store.management.commands.asm_export import Command
from asm_store.test import make_event, make_session

TEXT = (Path(__file__).parents[2] / "docs" / "exporting.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.django_db
def test_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = default_store.save_session(make_session(agent_id="support", status="failed"))
    default_store.append_event(make_event(session))
    names: dict[str, Any] = {"session_id": session.id}
    for example in EXAMPLES:
        exec(example, names)
    assert names["report"] == ExportReport(sessions=1, events=1)
    assert import_paths([tmp_path]).total.events.stored == 1
    response = names["download"](None, session.id)
    assert b"".join(response.streaming_content).count(b"\n") == 4
    assert names["exported"]["session"]["id"] == session.id


def test_every_option_is_told_of() -> None:
    parser = Command().create_parser("manage.py", "asm_export")
    common = {"-h", "--version", "--settings", "--pythonpath", "--traceback", "--no-color"}
    common |= {"--help", "-v", "--force-color", "--skip-checks"}
    options = {name for action in parser._actions for name in action.option_strings}
    assert {name for name in options - common if f"`{name}" not in TEXT} == set()
