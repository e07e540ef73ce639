"""export_session: everything of a session, fitting together, whoever writes meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import QueryError, SessionNotFound
from asm_store.models import Artifact, Event, Run, Session
from asm_store.queries import aexport_session, export, export_session
from asm_store.queries.export import read_contents
from asm_store.test import make_event, make_run, make_session
from tests.exports import EXTRA_TYPE, NOON, fill
from tests.records import artifact
from tests.threads import run_threads

Store = DatabaseSessionStore


@pytest.fixture
def store(using: str) -> Store:
    return Store(using=using)


@pytest.fixture
def filled(using: str) -> Iterator[None]:
    with override_settings(ASM_STORE_EXTRA_EVENT_TYPES=[EXTRA_TYPE]):
        fill(using)
        yield


def rows(kind: Any, using: str, session_id: str, *order: str) -> list[dict[str, Any]]:
    found = kind._base_manager.using(using).filter(session_id=session_id).order_by(*order)
    return [row.to_dict() for row in found]


@pytest.mark.parametrize("session_id", ["child", "z-parent", "GONE", "empty"])
@pytest.mark.usefixtures("filled")
def test_all_records_in_their_orders(store: Store, using: str, session_id: str) -> None:
    exported = export_session(session_id, include_artifacts=True, using=using)
    assert exported == {
        "session": store.get_session(session_id).to_dict(),
        "runs": rows(Run, using, session_id, "started_at", "id"),
        "events": rows(Event, using, session_id, "sequence_number"),
        "artifacts": rows(Artifact, using, session_id, "created_at", "id"),
    }
    assert json.loads(json.dumps(exported)) == exported


@pytest.mark.usefixtures("filled")
def test_the_corpus_is_not_empty(using: str) -> None:
    exported = export_session("child", include_artifacts=True, using=using)
    counts = [len(exported[name]) for name in ("runs", "events", "artifacts")]
    assert counts == [3, 3, 2]
    assert [run["id"] for run in exported["runs"]][:2] == ["R0", "r0"]
    assert [event["sequence_number"] for event in exported["events"]] == [2, 3, 4]


@pytest.mark.usefixtures("filled")
def test_artifacts_are_there_when_asked_for(using: str) -> None:
    assert list(export_session("child", using=using)) == ["session", "runs", "events"]


@pytest.mark.usefixtures("filled")
def test_the_async_twin(using: str) -> None:
    assert async_to_sync(aexport_session)("child", using=using) == export_session(
        "child", using=using
    )


def test_the_default_stores_database_is_the_default(transactional_db: None) -> None:
    Store().save_session(make_session(id="s"))
    assert export_session("s")["session"]["id"] == "s"


def test_an_unknown_session_is_not_found(using: str) -> None:
    with pytest.raises(SessionNotFound, match="session lost is not stored"):
        export_session("lost", using=using)


@pytest.mark.parametrize("bad", ["", "x" * 256, "a\0", "\ud800", None, 7, ["s"]])
@pytest.mark.django_db
def test_what_can_be_no_id_is_refused(bad: Any) -> None:
    with pytest.raises(QueryError, match="session_id: "):
        export_session(bad)


def test_pages_leave_nothing_out(store: Store, using: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE", 3)
    session = store.save_session(make_session(id="s"))
    for number in range(9):
        store.save_run(make_run(session, id=f"r{number}", started_at=NOON))
        row = artifact(key=f"k{number}", session_id="s", created_at=NOON)
        Artifact._base_manager.using(using).bulk_create([row.prepared()])
    store.append_events([make_event(session) for _ in range(700)])
    exported = export_session("s", include_artifacts=True, using=using)
    assert [run["id"] for run in exported["runs"]] == [f"r{number}" for number in range(9)]
    assert [event["sequence_number"] for event in exported["events"]] == list(range(1, 701))
    assert exported["artifacts"] == rows(Artifact, using, "s", "created_at", "id")


class TestWhileOthersWrite:
    def test_what_is_appended_later_is_not_in_it(self, store: Store, using: str) -> None:
        session = store.save_session(make_session(id="s"))
        store.append_event(make_event(session, id="before"))
        contents = read_contents("s", using)
        runs = list(contents.runs())
        run = store.save_run(make_run(session))
        store.append_event(make_event(session, run_id=run.id))
        assert runs == []
        assert [json.loads(line)["id"] for line in contents.event_lines()] == ["before"]

    @pytest.mark.parametrize("earlier", [True, False])
    def test_a_run_whose_start_is_changed_is_in_it_once(
        self, store: Store, using: str, monkeypatch: pytest.MonkeyPatch, earlier: bool
    ) -> None:
        monkeypatch.setattr(export, "PAGE", 2)
        session = store.save_session(make_session(id="s"))
        for number in range(5):
            started = NOON + timedelta(minutes=number)
            store.save_run(make_run(session, id=f"r{number}", started_at=started))
        found = read_contents("s", using).runs()
        seen = [next(found).id, next(found).id]
        moved, minutes = ("r4", -9) if earlier else ("r0", 9)
        run = store.get_run(moved)
        run.started_at = NOON + timedelta(minutes=minutes)
        store.save_run(run)
        seen += [run.id for run in found]
        assert sorted(seen) == [f"r{number}" for number in range(5)]

    def test_a_session_that_is_deleted_meanwhile_is_an_error(
        self, store: Store, using: str
    ) -> None:
        session = store.save_session(make_session(id="s"))
        store.append_events([make_event(session) for _ in range(100)])
        lines = read_contents("s", using).event_lines()
        next(lines)
        store.delete_session("s")
        with pytest.raises(SessionNotFound, match="s was deleted while it was read"):
            list(lines)

    def test_every_run_that_an_event_names_is_there(self, store: Store, using: str) -> None:
        store.save_session(make_session(id="s"))
        done = threading.Event()

        def write() -> None:
            for number in range(60):
                run = store.save_run(make_run("s", started_at=NOON - timedelta(hours=number)))
                store.append_events([make_event("s", run_id=run.id) for _ in range(3)])
            done.set()

        def read() -> int:
            times = 0
            while not done.is_set():
                _check(export_session("s", using=using))
                times += 1
            return times

        def write_and_end() -> int:
            try:
                write()
            finally:
                done.set()
            return 1

        written, times = run_threads([write_and_end, read])
        assert (written, times > 0) == (1, True)
        exported = export_session("s", using=using)
        _check(exported)
        assert (len(exported["runs"]), len(exported["events"])) == (60, 180)


def _check(exported: dict[str, Any]) -> None:
    runs = {run["id"] for run in exported["runs"]}
    numbers = [event["sequence_number"] for event in exported["events"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) % 3 == 0
    assert {event["run_id"] for event in exported["events"]} <= runs


def test_within_the_callers_transaction_it_sees_what_that_sees(store: Store, using: str) -> None:
    with transaction.atomic(using=using):
        session: Session = store.save_session(make_session(id="s"))
        store.append_event(make_event(session))
        assert len(export_session("s", using=using)["events"]) == 1
