"""What is stored of a run of an agent."""

from __future__ import annotations

from typing import Any

import pytest

from asm_store.backends.base import BaseSessionStore
from asm_store.exceptions import ProviderError
from asm_store.models import Run
from asm_store.session_manager import SessionManager
from tests.session_manager.logs import only


def told(store: BaseSessionStore, run_id: str) -> list[tuple[str, dict[str, Any]]]:
    """What the provider told of a run, as it is stored; none of it is unusual."""
    run = store.get_run(run_id)
    events = store.get_events(run.session_id, run_id=run_id)
    assert [event.metadata for event in events] == [{}] * len(events)
    assert {event.provider for event in events} == {run.provider}
    return [(event.type, event.data) for event in events][2:]


def types(store: BaseSessionStore, run: Run) -> list[str]:
    return [event.type for event in store.get_events(run.session_id, run_id=run.id)][2:]


def failed_run(store: BaseSessionStore, run_once: Any, provider: Any, cause: str) -> Run:
    """The run of a provider that fails with an exception of this name."""
    with pytest.raises(ProviderError) as caught:
        run_once(SessionManager(store, provider), "Hi")
    assert type(caught.value.__cause__).__name__ == cause
    session, run = only(store)
    assert (session.status, run.status) == ("failed", "failed")
    assert types(store, run)[-2:] == ["error_occurred", "run_failed"]
    return run
