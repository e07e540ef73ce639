"""Sessions with everything that is hard to bring back, and all that a database holds."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Artifact, Event, Run, Session, SessionSequence
from tests.records import artifact

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
EXTRA_TYPE = "harbour_light_lit"
NUMBERS: list[Any] = [0, -1, 2**63, -(10**300), 0.1, 1e-07, 1e15, 1e23, 5e-324, -0.0, 1.0]
TEXTS = ['é ☂ 🙂 \u2028\u2029\x1b\x7f\\"/', "a\0b\ud800c", "line\nbreak\r\ttab", "", " padded "]
ORDER = {"zz": 1, "a": 2, "é": 3, "B": {"b": [], "a": {}}}


def require_zstd() -> None:
    """Skip the test where there is no package for Zstandard."""
    name = "backports.zstd" if sys.version_info < (3, 14) else "compression.zstd"
    pytest.importorskip(name, reason="Zstandard is missing")


def hide_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package for Zstandard were missing."""
    for parent in ("backports", "compression"):
        monkeypatch.setitem(sys.modules, f"{parent}.zstd", None)


def deep(levels: int = 90) -> Any:
    value: Any = "bottom"
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return value


def fill(using: str) -> None:
    """A family whose youngest began first, hostile contents, gaps; needs `EXTRA_TYPE`."""
    store = DatabaseSessionStore(using=using)
    later = NOON + timedelta(hours=1)
    hostile = {"numbers": NUMBERS, "texts": TEXTS, "order": ORDER, "deep": deep()}
    store.save_session(Session(id="z-parent", agent_id="Ä", created_at=later, tags=["x", "é", "x"]))
    child = Session(id="child", agent_id="b", parent_session_id="z-parent", created_at=NOON)
    child.metadata, child.context, child.status = hostile, {"cwd": "/\0"}, "failed"
    store.save_session(child)
    store.save_session(Session(id="empty", agent_id="a", created_at=NOON - timedelta(days=9)))
    grandchild = Session(id="GONE", agent_id="a", parent_session_id="child")
    grandchild.created_at = NOON - timedelta(days=400)
    store.save_session(grandchild)
    _fill_runs(store, hostile)
    _fill_events(store, hostile)
    store.soft_delete_session("GONE")
    _fill_artifacts(using, hostile)


def _fill_runs(store: DatabaseSessionStore, hostile: Any) -> None:
    usage = {"input_tokens": 3, "output_tokens": 4.5, "cache_read_tokens": 10**30}
    full = Run(id="run", session_id="child", token_usage=usage, cost_usd=0.1, provider="claude")
    full.provider_metadata, full.metadata, full.turn_count = hostile, {"k": None}, 7
    store.save_run(full.set_output(hostile))
    store.save_run(Run(id="r0", session_id="child", started_at=NOON, error="only a text"))
    store.save_run(Run(id="R0", session_id="child", started_at=NOON, input=[1, None], output=False))
    store.save_run(Run(id="open", session_id="z-parent", status="running"))
    store.save_run(Run(id="of the deleted", session_id="GONE", status="cancelled"))


def _fill_events(store: DatabaseSessionStore, hostile: Any) -> None:
    names = {"session_id": "child", "run_id": "run"}
    store.append_events(
        [
            Event(id="e1", type="message_sent", timestamp=NOON, **names),
            Event(id="e2", type="message_received", data=hostile, metadata={"k": "\0"}, **names),
            Event(id="e3", type=EXTRA_TYPE, session_id="child", schema_version=9, provider=""),
            Event(
                id="e4", type="message_sent", session_id="child", correlation_id="c", provider=""
            ),
            Event(id="e5", type="run_completed", timestamp=NOON - timedelta(days=1), **names),
            Event(id="p1", type="message_sent", session_id="z-parent", run_id="open"),
            Event(id="g1", type="run_started", session_id="GONE", run_id="of the deleted"),
        ]
    )
    # As pruning leaves it: a gap inside, and one at the end.
    Event.objects.using(store.using).filter(id__in=["e1", "e5", "p1"]).delete()


def _fill_artifacts(using: str, hostile: Any) -> None:
    rows = [
        artifact(id="art_2", key="2", session_id="child", run_id="run", created_at=NOON),
        artifact(id="art_1", key="1\0", session_id="child", content_type="text/plain"),
        artifact(id="ART_1", key="é", session_id="GONE", deleted_at=NOON, metadata=hostile),
        artifact(id="art_3", key="nobody's", created_at=NOON),
    ]
    Artifact._base_manager.using(using).bulk_create([row.prepared() for row in rows])


def held(using: str) -> dict[str, Any]:
    """Every column of every record in the database, and the latest numbers of the sessions."""
    counters = SessionSequence.objects.using(using).order_by("session_id")
    return {
        **{
            kind.__name__: [row.to_dict() for row in kind._base_manager.using(using).order_by("id")]
            for kind in (Session, Run, Event, Artifact)
        },
        "counters": dict(counters.values_list("session_id", "last_sequence")),
    }


def empty(using: str) -> None:
    """Delete all rows."""
    for kind in (Artifact, Event, Run, Session, SessionSequence):
        kind._base_manager.using(using).all().delete()
