"""Sessions removed by one statement and by several: what is left, and told, is the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store import signals
from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.contents import PREFIX
from asm_store.db import get_operations
from asm_store.maintenance import RetentionPolicy, hard_delete_expired_sessions, retention
from asm_store.models import Session
from asm_store.sums import SessionSum, UsageMark
from asm_store.test import make_run, make_session
from tests.artifacts.places import configured
from tests.cases import only_on, with_access
from tests.maintenance.histories import POLICY, History, clear, days_ago, left
from tests.queries import plans

EMPTY = {"asm_artifacts", "asm_session_sums"}
SERVED = [with_access(alias) for alias in ("default", "other", "postgresql", "postgresql_other")]


@pytest.fixture(autouse=True)
def stores(tmp_path: Path) -> Iterator[None]:
    with override_settings(STORAGES=configured(tmp_path)):
        yield


def removed(using: str, history: History) -> dict[str, Any]:
    """What is left of a history, with sums and marks, and who was told of."""
    told: list[str] = []
    history.store(using)
    for session in history.sessions:
        moments = dict.fromkeys(("summed_at", "first_started_at", "last_started_at"), days_ago(1))
        SessionSum._base_manager.using(using).create(pk=session.pk, **moments)

    def hear(session_id: str, **_: Any) -> None:
        told.append(session_id)

    signals.session_deleted.connect(hear)
    try:
        count = hard_delete_expired_sessions(POLICY, using=using)
    finally:
        signals.session_deleted.disconnect(hear)
    sums = SessionSum._base_manager.using(using)
    marks = UsageMark._base_manager.using(using)
    found = {
        "count": count,
        "told": sorted(told),
        "left": left(using),
        "sums": set(sums.values_list("pk", flat=True)),
        "marks": set(marks.values_list("begin", flat=True)),
        "contents": storages["default"].exists(PREFIX) and storages["default"].listdir(PREFIX),
    }
    for rows in (sums, marks):
        rows.all().delete()
    clear(using)
    return found


def _add_family(history: History) -> None:
    """A parent, a child that is due with it, one that stays, and hours that need no mark."""
    gone = {"deleted_at": days_ago(40), "updated_at": days_ago(50)}
    new = {"created_at": days_ago(0), **gone}
    history.sessions += [
        make_session(id="parent", **new),
        make_session(id="child", parent_session_id="parent", **gone),
        make_session(id="heir", parent_session_id="parent"),
    ]
    history.runs += [
        make_run("child", id="old", started_at=days_ago(2)),
        make_run("child", id="new", started_at=days_ago(0)),
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("using", SERVED, indirect=True)
def test_it_removes_what_the_orm_does(
    using: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(seed)
    _add_family(history)
    together = removed(using, history)
    with monkeypatch.context() as patch:
        patch.setattr(type(get_operations(using)), "removes_together", False)
        apart = removed(using, history)
    assert together == apart
    assert {"parent", "child"} < set(together["told"])
    assert together["left"]["Session heir"][1] is None
    assert len(together["marks"]) > 1


@only_on("postgresql")
def test_it_looks_for_what_is_known_by_its_id(using: str) -> None:
    """Also where statistics are older than the deletions."""
    plans.fill(using)
    ids = list(Session.objects.using(using).order_by("pk").values_list("pk", flat=True)[1:300])
    Session.objects.using(using).filter(pk__in=ids).update(deleted_at=days_ago(4_000))
    policy = RetentionPolicy(
        max_completed_session_age_days=None, hard_delete_after_days=3_000, batch_size=50_000
    )
    step = partial(hard_delete_expired_sessions, policy, using=using)
    with CaptureQueriesContext(connections[using]) as captured:
        assert step() == len(ids)
    sent = [query["sql"] for query in captured if "jsonb_array_elements_text" in query["sql"]]
    assert len(sent) == 3
    for sql in sent:
        assert plans.scanned(using, sql) <= EMPTY
        assert "asm_sessions_deleted" not in plans.indexes(using, sql)


def test_page_after_page_it_passes_what_stays(using: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions whose artifacts cannot be archived, between others of the same and other moments."""
    monkeypatch.setattr(retention, "PAGE", 2)
    moments = [days_ago(40), days_ago(40).replace(microsecond=0), days_ago(39)]
    ids = [f"ses_{number:02}" for number in range(15)]
    for number, pk in enumerate(ids):
        DatabaseSessionStore(using).save_session(make_session(id=pk))
        if number % 3 == 0:
            place = ArtifactStore(using=using).put(pk, b"content", session_id=pk).storage_ref
            storages["default"].delete(place)
            storages["default"].save(place, ContentFile(b"another"))
        session = Session.objects.using(using).filter(pk=pk)
        session.update(deleted_at=moments[number // 5])
    policy = replace(POLICY, archive_before_prune=True, archive_storage="other")
    assert hard_delete_expired_sessions(policy, using=using) == 10
    stayed = set(Session.objects.using(using).values_list("pk", flat=True))
    assert stayed == set(ids[::3])
