"""The steps of sessions and runs: what each allows, and that its event comes with its status."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from asm_store import signals
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import (
    InvalidStatus,
    RunNotFound,
    SessionDeleted,
    SessionNotFound,
    StorageError,
    ValidationError,
)
from asm_store.models import Event, Run, Session
from asm_store.session_manager import SessionManager
from asm_store.test import ScriptedProvider, make_run, make_session
from tests.session_manager.logs import types
from tests.threads import run_threads

STEPS = {
    "activate_session": (["pending"], "active", "session_started"),
    "pause_session": (["active"], "paused", "session_paused"),
    "resume_session": (["paused"], "active", "session_resumed"),
    "complete_session": (["active"], "completed", "session_completed"),
    "cancel_session": (["active", "paused"], "cancelled", "session_cancelled"),
    "fail_session": (["active"], "failed", "session_failed"),
}


@pytest.fixture
def manager(store: BaseSessionStore) -> SessionManager:
    return SessionManager(store, ScriptedProvider([]))


def call(manager: SessionManager, step: str, session_id: str) -> Session:
    arguments = ["it broke"] if step == "fail_session" else []
    session: Session = getattr(manager, step)(session_id, *arguments)
    return session


@pytest.mark.parametrize("step", STEPS)
def test_a_step_takes_only_what_the_state_machine_allows(
    manager: SessionManager, step: str
) -> None:
    store = manager.store
    allowed, status, event = STEPS[step]
    for before in Session.Status.values:
        session = store.save_session(make_session(status=before))
        if before in allowed:
            stored = call(manager, step, session.id)
            assert stored == store.get_session(session.id)
            assert (stored.status, types(store, session.id)) == (status, [event])
            assert stored.updated_at > session.updated_at
        else:
            with pytest.raises(InvalidStatus, match=before):
                call(manager, step, session.id)
            assert store.get_session(session.id).status == before
            assert store.get_latest_sequence(session.id) == 0


@pytest.mark.parametrize("step", STEPS)
def test_an_event_that_is_refused_takes_its_status_with_it(
    manager: SessionManager, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soft-deleted: nothing can be appended, so nothing happens at all."""
    store = manager.store
    before = STEPS[step][0][0]
    session = store.save_session(make_session(status=before))
    store.soft_delete_session(session.id)
    with pytest.raises(SessionDeleted):
        call(manager, step, session.id)
    assert store.get_session(session.id).status == before


@pytest.mark.parametrize("step", STEPS)
def test_no_such_session(manager: SessionManager, step: str) -> None:
    with pytest.raises(SessionNotFound):
        call(manager, step, "ses_none")
    with pytest.raises(ValidationError):
        call(manager, step, "")


def test_a_new_session(manager: SessionManager) -> None:
    parent = manager.start_session()
    session = manager.start_session(
        agent_id="a", context={"c": 1}, tags=("t",), metadata={"m": 1}, parent_session_id=parent.id
    )
    assert session == manager.store.get_session(session.id)
    assert (parent.agent_id, session.agent_id, session.status) == ("scripted", "a", "pending")
    assert (session.context, session.tags, session.metadata) == ({"c": 1}, ["t"], {"m": 1})
    assert session.parent_session_id == parent.id
    [created] = manager.store.get_events(session.id)
    assert (created.type, created.data) == ("session_created", {"agent_id": "a"})
    with pytest.raises(SessionNotFound):
        manager.start_session(parent_session_id="ses_none")
    with pytest.raises(ValidationError):
        manager.start_session(tags=[5])  # type: ignore[list-item]
    assert len(manager.store.list_sessions()) == 2


@pytest.mark.parametrize(
    ("error", "data"),
    [
        ("text", {"error_message": "text", "error_code": "session_failed"}),
        ({"error_code": "x"}, {"error_message": "", "error_code": "x"}),
        (
            KeyError("k"),
            {"error_message": "'k'", "error_code": "session_failed", "error_type": "KeyError"},
        ),
    ],
)
def test_why_a_session_failed(manager: SessionManager, error: Any, data: dict[str, str]) -> None:
    session = manager.store.save_session(make_session(status="active"))
    manager.fail_session(session.id, error)
    assert manager.store.get_events(session.id)[0].data == data


