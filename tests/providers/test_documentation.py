"""The examples of docs/providers.md run as they stand; the SDKs' own variables name the server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from asm_store import default_store
from tests.providers.api_server import ApiServer
from tests.providers.wires import AnthropicWire, OpenAIWire, Wire

TEXT = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
ANTHROPIC, OPENAI, LOCAL, ERROR = EXAMPLES

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["asm_store"])


@pytest.fixture
def environment(wire: Wire, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    name = wire.provider_class.SDK.upper()
    monkeypatch.setenv(f"{name}_API_KEY", "key")
    monkeypatch.setenv(f"{name}_BASE_URL", api.address + wire.path)


def run(example: str, names: dict[str, Any]) -> None:
    exec(compile(example, "providers.md", "exec"), names)


@pytest.mark.parametrize("wire", [AnthropicWire], indirect=True)
def test_anthropic(wire: Wire, api: ApiServer, environment: None) -> None:
    names: dict[str, Any] = {}
    called = wire.calls(("c1", "weather", {"city": "Oslo", "days": 2}))
    api.replies = [called, wire.said("No, it stays clear.")]
    run(ANTHROPIC, names)
    assert names["result"].output == {"content": "No, it stays clear."}
    assert wire.turns(api.requests[1])[-1][2] == '{"city": "Oslo", "sky": ["clear", "clear"]}'


@pytest.mark.parametrize("wire", [OpenAIWire], indirect=True)
def test_openai(
    wire: Wire, api: ApiServer, environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    api.replies = [wire.said("Good morning."), wire.problem(400, "invalid_request_error")]
    run(OPENAI, names)
    assert names["result"].output == {"content": "Good morning."}
    run(LOCAL, names)
    assert names["local"].name == "local"
    run(ERROR, names)
    assert capsys.readouterr().out == "invalid_request None\n"
    assert default_store.get_run(names["failed"].id).status == "failed"


def test_every_code_is_told() -> None:
    from asm_store.providers import failures
    from asm_store.providers.anthropic import MessageAnswer
    from asm_store.providers.openai import CompletionAnswer

    codes = {*failures._NAMED.values(), *failures._STATUSES.values()}
    codes |= {*MessageAnswer.BAD_ENDS.values(), *CompletionAnswer.BAD_ENDS.values()}
    assert all(f"`{code}`" in TEXT for code in codes)
