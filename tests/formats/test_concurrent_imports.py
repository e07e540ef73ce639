"""The same log imported by several at once: stored once, and nobody fails."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import export_sessions, import_paths
from asm_store.test import make_event, make_session
from tests.threads import run_threads


def test_the_own_format_by_three_at_once(using: str, tmp_path: Path) -> None:
    store = DatabaseSessionStore(using)
    session = store.save_session(make_session())
    before = store.append_events([make_event(session) for _ in range(1200)])
    log = tmp_path / "log.jsonl"
    export_sessions([session.id], using=using).save(log)
    store.delete_session(session.id)

    reports = run_threads([partial(import_paths, [log], using=using) for _ in range(3)])

    assert [file.error for report in reports for file in report.files] == [None] * 3
    assert sum(report.total.events.new for report in reports) == 1200
    after = store.get_events(session.id)
    assert [event.to_dict() for event in after] == [event.to_dict() for event in before]