def test_a_run_waits_until_it_is_executed(manager: SessionManager) -> None:
    session = manager.start_session()
    with pytest.raises(InvalidStatus, match="pending"):
        manager.start_run(session.id, "Hi")
    manager.activate_session(session.id)
    run = manager.start_run(session.id, "Hi")
    assert run == manager.store.get_run(run.id)
    assert (run.status, run.input, run.provider) == ("pending", "Hi", "scripted")
    assert types(manager.store, session.id)[-1] == "message_sent"
    assert [stored.id for stored in manager.store.list_runs(session.id)] == [run.id]

    result = manager.execute_run(run.id)
    assert (result.run_id, result.session_id) == (run.id, session.id)
    assert manager.store.get_run(run.id).status == "completed"
    assert manager.store.get_session(session.id).status == "active"
    with pytest.raises(InvalidStatus, match="completed"):
        manager.execute_run(run.id)
    manager.complete_session(session.id)
    assert types(manager.store, session.id) == [
        *("session_created", "session_started", "message_sent"),
        *("run_started", "run_completed", "session_completed"),
    ]


@pytest.mark.parametrize("input", [None, {"prompt": "Hi"}, {"messages": []}, {"messages": ["Hi"]}])
def test_a_run_whose_input_is_none_does_not_begin(manager: SessionManager, input: Any) -> None:
    """One that was stored by another program, say."""
    session = manager.store.save_session(make_session(status="active"))
    run = manager.store.save_run(make_run(session, status="pending", input=input))
    with pytest.raises(ValidationError, match="input: expected"):
        manager.execute_run(run.id)
    assert manager.store.get_run(run.id) == run
    assert manager.store.get_session(session.id).status == "active"
    assert types(manager.store, session.id) == []


def test_runs_that_are_not_there(manager: SessionManager) -> None:
    for step in (manager.execute_run, manager.cancel_run):
        with pytest.raises(RunNotFound):
            step("run_none")
    with pytest.raises(SessionNotFound):
        manager.start_run("ses_none", "Hi")
    with pytest.raises(RunNotFound):
        manager.execute_run("run_none", continuation=True)


def test_a_run_of_a_session_that_was_paused_meanwhile(manager: SessionManager) -> None:
    session = manager.store.save_session(make_session(status="active"))
    run = manager.start_run(session.id, "Hi")
    manager.pause_session(session.id)
    with pytest.raises(InvalidStatus, match="paused"):
        manager.execute_run(run.id)
    assert manager.store.get_run(run.id).status == "pending"


@pytest.mark.parametrize("status", Run.Status.values)
def test_cancelling_a_run(manager: SessionManager, status: str) -> None:
    session = manager.store.save_session(make_session(status="active"))
    run = manager.store.save_run(make_run(session, status=status))
    if status in ("pending", "running"):
        cancelled = manager.cancel_run(run.id)
        assert cancelled == manager.store.get_run(run.id)
        assert (cancelled.status, types(manager.store, session.id)) == (
            *("cancelled", ["run_cancelled"]),
        )
        assert cancelled.ended_at is not None
    else:
        with pytest.raises(InvalidStatus, match=status):
            manager.cancel_run(run.id)
        assert manager.store.get_latest_sequence(session.id) == 0


def test_a_cancelled_session_cancels_what_goes_on_in_it(manager: SessionManager) -> None:
    session = manager.store.save_session(make_session(status="active"))
    runs = [manager.store.save_run(make_run(session, status=s)) for s in Run.Status.values]
    manager.cancel_session(session.id)
    statuses = [manager.store.get_run(run.id).status for run in runs]
    assert statuses == ["cancelled", "cancelled", "completed", "failed", "cancelled", "timeout"]
    events = manager.store.get_events(session.id)
    assert [event.type for event in events] == [*["run_cancelled"] * 2, "session_cancelled"]
    assert {event.run_id for event in events} == {runs[0].id, runs[1].id, None}


def test_of_many_who_take_a_step_one_does(using: str) -> None:
    manager = SessionManager(DatabaseSessionStore(using), ScriptedProvider([]))
    session = manager.start_session()
    manager.activate_session(session.id)
    run = manager.start_run(session.id, "Hi")

    def attempt(step: Any, *args: Any) -> bool:
        try:
            step(*args)
        except InvalidStatus:
            return False
        return True

    assert sum(run_threads([lambda: attempt(manager.execute_run, run.id)] * 4)) == 1
    assert sum(run_threads([lambda: attempt(manager.complete_session, session.id)] * 4)) == 1
    found = types(manager.store, session.id)
    assert [found.count(type) for type in ("run_started", "session_completed")] == [1, 1]


