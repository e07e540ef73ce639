from __future__ import annotations

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Session
from asm_store.test import make_session
from asm_store.waiting import polling
from asm_store.waiting.hub import Hub
from tests.cases import require, with_access
from tests.waiting.waiters import hub_of_tests


@pytest.fixture(params=map(with_access, ("postgresql", "postgresql_other")))
def told(request: pytest.FixtureRequest) -> str:
    """Each alias whose database can wake those who wait."""
    return require(request.param)


@pytest.fixture
def session(told: str) -> Session:
    return DatabaseSessionStore(told).save_session(make_session(status="active"))


@pytest.fixture
def hub(told: str) -> Hub:
    return hub_of_tests(told)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who will be woken does not look for himself within the time of a test."""
    monkeypatch.setattr(polling, "HEARD_PAUSE", 3_600.0)
