"""Rows and content together: what is committed is there, what is rolled back was never there."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.test import override_settings

from asm_store.artifacts import ArtifactStats, ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import (
    ArtifactNotFound,
    MigrationRequired,
    RunNotFound,
    SessionDeleted,
    SessionNotFound,
    StorageError,
    ValidationError,
)
from asm_store.models import Artifact, Run, Session
from asm_store.test import make_run, make_session
from tests.artifacts.places import contents
from tests.failures import execute, kill_connection
from tests.threads import run_threads


@pytest.fixture
def sessions(using: str) -> DatabaseSessionStore:
    return DatabaseSessionStore(using)


@pytest.fixture
def session(sessions: DatabaseSessionStore) -> Session:
    return sessions.save_session(make_session())


@pytest.fixture
def run(sessions: DatabaseSessionStore, session: Session) -> Run:
    return sessions.save_run(make_run(session))


def check(store: ArtifactStore) -> None:
    """Every row has its content, unchanged, and there is no other content."""
    rows = Artifact.objects.using(store.using).filter(deleted_at=None)
    assert contents("default") == sorted(row.storage_ref for row in rows)
    for row in rows:
        assert len(store.get(row.key)) == row.byte_size


class TestOwners:
    def test_a_session_and_a_run(self, files: ArtifactStore, session: Session, run: Run) -> None:
        alone = files.put("alone", b"1")
        of_session = files.put("s", b"22", session_id=session.id)
        of_run = files.put("r", b"333", run_id=run.id)
        of_both = files.put("b", b"4444", session_id=session.id, run_id=run.id)

        assert (alone.session_id, alone.run_id) == (None, None)
        assert (of_session.session_id, of_session.run_id) == (session.id, None)
        assert (of_run.session_id, of_run.run_id) == (session.id, run.id)
        assert files.list_by_session(session.id) == [of_session, of_run, of_both]
        assert files.session_stats(session.id) == ArtifactStats(count=3, total_bytes=9)

        files.delete("r")
        files.put("b", b"5")  # leaves the session
        assert files.list_by_session(session.id) == [of_session]
        assert files.session_stats(session.id) == ArtifactStats(1, 2)
        assert files.list_by_session("unknown") == []
        assert files.session_stats("unknown") == ArtifactStats(0, 0)

    def test_unknown_ones(
        self, files: ArtifactStore, sessions: DatabaseSessionStore, session: Session, run: Run
    ) -> None:
        other = sessions.save_session(make_session())
        source = io.BytesIO(b"content")
        refused: list[tuple[type[Exception], str, dict[str, Any]]] = [
            (SessionNotFound, "ses_none", {"session_id": "ses_none"}),
            (RunNotFound, "run_none", {"run_id": "run_none"}),
            (RunNotFound, "run_none", {"run_id": "run_none", "session_id": session.id}),
            (ValidationError, session.id, {"run_id": run.id, "session_id": other.id}),
        ]
        for kind, words, owners in refused:
            with pytest.raises(kind, match=words):
                files.put("k", source, **owners)
        assert source.tell() == 0  # nothing has travelled
        check(files)

    def test_a_soft_deleted_session(
        self, files: ArtifactStore, sessions: DatabaseSessionStore, session: Session, run: Run
    ) -> None:
        kept = files.put("k", b"kept", session_id=session.id)
        sessions.soft_delete_session(session.id)
        for owner in ({"session_id": session.id}, {"run_id": run.id}):
            with pytest.raises(SessionDeleted, match=session.id):
                files.put("k", b"new", **owner)
        assert (files.get("k"), files.list_by_session(session.id)) == (b"kept", [kept])
        sessions.restore_session(session.id)
        assert files.put("k", b"new", run_id=run.id).session_id == session.id

    def test_one_that_is_deleted_meanwhile(
        self, files: ArtifactStore, sessions: DatabaseSessionStore, session: Session
    ) -> None:
        class Deleting(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                run_threads([lambda: sessions.delete_session(session.id)])
                return super().read(size)

        with pytest.raises(SessionNotFound, match=session.id):
            files.put("k", Deleting(b"content"), session_id=session.id)
        check(files)


class TestBlocks:
    def test_a_rollback_keeps_what_there_was(self, files: ArtifactStore, using: str) -> None:
        before = files.put("k", b"before")
        with transaction.atomic(using=using):
            files.put("k", b"after")
            assert files.get("k") == b"after"
            files.put("new", b"new")
            files.delete("k")
            transaction.set_rollback(True, using=using)

        assert files.get("k") == b"before"
        with pytest.raises(ArtifactNotFound):
            files.get("new")
        # What a rollback leaves is without a row, for maintenance to find.
        assert len(contents("default")) == 3
        assert before.storage_ref in contents("default")

    def test_a_commit_removes_what_it_replaced(self, files: ArtifactStore, using: str) -> None:
        files.put("k", b"1")
        with transaction.atomic(using=using):
            files.put("k", b"2")
            with transaction.atomic(using=using):
                files.put("k", b"3")
                transaction.set_rollback(True, using=using)
            last = files.put("k", b"4")
            assert len(contents("default")) == 4

        assert files.get("k") == b"4"
        left = contents("default")
        assert last.storage_ref in left
        assert len(left) == 2  # and that of the inner block

    def test_an_error_leaves_the_block_usable(self, files: ArtifactStore, using: str) -> None:
        with transaction.atomic(using=using):
            files.put("k", b"1")
            with pytest.raises(SessionNotFound):
                files.put("k", b"2", session_id="unknown")
            with pytest.raises(ArtifactNotFound):
                files.delete("other")
        assert files.get("k") == b"1"
        check(files)

    def test_a_key_that_is_newer_than_the_blocks_snapshot(
        self, files: ArtifactStore, using: str
    ) -> None:
        if connections[using].vendor == "sqlite":
            pytest.skip("SQLite lets nobody else write from the first write on")
        files.put("other", b"")
        with transaction.atomic(using=using):
            files.stat("other")
            run_threads([lambda: files.put("k", b"theirs")])
            files.put("k", b"mine")
        assert files.get("k") == b"mine"
        check(files)


class TestSessions:
    def test_deletion_takes_the_content_along(
        self, files: ArtifactStore, sessions: DatabaseSessionStore, session: Session, using: str
    ) -> None:
        for number in range(3):
            files.put(f"k{number}", b"content", session_id=session.id)
        files.delete("k2")
        files.put("else", b"stays")
        with transaction.atomic(using=using):
            sessions.delete_session(session.id)
            transaction.set_rollback(True, using=using)
        assert files.get("k0") == b"content"

        with transaction.atomic(using=using):
            sessions.delete_session(session.id)
            assert len(contents("default")) == 3
        assert [row.key for row in Artifact.objects.using(using).all()] == ["else"]
        check(files)

    def test_deletion_sees_what_is_newer_than_the_blocks_snapshot(
        self, files: ArtifactStore, sessions: DatabaseSessionStore, session: Session, server: str
    ) -> None:
        files.put("k", b"old", session_id=session.id)
        with transaction.atomic(using=server):
            assert files.get("k") == b"old"
            run_threads([lambda: files.put("k", b"new", session_id=session.id)])
            sessions.delete_session(session.id)
        assert contents("default") == []

    def test_content_that_cannot_be_removed_is_logged(
        self,
        files: ArtifactStore,
        sessions: DatabaseSessionStore,
        session: Session,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with override_settings(STORAGES={}):
            Artifact.objects.using(files.using).bulk_create(
                [_row(key, session_id=session.id) for key in ("a", "b")]
            )
            sessions.delete_session(session.id)
        assert not Artifact.objects.using(files.using).exists()
        records = [record for record in caplog.records if record.name == "asm_store"]
        assert [record.levelname for record in records if record.exc_info] == ["ERROR"] * 2
        assert "'asm_artifacts/a' in the storage 'default' could not be removed" in caplog.text


def _row(key: str, **columns: Any) -> Artifact:
    return Artifact(
        key=key,
        byte_size=1,
        checksum_sha256="0" * 64,
        storage_backend="default",
        storage_ref=f"asm_artifacts/{key}",
        **columns,
    )


class TestRaces:
    def test_of_puts_and_deletes(self, files: ArtifactStore) -> None:
        """On one key: one wins at a time, readers see one whole content, and one stays."""
        possible = {bytes([n]) * 100_000 for n in range(4)}
        files.put("k", b"\0" * 100_000)

        def write(content: bytes) -> None:
            for _ in range(5):
                files.put("k", content)

        def read() -> None:
            for _ in range(15):
                assert files.get("k") in possible

        writing: list[Callable[[], None]] = [partial(write, content) for content in possible]
        run_threads([*writing, read, read])
        assert files.get("k") in possible
        check(files)

    def test_of_first_puts(self, files: ArtifactStore) -> None:
        stored = run_threads([lambda: files.put("k", b"new") for _ in range(4)])
        assert {artifact.id for artifact in stored} == {files.stat("k").id}
        check(files)

    def test_of_deletes(self, files: ArtifactStore) -> None:
        files.put("k", b"content")

        def delete() -> bool:
            try:
                files.delete("k")
            except ArtifactNotFound:
                return False
            return True

        assert sorted(run_threads([delete] * 4)) == [False] * 3 + [True]
        check(files)

    def test_of_puts_and_the_deletion_of_their_session(
        self, files: ArtifactStore, sessions: DatabaseSessionStore, session: Session
    ) -> None:
        keys = itertools.count()

        def put(owner: str | None) -> None:
            for _ in range(8):
                try:
                    files.put(f"k{next(keys) % 4}", b"content", session_id=owner)
                except SessionNotFound:
                    return

        delete = partial(sessions.delete_session, session.id)
        run_threads([*(partial(put, owner) for owner in (session.id, session.id, None)), delete])
        assert not Artifact.objects.using(files.using).filter(session_id=session.id).exists()
        check(files)


class TestLostAnswers:
    """The server commits, and its answer is lost."""

    def lose(self, using: str, monkeypatch: pytest.MonkeyPatch, then: Callable[[], Any]) -> None:
        connection: Any = connections[using]
        commit = connection.commit

        def losing() -> None:
            monkeypatch.undo()
            commit()
            then()
            kill_connection(using)
            execute(using, "SELECT 1")

        monkeypatch.setattr(connection, "commit", losing)

    def lost_after_content(
        self, using: str, monkeypatch: pytest.MonkeyPatch, then: Callable[[], Any]
    ) -> io.BytesIO:
        """A content after which the next commit loses its answer."""
        lose = partial(self.lose, using, monkeypatch, then)

        class Content(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if not (data := super().read(size)):
                    lose()
                return data

        return Content(b"mine")

    def test_of_a_put(
        self, files: ArtifactStore, server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files.put("k", b"before")
        files.put("k", self.lost_after_content(server, monkeypatch, lambda: None))
        assert files.get("k") == b"mine"
        check(files)

    def test_of_a_put_that_was_replaced_since(
        self, files: ArtifactStore, server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def replace() -> None:
            run_threads([lambda: files.put("k", b"theirs")])

        files.put("k", b"before")
        files.put("k", self.lost_after_content(server, monkeypatch, replace))
        assert files.get("k") == b"theirs"
        check(files)

    def test_of_a_put_that_was_deleted_since(
        self, files: ArtifactStore, server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def delete() -> None:
            run_threads([lambda: files.delete("k")])

        files.put("k", self.lost_after_content(server, monkeypatch, delete))
        with pytest.raises(ArtifactNotFound):
            files.get("k")
        check(files)

    def test_of_a_put_that_is_not_tried_again(
        self, files: ArtifactStore, server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = self.lost_after_content(server, monkeypatch, lambda: None)
        with override_settings(ASM_STORE_RETRY_SECONDS=0), pytest.raises(StorageError):
            files.put("k", content)
        assert files.get("k") == b"mine"
        check(files)

    def test_of_a_delete(
        self, files: ArtifactStore, server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files.put("k", b"content")
        self.lose(server, monkeypatch, lambda: None)
        files.delete("k")
        check(files)


def test_an_unknown_database_is_noticed_before_anything_is_written(folder: object) -> None:
    source = io.BytesIO(b"content")
    with pytest.raises(ImproperlyConfigured, match=r"'nowhere' .* DATABASES has default"):
        ArtifactStore(using="nowhere").put("k", source)
    assert (source.tell(), contents("default")) == (0, [])


def test_missing_tables(folder: object, unmigrated: str) -> None:
    store = ArtifactStore(using=unmigrated)
    uses: list[Callable[[], Any]] = [
        lambda: store.put("k", b"content"),
        lambda: store.get("k"),
        lambda: store.delete("k"),
        lambda: store.list_by_session("s"),
        lambda: store.session_stats("s"),
    ]
    for use in uses:
        with pytest.raises(MigrationRequired, match=r"run `manage\.py migrate asm_store"):
            use()
    assert contents("default") == []