def test_of_many_who_make_the_session_of_an_id_one_does(using: str) -> None:
    manager = SessionManager(DatabaseSessionStore(using), ScriptedProvider([]))

    def attempt() -> bool:
        try:
            manager.run_once("Hi", session_id="ses_same")
        except InvalidStatus:  # it was completed by then
            return False
        return True

    ran = sum(run_threads([attempt] * 6))
    found = types(manager.store, "ses_same")
    assert ran >= 1
    assert found[:2] == ["session_created", "session_started"]
    assert (found.count("session_created"), found.count("run_completed")) == (1, ran)
    assert manager.store.get_session("ses_same").status == "completed"


@pytest.mark.parametrize("status", ["pending", "paused"])
def test_a_session_that_somebody_else_makes_active_meanwhile(
    server: str, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    store = DatabaseSessionStore(server)
    session = store.save_session(make_session(status=status))
    manager = SessionManager(store, ScriptedProvider([]))
    step = manager.activate_session if status == "pending" else manager.resume_session
    get_session = store.get_session

    def get(session_id: str) -> Session:
        found = get_session(session_id)
        if found.status == status:
            run_threads([lambda: step(session_id)])
        return found

    monkeypatch.setattr(store, "get_session", get)
    manager.run_once("Hi", session_id=session.id)
    assert get_session(session.id).status == "active"


def test_every_step_has_its_async_twin(store: BaseSessionStore) -> None:
    manager = SessionManager(store, ScriptedProvider([]))

    async def scenario() -> list[str]:
        session = await manager.astart_session()
        await manager.aactivate_session(session.id)
        await manager.apause_session(session.id)
        await manager.aresume_session(session.id)
        run = await manager.astart_run(session.id, "Hi")
        await manager.aexecute_run(run.id)
        await manager.acancel_run((await manager.astart_run(session.id, "Hi")).id)
        await manager.acancel_session(session.id)
        for step in (manager.acomplete_session(session.id), manager.afail_session(session.id, "")):
            with pytest.raises(InvalidStatus):
                await step
        return [event.type for event in await store.aget_events(session.id)]

    assert async_to_sync(scenario)() == [
        *("session_created", "session_started", "session_paused", "session_resumed"),
        *("message_sent", "run_started", "run_completed", "message_sent", "run_cancelled"),
        "session_cancelled",
    ]
    names = [name for name in vars(SessionManager) if name[0] != "_"]
    steps = [name for name in names if f"a{name}" in names]
    assert len(steps) == 11
    for name in steps:
        twin = getattr(manager, f"a{name}")
        assert inspect.iscoroutinefunction(twin)
        parameters = inspect.signature(getattr(manager, name)).parameters
        assert inspect.signature(twin).parameters == parameters


def test_signals_come_when_all_of_a_step_is_stored(store: BaseSessionStore) -> None:
    seen: list[list[str]] = []

    def receive(session: Session, **kwargs: Any) -> None:
        seen.append(types(store, session.id))

    signals.session_saved.connect(receive)
    try:
        SessionManager(store, ScriptedProvider([])).start_session()
        with pytest.raises(SessionNotFound):
            SessionManager(store, ScriptedProvider([])).start_session(parent_session_id="none")
    finally:
        signals.session_saved.disconnect(receive)
    assert seen == [["session_created"]]


def test_a_failing_append_takes_everything_back(
    store: BaseSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = SessionManager(store, ScriptedProvider([]))
    session = manager.start_session()
    manager.activate_session(session.id)
    before = store.get_session(session.id)

    def refuse(events: Any, **kwargs: Any) -> list[Event]:
        raise StorageError("the disk is full")

    monkeypatch.setattr(store, "append_events", refuse)
    for step in (
        manager.start_session,
        lambda: manager.complete_session(session.id),
        lambda: manager.start_run(session.id, "Hi"),
        lambda: manager.run_once("Hi"),
        lambda: manager.run_once("Hi", session_id=session.id),
    ):
        with pytest.raises(StorageError):
            step()
    assert store.list_sessions() == [before]
    assert store.list_runs(session.id) == []
    assert types(store, session.id) == ["session_created", "session_started"]
