"""Every defect that a health check looks for, made by raw writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Artifact, Event, Run, Session, SessionSequence
from asm_store.test import make_event, make_run, make_session
from tests.artifacts.places import change
from tests.records import MOMENT


def healthy(using: str) -> None:
    """A database with everything in it that may be: sessions `root`, `child`, `grandchild`..."""
    store = DatabaseSessionStore(using=using)
    parent = None
    for pk in ("root", "child", "grandchild", "ended", "deleted"):
        session = store.save_session(make_session(id=pk, parent_session_id=parent, tags=["t"]))
        run = store.save_run(make_run(session, id=f"run_{pk}", status="running"))
        run_ids = (run.pk, None, run.pk, None)
        events = [make_event(pk, id=f"{pk}_{n}", run_id=id) for n, id in enumerate(run_ids, 1)]
        store.append_events(events)
        ArtifactStore(using=using).put(f"of {pk}", pk, session_id=pk, run_id=run.pk)
        parent = pk
    ArtifactStore(using=using).put("of nobody", b"")
    ArtifactStore(using=using).put("gone", b"gone", session_id="root")
    ArtifactStore(using=using).delete("gone")
    store.save_session(make_session(id="empty"))
    # Pruned, so that its counter is ahead; and a run that nobody can end any more.
    rows(using, Event).filter(pk__in=["child_1", "child_4"]).delete()
    store.save_run(store.get_run("run_ended").update_status("timeout"))
    store.update_session("ended", status="failed")
    store.update_session("deleted", status="completed")
    store.soft_delete_session("deleted")


def rows(using: str, kind: Any) -> Any:
    return kind._base_manager.using(using)


def snapshot(using: str) -> dict[str, Any]:
    """All that is stored."""
    kinds = (Session, Run, Event, Artifact)
    found = {
        f"{kind.__name__} {row.pk}": row.to_dict() for kind in kinds for row in rows(using, kind)
    }
    counters = rows(using, SessionSequence).values_list("pk", "last_sequence", "updated_at")
    return {**found, "counters": sorted(counters)}


@dataclass(frozen=True, slots=True)
class Damage:
    """`make(using)` makes it; then the issue has these examples, and `more` beyond them."""

    code: str
    make: Callable[[str], object]
    examples: tuple[str, ...]
    more: int = 0
    is_repairable: bool = False

    @property
    def count(self) -> int:
        return len(self.examples) + self.more

    def __str__(self) -> str:
        return self.code


def _add_events(using: str, session_id: str, *numbers: int) -> list[Event]:
    new = [make_event(session_id, id=f"x_{n}", sequence_number=n) for n in numbers]
    added: list[Event] = rows(using, Event).bulk_create(new)
    return added


def _leave_counter(using: str) -> None:
    rows(using, SessionSequence).create(session_id="removed", last_sequence=9)


def _leave_events(using: str) -> None:
    _leave_counter(using)
    _add_events(using, "removed", 1, 2, 3, 4, 5, 6, 7)


def _leave_run(using: str) -> None:
    _leave_counter(using)
    rows(using, Run).bulk_create([make_run("removed", id="run_x")])


def _leave_artifacts(using: str) -> None:
    for number in "12":
        ArtifactStore(using=using).put(f"left {number}", b"left")
        left = rows(using, Artifact).filter(key=f"left {number}")
        left.update(id=f"art_{number}", session_id="removed")


def _change(kind: Any, *ids: str, **columns: Any) -> Callable[[str], object]:
    return lambda using: rows(using, kind).filter(pk__in=ids).update(**columns)


def _take_away(kind: Any, *ids: str) -> Callable[[str], object]:
    return lambda using: rows(using, kind).filter(pk__in=ids)._raw_delete(using)


def _end_session(using: str) -> None:
    sessions = rows(using, Session).filter(pk__in=["root", "child", "grandchild"])
    sessions.update(status="cancelled")
    rows(using, Run).filter(pk="run_child").update(status="pending")


def _circle(using: str) -> None:
    """A circle of two, one below it, and one that is its own parent."""
    sessions = [make_session(id=pk, created_at=MOMENT) for pk in ("c1", "c2", "c3", "own", "up")]
    parents = ("c2", "c1", "c2", "own", "root")
    for session, parent in zip(sessions, parents, strict=True):
        session.parent_session_id = parent
    rows(using, Session).bulk_create(sessions)
    counters = [SessionSequence(session_id=session.pk) for session in sessions]
    rows(using, SessionSequence).bulk_create(counters)


def _artifact(using: str, key: str) -> Artifact:
    found: Artifact = rows(using, Artifact).get(key=key)
    return found


def _rename(using: str, key: str, pk: str) -> Any:
    rows(using, Artifact).filter(key=key).update(id=pk)
    return rows(using, Artifact).filter(pk=pk)


def _remove_content(using: str) -> None:
    _rename(using, "of root", "art_1")
    change(_artifact(using, "of root"), None)


def _change_content(using: str) -> None:
    for number, (key, content) in enumerate(
        {"of root": b"Root", "of child": b"children", "of nobody": b"x"}.items()
    ):
        _rename(using, key, f"art_{number}")
        change(_artifact(using, key), content)


def _forget_storage(using: str) -> None:
    _rename(using, "of root", "art_1").update(storage_backend="forgotten")


def _leave_storage(using: str) -> None:
    _rename(using, "of root", "art_1").update(storage_ref="../../elsewhere")


DAMAGES = [
    Damage("counters_without_session", _leave_counter, ("removed",), is_repairable=True),
    Damage(
        "events_without_session",
        _leave_events,
        ("x_1", "x_2", "x_3", "x_4", "x_5"),
        more=2,
        is_repairable=True,
    ),
    Damage("runs_without_session", _leave_run, ("run_x",), is_repairable=True),
    Damage("artifacts_without_session", _leave_artifacts, ("art_1", "art_2"), is_repairable=True),
    Damage(
        "counters_missing",
        _take_away(SessionSequence, "root", "child", "empty"),
        ("child", "empty", "root"),
        is_repairable=True,
    ),
    Damage(
        "counters_behind",
        lambda using: (
            _change(SessionSequence, "root", "child", last_sequence=2)(using),
            _change(SessionSequence, "empty", last_sequence=-1)(using),
        ),
        ("child", "empty", "root"),
        is_repairable=True,
    ),
    Damage(
        "parents_missing",
        _change(Session, "child", "empty", parent_session_id="removed"),
        ("child", "empty"),
        is_repairable=True,
    ),
    Damage(
        "events_of_unknown_sessions",
        lambda using: rows(using, Event).bulk_create(
            [make_event("who", id="evt_x", sequence_number=1)]
        ),
        ("evt_x",),
    ),
    Damage(
        "runs_of_unknown_sessions",
        lambda using: rows(using, Run).bulk_create([make_run("who", id="run_x")]),
        ("run_x",),
    ),
    Damage(
        "events_without_run",
        _change(Event, "root_1", "child_2", run_id="nowhere"),
        ("child_2", "root_1"),
    ),
    Damage(
        "events_with_foreign_run",
        _change(Event, "root_1", "root_2", run_id="run_child"),
        ("root_1", "root_2"),
    ),
    Damage(
        "artifacts_without_run",
        lambda using: _rename(using, "of root", "art_1").update(run_id="nowhere"),
        ("art_1",),
    ),
    Damage(
        "artifacts_with_foreign_run",
        lambda using: _rename(using, "of root", "art_1").update(run_id="run_child"),
        ("art_1",),
    ),
    Damage(
        "events_with_nonpositive_numbers",
        lambda using: (
            _add_events(using, "root", 0, -3),
            _change(Event, "root_1", schema_version=0)(using),
        ),
        ("root_1", "x_-3", "x_0"),
    ),
    Damage(
        "sessions_with_unknown_status",
        _change(Session, "root", "ended", status="zombie"),
        ("ended", "root"),
    ),
    Damage("runs_with_unknown_status", _change(Run, "run_root", status="Running"), ("run_root",)),
    Damage("runs_left_running", _end_session, ("run_grandchild", "run_root")),
    Damage(
        "events_with_unknown_type",
        _change(Event, "root_1", "child_2", type="deploy"),
        ("child_2", "root_1"),
    ),
    Damage("parents_in_circle", _circle, ("c1", "c2", "c3", "own")),
    Damage("artifacts_without_content", _remove_content, ("art_1",)),
    Damage("artifacts_changed", _change_content, ("art_0", "art_1", "art_2")),
    Damage("artifacts_unreadable", _leave_storage, ("art_1",)),
    Damage("artifacts_in_unknown_storage", _forget_storage, ("art_1",)),
]
