"""What a health check finds, on every database: each defect, and nothing where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import (
    MigrationRequired,
    QueryError,
    SessionNotFound,
    ValidationError,
)
from asm_store.maintenance import HealthIssue, health_check
from asm_store.maintenance.health import EXAMPLES
from asm_store.models import Artifact, Event, Session, SessionSequence
from asm_store.test import make_event, make_session
from tests.artifacts.places import change
from tests.maintenance.damage import DAMAGES, Damage, healthy, rows
from tests.threads import run_threads

# Of a database that is well: 18 kinds of defects, circles, a page of artifacts, how far sums are.
STATEMENTS = 21
# MariaDB and MySQL are told not to stop in a long line of parents, and then what was before.
LIMITS = {"mysql": 3}


def checked(using: str, **options: Any) -> list[HealthIssue]:
    """Asked from another connection."""
    return run_threads([lambda: health_check(using=using, **options)])[0]


def codes(using: str, **options: Any) -> set[str]:
    return {issue.code for issue in checked(using, **options)}


def statements(using: str) -> int:
    with CaptureQueriesContext(connections[using]) as captured:
        assert health_check(using=using) == []
    return len(captured)


class TestHealthy:
    def test_a_database_with_everything_in_it(self, using: str, folder: Path) -> None:
        healthy(using)
        assert checked(using) == []
        assert checked(using, deep=True) == []
        for session in Session.objects.using(using):
            assert checked(using, session_id=session.pk, deep=True) == []

    def test_an_empty_database(self, using: str) -> None:
        assert checked(using, deep=True) == []

    def test_statements_do_not_grow_with_the_rows(self, using: str, folder: Path) -> None:
        wanted = STATEMENTS + LIMITS.get(connections[using].vendor, 0)
        assert statements(using) == wanted
        healthy(using)
        assert statements(using) == wanted

    @override_settings(ASM_STORE_EXTRA_EVENT_TYPES=["deploy"])
    def test_a_projects_own_types_are_known(self, using: str, folder: Path) -> None:
        healthy(using)
        DatabaseSessionStore(using=using).append_event(make_event("root", type="deploy"))
        assert checked(using) == []


class TestDefects:
    @pytest.mark.parametrize("damage", DAMAGES, ids=str)
    def test_each_is_found(self, using: str, folder: Path, damage: Damage) -> None:
        healthy(using)
        damage.make(using)
        found = {issue.code: issue for issue in checked(using, deep=True)}
        issue = found.pop(damage.code)
        assert issue.count == damage.count
        assert issue.examples == damage.examples
        assert issue.is_repairable == damage.is_repairable
        assert issue.message.endswith(".")
        assert "{" not in issue.message
        # Only a counter says that a session was removed.
        is_rest = damage.code in ("events_without_session", "runs_without_session")
        assert found.keys() == ({"counters_without_session"} if is_rest else set())

    def test_a_record_has_more_than_one(self, using: str, folder: Path) -> None:
        healthy(using)
        DAMAGES[1].make(using)
        Event.objects.using(using).filter(pk="x_1").update(type="deploy", schema_version=0)
        assert codes(using) == {
            "counters_without_session", "events_without_session", "events_with_unknown_type",
            "events_with_nonpositive_numbers",
        }  # fmt: skip

    def test_unknown_values_are_named(self, using: str) -> None:
        for number in range(7):
            session = make_session(id=f"s{number}", status=f"odd {6 - number}")
            rows(using, Session).bulk_create([session])
            rows(using, SessionSequence).create(session_id=session.pk)
        [issue] = checked(using)
        named = "('odd 0', 'odd 1', 'odd 2', 'odd 3', 'odd 4')"
        assert issue.message == f"Sessions with an unknown status {named}: set one that there is."
        assert issue.count == 7
        assert issue.examples == ("s0", "s1", "s2", "s3", "s4")
        assert len(issue.examples) == EXAMPLES

    def test_values_are_compared_exactly(self, using: str) -> None:
        store = DatabaseSessionStore(using=using)
        store.save_session(make_session(id="s"))
        event = store.append_event_with_sequence(make_event("s"))
        for kind in ("Message_sent", "message_sent ", "messagé_sent"):
            Event.objects.using(using).filter(pk=event.pk).update(type=kind)
            assert codes(using) == {"events_with_unknown_type"}

    def test_as_a_dict_it_is_json(self) -> None:
        issue = HealthIssue("code", "message", 2, ("a", "b"), is_repairable=True)
        assert json.loads(json.dumps(issue.to_dict())) == {
            "code": "code",
            "message": "message",
            "count": 2,
            "examples": ["a", "b"],
            "is_repairable": True,
        }


class TestParents:
    def test_a_long_line_is_no_circle(self, using: str) -> None:
        """Longer than what MariaDB and MySQL go down or up by themselves."""
        ids = [f"s{number:04}" for number in range(1_600)]
        parents = [None, *ids]
        sessions = [
            make_session(id=pk, parent_session_id=parent)
            for pk, parent in zip(ids, parents, strict=False)
        ]
        rows(using, Session).bulk_create(sessions, 500)
        counters = [SessionSequence(session_id=pk) for pk in ids]
        rows(using, SessionSequence).bulk_create(counters, 500)
        assert checked(using) == []
        assert checked(using, session_id=ids[-1]) == []
        rows(using, Session).filter(pk=ids[0]).update(parent_session_id=ids[-1])
        [issue] = checked(using)
        assert (issue.code, issue.count) == ("parents_in_circle", 1_600)
        assert codes(using, session_id=ids[700]) == {"parents_in_circle"}

    def test_below_a_parent_that_is_missing_is_no_circle(self, using: str, folder: Path) -> None:
        healthy(using)
        rows(using, Session).filter(pk="root").update(parent_session_id="removed")
        assert codes(using) == {"parents_missing"}
        assert codes(using, session_id="grandchild") == set()

    def test_limits_of_the_connection_stay(self, server: str) -> None:
        def limit() -> Any:
            with connections[server].cursor() as cursor:
                cursor.execute("SHOW SESSION VARIABLES LIKE '%%recursi%%'")
                return cursor.fetchall()

        if connections[server].vendor != "mysql":
            pytest.skip("only MariaDB and MySQL have such a limit")
        before = limit()
        health_check(using=server)
        assert limit() == before


class TestArtifacts:
    def test_without_deep_contents_are_not_read(self, using: str, folder: Path) -> None:
        healthy(using)
        change(ArtifactStore(using=using).stat("of root"), b"other")
        assert codes(using) == set()
        assert codes(using, deep=True) == {"artifacts_changed"}

    def test_a_longer_content_is_another(self, using: str, folder: Path) -> None:
        files = ArtifactStore(using=using)
        files.put("a", b"x" * 65_536)
        change(files.stat("a"), b"x" * 65_537)
        assert codes(using, deep=True) == {"artifacts_changed"}

    def test_what_is_put_or_deleted_meanwhile_is_well(
        self, using: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the row and the content, which is gone then."""
        files = ArtifactStore(using=using)
        for key in ("kept", "put", "deleted"):
            files.put(key, b"first")
        meanwhile = {
            files.stat("put").storage_ref: lambda: files.put("put", b"second"),
            files.stat("deleted").storage_ref: lambda: files.delete("deleted"),
        }
        exists = FileSystemStorage.exists

        def interrupted(storage: FileSystemStorage, name: str) -> bool:
            if name in meanwhile:
                run_threads([meanwhile.pop(name)])
            return exists(storage, name)

        monkeypatch.setattr(FileSystemStorage, "exists", interrupted)
        assert health_check(using=using, deep=True) == []
        assert meanwhile == {}

    def test_each_page_is_looked_at(
        self, using: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("asm_store.maintenance.unreadable.PAGE", 2)
        files = ArtifactStore(using=using)
        for number in range(7):
            files.put(f"{number}", b"x")
            change(files.stat(f"{number}"), None)
        ids = sorted(Artifact.objects.using(using).values_list("pk", flat=True))
        [issue] = checked(using)
        assert (issue.count, issue.examples) == (7, tuple(ids[:5]))


class TestOneSession:
    def test_only_its_own_is_looked_at(self, using: str, folder: Path) -> None:
        healthy(using)
        rows(using, SessionSequence).filter(pk__in=["root", "child"]).update(last_sequence=1)
        rows(using, Event).filter(pk="child_2").update(type="odd")
        rows(using, Session).filter(pk="ended").update(parent_session_id="ended")
        change(ArtifactStore(using=using).stat("of child"), None)
        found = {issue.code: issue for issue in checked(using, session_id="child")}
        assert found.keys() == {
            "counters_behind", "events_with_unknown_type", "artifacts_without_content",
        }  # fmt: skip
        assert found["counters_behind"].examples == ("child",)
        assert codes(using, session_id="deleted") == {"parents_in_circle"}
        assert codes(using, session_id="empty") == set()

    def test_what_is_left_of_it(self, using: str, folder: Path) -> None:
        for damage in DAMAGES[1:4]:
            damage.make(using)
            rows(using, SessionSequence).filter(pk="removed").delete()
        assert codes(using, session_id="removed") == {
            "events_of_unknown_sessions", "runs_of_unknown_sessions", "artifacts_without_session",
        }  # fmt: skip
        for kind in ("who", "Removed"):
            with pytest.raises(SessionNotFound):
                health_check(using=using, session_id=kind)


class TestBadInput:
    @pytest.mark.parametrize(
        "options", [{"session_id": ""}, {"session_id": 1}, {"deep": 1}, {"using": 3}]
    )
    def test_is_refused(self, alias: str, options: dict[str, Any]) -> None:
        with pytest.raises(ValidationError) as refused:
            health_check(**{"using": alias, **options})
        assert isinstance(refused.value, QueryError) == ("using" in options)

    def test_missing_tables(self, unmigrated: str) -> None:
        with pytest.raises(MigrationRequired):
            health_check(using=unmigrated)
