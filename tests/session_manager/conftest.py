from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from asm_store.session_manager import RunResult, SessionManager


@pytest.fixture(params=["sync", "async"])
def run_once(request: pytest.FixtureRequest) -> Callable[..., RunResult]:
    """`run_once`, or its twin as an async view would call it."""

    def call(manager: SessionManager, *args: Any, **kwargs: Any) -> RunResult:
        if request.param == "sync":
            return manager.run_once(*args, **kwargs)

        async def run() -> RunResult:
            return await manager.arun_once(*args, **kwargs)

        return async_to_sync(run)()

    return call
