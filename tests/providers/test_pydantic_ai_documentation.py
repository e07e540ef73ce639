"""The examples of the documentation run as they stand."""

from __future__ import annotations

from typing import Any

import pytest

from asm_store import default_store
from tests.session_manager.test_documentation import examples

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["asm_store"])


def test_pydantic_ai() -> None:
    pytest.importorskip("pydantic_ai", reason="pydantic-ai is missing")
    names: dict[str, Any] = {}
    [example] = examples("pydantic-ai.md")
    exec(compile(example, "pydantic-ai.md", "exec"), names)
    result = names["result"]
    assert result.output == {"content": '{"weather":"It is warm in a."}'}
    assert "tool_call_completed" in [event.type for event in result.events]
    assert default_store.get_run(result.run_id).token_usage == result.token_usage
