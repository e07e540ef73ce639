from __future__ import annotations

from collections.abc import Iterator

import pytest

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from tests.cases import require, with_access
from tests.providers.api_server import ApiServer, served
from tests.providers.wires import AnthropicWire, OpenAIWire, Wire
from tests.session_manager.conftest import run_once

__all__ = ["run_once"]


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with served() as server:
        yield server


@pytest.fixture(params=[AnthropicWire, OpenAIWire])
def wire(request: pytest.FixtureRequest) -> Wire:
    """Each API in turn, of which the SDK is installed."""
    made: Wire = request.param()
    name = made.provider_class.SDK
    pytest.importorskip(name, reason=f"{name} is missing")
    return made


@pytest.fixture(params=["memory", with_access("default"), with_access("postgresql")])
def store(request: pytest.FixtureRequest) -> BaseSessionStore:
    """What a provider yields is stored alike on every database: three kinds of store will do."""
    if request.param == "memory":
        return InMemorySessionStore()
    return DatabaseSessionStore(require(request.param))
