"""A person's right to be forgotten: the content of events goes, what was used stays."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import (
    EventConflict,
    QueryError,
    SessionNotFound,
    StoreError,
    ValidationError,
)
from asm_store.maintenance import erase_events, health_check
from asm_store.maintenance.archive import fingerprints
from asm_store.maintenance.erasing import PIECE
from asm_store.models import Event, Session
from asm_store.test import make_event, make_run, make_session
from tests.records import MOMENT, NESTED
from tests.threads import run_threads

USAGE = {
    "input_tokens": 7,
    "output_tokens": 1.5,
    "total_tokens": 0,
    "cache_read_tokens": 2**70,
    "cache_creation_tokens": 1,
}


def fill(using: str) -> DatabaseSessionStore:
    """A session with two events, and one beside it."""
    store = DatabaseSessionStore(using=using)
    for pk in ("s", "other"):
        session = store.save_session(make_session(id=pk, updated_at=MOMENT, created_at=MOMENT))
        run = store.save_run(make_run(session, id=f"run_{pk}", output={"said": "Jane"}))
        columns = {
            "run_id": run.pk,
            "timestamp": MOMENT,
            "provider": "scripted",
            "correlation_id": "call",
            "schema_version": 2,
            "metadata": {"original": NESTED},
        }
        store.append_events(
            [
                make_event(session, id=f"{pk}_1", data={"content": "Jane", **NESTED}, **columns),
                make_event(session, id=f"{pk}_2", data={"model": "Jane", **USAGE}, **columns),
                make_event(session, id=f"{pk}_3"),
            ]
        )
    return store


def events(using: str, session_id: str = "s") -> list[dict[str, Any]]:
    """Read by another connection."""
    store = DatabaseSessionStore(using=using)
    return [event.to_dict() for event in run_threads([lambda: store.get_events(session_id)])[0]]


class TestEraseEvents:
    def test_what_goes_and_what_stays(self, using: str) -> None:
        fill(using)
        before, others = events(using), events(using, "other")
        started = timezone.now()
        assert erase_events("s", ids=["s_1", "s_2"], using=using) == 2
        first, second, third = events(using)
        session = DatabaseSessionStore(using=using).get_session("s")
        assert first["data"] == {"erased": True}
        assert second["data"] == {"erased": True, **USAGE}
        for event, was in zip((first, second), before, strict=False):
            assert list(event["metadata"]) == ["_erased"]
            moment = datetime.fromisoformat(event["metadata"]["_erased"])
            assert moment == session.updated_at
            assert moment.tzinfo == UTC
            content = ("data", "metadata")
            assert {k: v for k, v in event.items() if k not in content} == {
                k: v for k, v in was.items() if k not in content
            }
        assert third == before[2]
        assert events(using, "other") == others
        assert started <= session.updated_at <= timezone.now()
        assert session.created_at == MOMENT
        assert health_check(using=using) == []

    def test_numbers_go_on(self, using: str) -> None:
        store = fill(using)
        erase_events("s", ids=["s_3"], using=using)
        assert store.append_event_with_sequence(make_event("s")).sequence_number == 4

    def test_what_is_stored_again_is_not_the_old_one(self, using: str) -> None:
        """An append is idempotent by id: a retry does not bring the content back."""
        store = fill(using)
        erase_events("s", ids=["s_3"], using=using)
        [again] = store.append_events([make_event("s", id="s_3")])
        assert again.data == {"erased": True}

    def test_again_it_changes_nothing(self, using: str) -> None:
        fill(using)
        erase_events("s", ids=["s_1", "s_2"], using=using)
        before = events(using)
        updated_at = Session.objects.using(using).get(pk="s").updated_at
        assert erase_events("s", ids=["s_2", "s_1", "s_1"], using=using) == 0
        assert events(using) == before
        assert Session.objects.using(using).get(pk="s").updated_at == updated_at
        assert erase_events("s", ids=["s_2", "s_3"], using=using) == 1

    @pytest.mark.parametrize(
        ("data", "metadata"),
        [
            ({"erased": True, "content": "Jane"}, {"_erased": "2026-01-01T00:00:00+00:00"}),
            ({"erased": True}, {"_erased": "Jane"}),
            ({"erased": True}, {"_erased": 1}),
            ({"erased": True}, {"_erased": "2026-01-01T00:00:00+00:00", "name": "Jane"}),
            ({"erased": True}, {}),
            ({"erased": True, "input_tokens": "Jane"}, {"_erased": "2026-01-01T00:00:00+00:00"}),
            ({"erased": True, "input_tokens": True}, {"_erased": "2026-01-01T00:00:00+00:00"}),
        ],
    )
    def test_who_only_says_so_is_not_erased(
        self, using: str, data: dict[str, Any], metadata: dict[str, Any]
    ) -> None:
        store = fill(using)
        store.append_event(make_event("s", id="s_4", data=data, metadata=metadata))
        assert erase_events("s", ids=["s_4"], using=using) == 1
        assert events(using)[3]["data"] == {"erased": True}
        assert "Jane" not in str(events(using)[3])

    @pytest.mark.parametrize("content", [[1, "Jane"], "Jane"])
    def test_what_is_no_mapping_goes_too(self, using: str, content: Any) -> None:
        """Somebody else wrote it."""
        fill(using)
        stored = Event.objects.using(using).filter(pk="s_3")
        stored.update(metadata=content, data=content)
        assert erase_events("s", ids=["s_3"], using=using) == 1
        assert events(using)[2]["data"] == {"erased": True}

    def test_a_soft_deleted_session(self, using: str) -> None:
        store = fill(using)
        deleted_at = store.soft_delete_session("s").deleted_at
        assert erase_events("s", ids=["s_1"], using=using) == 1
        assert store.get_session("s").deleted_at == deleted_at

    def test_many_at_once(self, using: str) -> None:
        store = fill(using)
        ids = [f"m_{number}" for number in range(2 * PIECE + 1)]
        store.append_events(
            [make_event("s", id=pk, data={"input_tokens": n % 3}) for n, pk in enumerate(ids)]
        )
        assert erase_events("s", ids=(pk for pk in ids), using=using) == len(ids)
        counts = [event["data"] for event in events(using)[3:]]
        assert counts == [{"erased": True, "input_tokens": n % 3} for n in range(len(ids))]

    def test_nothing(self, using: str) -> None:
        fill(using)
        before = DatabaseSessionStore(using=using).get_session("s").updated_at
        assert erase_events("s", ids=[], using=using) == 0
        assert erase_events("s", ids=iter(()), using=using) == 0
        assert DatabaseSessionStore(using=using).get_session("s").updated_at == before

    def test_an_archive_from_before_is_outdated(self, using: str) -> None:
        fill(using)
        before = fingerprints(using, ["s", "other"])
        erase_events("s", ids=["s_1"], using=using)
        after = fingerprints(using, ["s", "other"])
        assert {pk for pk in after if after[pk] != before[pk]} == {"s"}


class TestAllOrNothing:
    @pytest.mark.parametrize(
        ("ids", "error"),
        [
            (["s_1", "other_1"], EventConflict),
            (["s_1", "nowhere"], ValidationError),
            (["s_1", "S_1"], ValidationError),
            (["s_1", "s_1 "], ValidationError),
        ],
    )
    def test_an_event_that_is_not_of_the_session(
        self, using: str, ids: list[str], error: type[StoreError]
    ) -> None:
        fill(using)
        before = events(using), events(using, "other")
        with pytest.raises(error, match=ids[1]):
            erase_events("s", ids=ids, using=using)
        assert (events(using), events(using, "other")) == before

    def test_in_a_later_piece(self, using: str) -> None:
        store = fill(using)
        ids = [f"m_{number:03}" for number in range(PIECE + 1)]
        store.append_events([make_event("s", id=pk) for pk in ids])
        before = events(using)
        with pytest.raises(ValidationError):
            erase_events("s", ids=[*ids, "zzz"], using=using)
        assert events(using) == before

    def test_in_the_callers_block(self, using: str) -> None:
        fill(using)
        before = events(using)
        with transaction.atomic(using=using):
            assert erase_events("s", ids=["s_1"], using=using) == 1
            transaction.set_rollback(True, using=using)
        assert events(using) == before

    def test_an_event_that_a_blocks_snapshot_does_not_hold(self, server: str) -> None:
        store = fill(server)
        with transaction.atomic(using=server):
            assert len(store.get_events("s")) == 3
            run_threads([lambda: store.append_event(make_event("s", id="s_4"))])
            assert erase_events("s", ids=["s_4"], using=server) == 1
        assert events(server)[3]["data"] == {"erased": True}

    def test_beside_appends_and_others(self, using: str) -> None:
        store = fill(using)

        def append() -> int:
            return sum(len(store.append_events([make_event("s")])) for _ in range(15))

        def erase() -> int:
            return sum(erase_events("s", ids=[pk], using=using) for pk in ("s_3", "s_1", "s_2"))

        *_, first, second = run_threads([append, append, erase, erase])
        assert first + second == 3
        found = events(using)
        assert [event["sequence_number"] for event in found] == list(range(1, 34))
        erased = [event["data"].get("erased", False) for event in found]
        assert erased == [True] * 3 + [False] * 30


class TestBadInput:
    @pytest.mark.parametrize("ids", ["s_1", b"s_1", {"s_1": 1}, None, 3, [None], [""], ["a", 1]])
    def test_ids(self, alias: str, ids: Any) -> None:
        with pytest.raises(ValidationError, match="ids"):
            erase_events("s", ids=ids, using=alias)

    @pytest.mark.parametrize("session_id", ["", None, 7])
    def test_session_id(self, alias: str, session_id: Any) -> None:
        with pytest.raises(ValidationError, match="session_id"):
            erase_events(session_id, ids=["s_1"], using=alias)

    def test_using(self) -> None:
        wrong: Any = 7
        ids: Iterable[str] = ["s_1"]
        with pytest.raises(QueryError):
            erase_events("s", ids=ids, using=wrong)

    def test_an_unknown_session(self, using: str) -> None:
        fill(using)
        with pytest.raises(SessionNotFound):
            erase_events("S", ids=["s_1"], using=using)
