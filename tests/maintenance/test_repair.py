"""What repair mends and what it leaves, on every database, also beside others."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import (
    MaintenanceError,
    SessionNotFound,
    StorageError,
    ValidationError,
)
from asm_store.maintenance import health_check, repair
from asm_store.models import Artifact, Event, Run, Session, SessionSequence
from asm_store.test import make_event, make_run, make_session
from tests.artifacts.places import contents
from tests.maintenance.damage import DAMAGES, healthy, rows, snapshot
from tests.threads import run_threads

ARCHIVING = {"archive_before_prune": True, "archive_storage": "other"}


def damage(using: str) -> dict[str, int]:
    """Something of each kind that can be repaired; how much."""
    healthy(using)
    leave(using, "removed", 7)
    leave(using, "removed too", 3)
    for pk in ("art_1", "art_2"):
        ArtifactStore(using=using).put(pk, b"left")
        session_id = {"art_1": "removed", "art_2": "unknown"}[pk]
        rows(using, Artifact).filter(key=pk).update(session_id=session_id)
    counters = rows(using, SessionSequence)
    counters.filter(pk__in=["root", "empty"])._raw_delete(using)
    counters.filter(pk="child").update(last_sequence=1)
    counters.filter(pk="ended").update(last_sequence=0)
    rows(using, Session).filter(pk="empty").update(parent_session_id="removed")
    return {
        "counters_without_session": 2,
        "events_without_session": 10,
        "runs_without_session": 2,
        "artifacts_without_session": 2,
        "counters_missing": 2,
        "counters_behind": 2,
        "parents_missing": 1,
    }


def leave(using: str, session_id: str, events: int) -> None:
    """What a removal that was killed leaves."""
    rows(using, SessionSequence).create(session_id=session_id, last_sequence=events)
    rows(using, Run).bulk_create([make_run(session_id)])
    numbers = range(1, events + 1)
    rows(using, Event).bulk_create([make_event(session_id, sequence_number=n) for n in numbers])


def repaired(using: str, **options: Any) -> dict[str, int]:
    """By another connection."""
    return run_threads([lambda: repair(using=using, **options)])[0]


def counter(using: str, pk: str) -> int:
    return DatabaseSessionStore(using=using).get_latest_sequence(pk)


class TestRepair:
    def test_all_that_can_be_mended_is_mended(self, using: str, folder: Path) -> None:
        wanted = damage(using)
        assert {issue.code: issue.count for issue in health_check(using=using)} == wanted
        before = snapshot(using)
        assert repaired(using) == wanted
        assert health_check(using=using, deep=True) == []
        assert [counter(using, pk) for pk in ("root", "child", "ended", "empty")] == [4, 3, 4, 0]
        after = snapshot(using)
        gone = {name for name in before if name not in after}
        of = Counter(name.split()[0] for name in gone)
        assert of == {"Event": 10, "Run": 2, "Artifact": 2}
        changed = {name for name in after if after[name] != before[name]}
        assert changed == {"Session empty", "counters"}
        assert len(contents("default")) == 6

    def test_appends_go_on_where_they_were(self, using: str, folder: Path) -> None:
        damage(using)
        store = DatabaseSessionStore(using=using)
        for pk in ("root", "child"):
            with pytest.raises(StorageError):
                store.append_event(make_event(pk))
        repair(using=using)
        numbers = [
            store.append_event_with_sequence(make_event(pk)).sequence_number
            for pk in ("root", "child", "ended", "empty")
        ]
        assert numbers == [5, 4, 5, 1]

    def test_a_second_repair_does_nothing(self, using: str, folder: Path) -> None:
        damage(using)
        repair(using=using)
        before = snapshot(using)
        assert repaired(using) == repaired(using, dry_run=True) == {}
        assert snapshot(using) == before

    def test_a_dry_run_says_what_the_real_run_does(self, using: str, folder: Path) -> None:
        damage(using)
        before = snapshot(using)
        planned = repaired(using, dry_run=True)
        assert snapshot(using) == before
        assert planned == repair(using=using)

    @pytest.mark.parametrize("session_id", ["removed", "root", "child", "empty", "ended"])
    def test_of_one_session(self, using: str, folder: Path, session_id: str) -> None:
        damage(using)
        planned = repair(using=using, session_id=session_id, dry_run=True)
        others = [repair(using=using, session_id=pk, dry_run=True) for pk in ("child", "removed")]
        assert repaired(using, session_id=session_id) == planned
        assert (
            planned
            == {
                "removed": {
                    "counters_without_session": 1,
                    "events_without_session": 7,
                    "runs_without_session": 1,
                    "artifacts_without_session": 1,
                },
                "root": {"counters_missing": 1},
                "child": {"counters_behind": 1},
                "ended": {"counters_behind": 1},
                "empty": {"counters_missing": 1, "parents_missing": 1},
            }[session_id]
        )
        for pk, other in zip(("child", "removed"), others, strict=True):
            if pk != session_id:
                assert repair(using=using, session_id=pk, dry_run=True) == other
        if session_id != "removed":
            assert health_check(using=using, session_id=session_id) == []
        else:
            with pytest.raises(SessionNotFound):
                repair(using=using, session_id=session_id)

    def test_a_counter_that_is_ahead_is_right(self, using: str, folder: Path) -> None:
        healthy(using)
        rows(using, SessionSequence).filter(pk="root").update(last_sequence=99)
        assert repaired(using) == {}
        assert counter(using, "root") == 99

    @pytest.mark.parametrize("bad", [d for d in DAMAGES if not d.is_repairable], ids=str)
    def test_what_has_no_right_answer_stays(self, using: str, folder: Path, bad: Any) -> None:
        healthy(using)
        bad.make(using)
        before, found = snapshot(using), health_check(using=using, deep=True)
        assert repaired(using) == repair(using=using, dry_run=True) == {}
        assert snapshot(using) == before
        assert health_check(using=using, deep=True) == found

    def test_a_repaired_counter_counts_as_used_now(self, using: str, folder: Path) -> None:
        """Nobody knows when it was: no session is taken for old by mistake."""
        damage(using)
        used = rows(using, SessionSequence).get(pk="child").updated_at
        repair(using=using)
        for pk in ("child", "root"):
            assert rows(using, SessionSequence).get(pk=pk).updated_at > used

    def test_many_of_a_kind_go_page_by_page(
        self, using: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("asm_store.maintenance.repairing.BATCH", 2)
        wanted = damage(using)
        for number in range(5):
            pk = f"more {number}"
            rows(using, Session).bulk_create([make_session(id=pk, parent_session_id="removed")])
            leave(using, f"left {number}", 1)
        wanted = {name: count + 5 * (name in PER_MORE) for name, count in wanted.items()}
        assert repaired(using) == wanted
        assert health_check(using=using) == []


PER_MORE = (
    "counters_without_session", "events_without_session", "runs_without_session",
    "counters_missing", "parents_missing",
)  # fmt: skip


class TestArchiving:
    def test_nothing_goes_that_should_be_archived_first(self, using: str, folder: Path) -> None:
        wanted = damage(using)
        with override_settings(ASM_STORE_RETENTION=ARCHIVING):
            assert repaired(using, dry_run=True) == wanted
            assert contents("other") == []
            assert repaired(using) == wanted
        archived = [name for name in contents("other") if name.endswith(".jsonl.gz")]
        assert len(archived) == 2  # the events of two sessions
        assert health_check(using=using) == []

    @pytest.mark.parametrize(
        ("policy", "error"),
        [
            ({**ARCHIVING, "archive_storage": "missing"}, MaintenanceError),
            ({"batch_size": 0}, ImproperlyConfigured),
        ],
    )
    def test_nothing_is_done_when_it_cannot_be(
        self, using: str, folder: Path, policy: dict[str, Any], error: type[Exception]
    ) -> None:
        damage(using)
        before = snapshot(using)
        with override_settings(ASM_STORE_RETENTION=policy), pytest.raises(error):
            repair(using=using)
        assert snapshot(using) == before


class TestBesideOthers:
    def test_appends(self, using: str) -> None:
        store = DatabaseSessionStore(using=using)
        ids = [f"s{number}" for number in range(6)]
        for pk in ids:
            store.save_session(make_session(id=pk))
            store.append_events([make_event(pk) for _ in range(5)])
        counters = rows(using, SessionSequence)
        counters.filter(pk__in=ids[:2]).update(last_sequence=1)
        counters.filter(pk__in=ids[2:4])._raw_delete(using)

        def append() -> None:
            for _ in range(8):
                for pk in ids:
                    event, is_stored = make_event(pk), False
                    while not is_stored:
                        try:
                            store.append_event(event)
                            is_stored = True
                        except StorageError:
                            pass  # until it is repaired

        def mend() -> Counter[str]:
            return sum((Counter(repair(using=using)) for _ in range(5)), Counter())

        *_, first, second = run_threads([append, append, append, mend, mend])
        assert first is not None
        assert second is not None
        assert first + second == {"counters_behind": 2, "counters_missing": 2}
        assert health_check(using=using) == []
        for pk in ids:
            numbers = Event.objects.using(using).of_session(pk)
            wanted = list(range(1, 5 + 3 * 8 + 1))
            assert list(numbers.values_list("sequence_number", flat=True)) == wanted

    def test_another_repair(self, using: str, folder: Path) -> None:
        """Two at once do the same together."""
        wanted = damage(using)
        for number in range(20):
            leave(using, f"left {number}", 2)
        wanted["counters_without_session"] += 20
        wanted["events_without_session"] += 40
        wanted["runs_without_session"] += 20
        done = run_threads([partial(repair, using=using)] * 3)
        assert sum(map(Counter, done), Counter()) == wanted
        assert health_check(using=using) == []

    def test_sessions_that_are_stored_anew(self, using: str) -> None:
        """Each is cleared before, or keeps what there is: never half of it afterwards."""
        ids = [f"s{number}" for number in range(12)]
        for pk in ids:
            leave(using, pk, 3)
        store = DatabaseSessionStore(using=using)

        def save() -> None:
            for pk in reversed(ids):
                store.save_session(make_session(id=pk))
                store.append_event(make_event(pk))

        run_threads([save, lambda: [repair(using=using)]])
        assert health_check(using=using) == []
        assert Session.objects.using(using).count() == len(ids)
        for pk in ids:
            assert Event.objects.using(using).of_session(pk).exists()

    def test_sessions_that_are_deleted_meanwhile(self, using: str) -> None:
        """No counter is made for one that is gone."""
        store = DatabaseSessionStore(using=using)
        ids = [f"s{number:02}" for number in range(20)]
        for pk in ids:
            store.save_session(make_session(id=pk))
        rows(using, SessionSequence)._raw_delete(using)

        def delete() -> None:
            for pk in reversed(ids):
                store.delete_session(pk)

        run_threads([delete, lambda: [repair(using=using)]])
        assert not rows(using, Session).exists()
        assert not rows(using, SessionSequence).exists()

    def test_a_session_that_is_gone_gets_no_counter(
        self, using: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was there when it was looked for."""
        from asm_store.maintenance import repairing

        store = DatabaseSessionStore(using=using)
        for pk in ("a", "b"):
            store.save_session(make_session(id=pk))
        rows(using, SessionSequence)._raw_delete(using)
        make = repairing._make_counters

        def late(*arguments: Any) -> int:
            run_threads([lambda: store.delete_session("a")])
            return make(*arguments)

        monkeypatch.setattr(repairing, "_make_counters", late)
        assert repair(using=using) == {"counters_missing": 1}
        assert list(rows(using, SessionSequence).values_list("pk", flat=True)) == ["b"]


class TestBadInput:
    @pytest.mark.parametrize(
        "options", [{"session_id": ""}, {"session_id": 1}, {"dry_run": None}, {"using": 3}]
    )
    def test_is_refused(self, alias: str, options: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            repair(**{"using": alias, **options})

    def test_an_unknown_session(self, using: str) -> None:
        with pytest.raises(SessionNotFound):
            repair(using=using, session_id="nobody")
