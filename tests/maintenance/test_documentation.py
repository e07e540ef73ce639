"""The examples of docs/maintenance.md run, and what its tables say is so."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import django
import pytest
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from asm_store import default_store
from asm_store.formats import import_paths
from asm_store.maintenance import MaintenanceReport, RetentionPolicy, execute
from asm_store.maintenance.defects import all_defects
from asm_store.maintenance.health import CONTENTS
from asm_store.models import Session
from asm_store.signals import maintenance_finished
from asm_store.test import make_event, make_session
from tests.artifacts.places import MEMORY

TEXT = (Path(__file__).parents[2] / "docs" / "maintenance.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
MARKS = (
    '"archive": {', "report = execute(RetentionPolicy.from_settings(), max_seconds=3_000)\nif",
    "@receiver", "@shared_task", "CELERY_BEAT_SCHEDULE", "@task",
)  # fmt: skip


def run(mark: str, **names: Any) -> dict[str, Any]:
    """The names that the example with these words in it has made."""
    [example] = [example for example in EXAMPLES if mark in example]
    names = {"__name__": __name__, **names}
    exec(compile(example, mark, "exec"), names)
    return names


@pytest.fixture
def gone(transactional_db: None) -> Iterator[Session]:
    """A session that is due to be removed."""
    session = default_store.save_session(make_session(status="completed"))
    default_store.append_events([make_event(session) for _ in range(3)])
    deleted_at = timezone.now() - timedelta(days=40)
    Session.objects.filter(pk=session.pk).update(deleted_at=deleted_at)
    with override_settings(STORAGES={"default": {"BACKEND": MEMORY}}):
        yield session


def test_the_settings(gone: Session, tmp_path: Path) -> None:
    configured = run('"archive": {')
    storages = configured["STORAGES"]
    assert storages["archive"]["OPTIONS"] == {"location": "/srv/archive"}
    storages["archive"]["OPTIONS"] = {"location": str(tmp_path)}
    storages["default"] = {"BACKEND": MEMORY}
    retention = configured["ASM_STORE_RETENTION"]
    with override_settings(STORAGES=storages, ASM_STORE_RETENTION=retention):
        report = execute(RetentionPolicy.from_settings())
    assert (report.errors, report.sessions_hard_deleted) == ((), 1)
    [name] = report.archives
    day = f"asm_archive/default/{timezone.now():%Y/%m/%d}"
    assert re.fullmatch(rf"{day}/sessions-\w+\.jsonl\.gz", name)
    manifest = json.loads((tmp_path / name.replace(".jsonl.gz", ".manifest.json")).read_text())
    assert manifest["sequences"] == {gone.pk: [1, 3, 3]}
    for _ in range(2):  # the whole folder, with the manifests, and again
        assert import_paths([tmp_path / day], strict=True).failed == ()
        assert default_store.get_latest_sequence(gone.pk) == 3


def test_the_execution(gone: Session) -> None:
    report = run(MARKS[1])["report"]
    assert report.sessions_hard_deleted == 1


def test_the_signal(gone: Session) -> None:
    alerts: list[str] = []
    watch = run("@receiver", alert=alerts.append)["watch"]
    try:
        execute(RetentionPolicy.from_settings())
        assert alerts == []
        execute(RetentionPolicy.from_settings(), max_seconds=1e-6)
    finally:
        maintenance_finished.disconnect(watch)
    assert alerts[0].startswith("maintenance of default: MaintenanceReport(")


@pytest.fixture
def celery(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of Celery as the examples use."""
    package, schedules = ModuleType("celery"), ModuleType("celery.schedules")
    vars(package).update(shared_task=lambda **options: lambda function: function)
    vars(schedules).update(crontab=lambda **fields: fields)
    monkeypatch.setitem(sys.modules, "celery", package)
    monkeypatch.setitem(sys.modules, "celery.schedules", schedules)


@pytest.mark.usefixtures("celery")
def test_celery(gone: Session) -> None:
    run("@shared_task")["maintain"]()
    assert not Session.objects.exists()
    [entry] = run("CELERY_BEAT_SCHEDULE")["CELERY_BEAT_SCHEDULE"].values()
    assert entry["task"].endswith(".maintain")
    assert entry["schedule"] == {"hour": 3, "minute": 17}


@pytest.mark.skipif(django.VERSION < (6, 0), reason="django.tasks came with Django 6.0")
def test_tasks(gone: Session) -> None:
    result = run("@task")["maintain"].enqueue()
    assert result.return_value["sessions_hard_deleted"] == 1


def test_no_example_is_left_out() -> None:
    assert all(any(mark in example for mark in MARKS) for example in EXAMPLES)
    assert len(EXAMPLES) == len(MARKS)


def test_the_table_of_fields() -> None:
    [table] = re.findall(r"^\| field \|.*?\n\n", TEXT, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE)
    said = {name: default.replace("`", "") for name, default in rows}
    policy = RetentionPolicy()
    assert said == {
        field.name: ", ".join(value) if isinstance(value, tuple) else str(value)
        for field in fields(policy)
        for value in [getattr(policy, field.name)]
    }


def test_the_table_of_issues() -> None:
    [table] = re.findall(r"^\| code \|.*?\n\n", TEXT, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (`.*?) \|.*\| (.*?) ?\|$", table, re.MULTILINE)
    said = {code: bool(mended) for codes, mended in rows for code in re.findall(r"\w+", codes)}
    others = dict.fromkeys([*CONTENTS, "parents_in_circle", "usage_sums_differ"], False)
    assert said == {**{each.code: each.is_repairable for each in all_defects()}, **others}


@pytest.mark.usefixtures("gone")
def test_the_json() -> None:
    [text] = re.findall(r"^```json\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    told = StringIO()
    call_command("asm_maintenance", "--json", stdout=told)
    said, found = json.loads(text), json.loads(told.getvalue())
    assert said.keys() == found.keys()
    assert said["maintenance"].keys() == found["maintenance"].keys()
    assert said["maintenance"].keys() == MaintenanceReport().to_dict().keys()
