"""Sessions removed by one statement and by several: what is left, and told, is the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store import signals
from asm_store.contents import PREFIX
from asm_store.db.postgresql import PostgreSQLOperations
from asm_store.maintenance import RetentionPolicy, hard_delete_expired_sessions
from asm_store.models import Session
from asm_store.sums import SessionSum, UsageMark
from asm_store.test import make_run, make_session
from tests.artifacts.places import configured
from tests.cases import only_on, with_access
from tests.maintenance.histories import POLICY, History, clear, days_ago, left
from tests.queries import plans

EMPTY = {"asm_artifacts", "asm_session_sums"}
SERVED = [with_access(alias) for alias in ("postgresql", "postgresql_other")]


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
def test_one_statement_removes_what_several_do(
    using: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(seed)
    _add_family(history)
    together = removed(using, history)
    with monkeypatch.context() as patch:
        patch.setattr(PostgreSQLOperations, "removes_together", False)
        apart = removed(using, history)
    assert together == apart
    assert {"parent", "child"} < set(together["told"])
    assert together["left"]["Session heir"][1] is None
    assert len(together["marks"]) > 1


@only_on("postgresql")
def test_it_looks_for_nothing_in_whole_tables(using: str) -> None:
    plans.fill(using)
    ids = list(Session.objects.using(using).order_by("pk").values_list("pk", flat=True)[1:300])
    Session.objects.using(using).filter(pk__in=ids).update(deleted_at=days_ago(4_000))
    policy = RetentionPolicy(
        max_completed_session_age_days=None, hard_delete_after_days=3_000, batch_size=50_000
    )
    step = partial(hard_delete_expired_sessions, policy, using=using)
    with CaptureQueriesContext(connections[using]) as captured:
        assert step() == len(ids)
    sent = [query["sql"] for query in captured if "given" in query["sql"]]
    assert len(sent) == 2
    for sql in sent:
        assert plans.scanned(using, sql) <= EMPTY
