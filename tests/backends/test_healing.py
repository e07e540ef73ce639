"""What befalls rows that were touched past the store, or stored under other settings."""

from __future__ import annotations

import copy
import pickle

import pytest
from django.test import override_settings

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import SequenceConflict, StorageError, ValidationError
from asm_store.fields import MAX_BIGINT
from asm_store.models import Session, SessionSequence
from asm_store.test import make_event, make_run, make_session


def test_a_lost_counter_is_said_and_a_save_brings_it_back(using: str) -> None:
    store = DatabaseSessionStore(using=using)
    session = store.save_session(make_session())
    store.append_events([make_event(session), make_event(session)])
    SessionSequence.objects.using(using).all().delete()
    with pytest.raises(StorageError, match="save_session"):
        store.append_event(make_event(session))
    store.save_session(session)
    assert store.append_event_with_sequence(make_event(session)).sequence_number == 3


def test_a_session_made_by_the_orm_can_be_taken_over(using: str) -> None:
    store = DatabaseSessionStore(using=using)
    session = Session.objects.using(using).create(agent_id="assistant")
    store.save_session(session)
    assert store.append_event_with_sequence(make_event(session)).sequence_number == 1


def test_the_highest_number_is_the_last(using: str) -> None:
    store = DatabaseSessionStore(using=using)
    session = store.save_session(make_session())
    SessionSequence.objects.using(using).update(last_sequence=MAX_BIGINT - 1)
    last = store.append_event_with_sequence(make_event(session))
    assert last.sequence_number == MAX_BIGINT
    with pytest.raises(StorageError, match="no number left"):
        store.append_event(make_event(session))


def test_a_record_with_deferred_columns_is_refused(using: str) -> None:
    store = DatabaseSessionStore(using=using)
    store.save_session(make_session(metadata={"kept": True}))
    partly = Session.objects.using(using).only("id").get()
    with pytest.raises(ValidationError, match="some of its columns"):
        store.save_session(partly)


@pytest.fixture(params=["memory", "database"])
def store(request: pytest.FixtureRequest) -> BaseSessionStore:
    if request.param == "memory":
        return InMemorySessionStore()
    request.getfixturevalue("sqlite")
    return DatabaseSessionStore()


@pytest.fixture
def sqlite(transactional_db: None) -> None:
    """The default database, for what is the same on all."""


def test_a_lowered_limit_keeps_no_session_from_being_deleted(store: BaseSessionStore) -> None:
    session = store.save_session(make_session(context={"long": "x" * 2000}))
    with override_settings(ASM_STORE_MAX_EVENT_BYTES=1000):
        assert store.soft_delete_session(session.id).deleted_at is not None
        assert store.restore_session(session.id).deleted_at is None
        assert store.update_session(session.id, add_tags=["kept"]).tags == ["kept"]


def test_flush_takes_what_save_run_takes(store: BaseSessionStore) -> None:
    with override_settings(ASM_STORE_MAX_EVENT_BYTES=100):
        session = store.save_session(make_session(id="s", context={}))
        run = make_run(session, metadata={"t": "\0" + "x" * 70})
        saved = store.save_run(run)
        store.flush(session, run)
        assert store.get_run(run.id).metadata == saved.metadata


def test_a_conflict_travels_between_processes() -> None:
    conflict = SequenceConflict("seen 3", latest_sequence=5)
    for again in (pickle.loads(pickle.dumps(conflict)), copy.copy(conflict)):
        assert (str(again), again.latest_sequence) == ("seen 3", 5)


def test_include_deleted_is_true_or_false(store: BaseSessionStore) -> None:
    with pytest.raises(ValidationError, match="include_deleted"):
        store.list_sessions(include_deleted="no")  # type: ignore[arg-type]
