from __future__ import annotations

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Session
from asm_store.test import make_session


@pytest.fixture
def session(database_store: DatabaseSessionStore) -> Session:
    return database_store.save_session(make_session())
