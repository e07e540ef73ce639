"""The same policy on the same data, on every database that is there: the same result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from asm_store.maintenance import execute
from tests.artifacts.places import configured
from tests.cases import EMPTIED_APPS
from tests.databases import ALIASES
from tests.maintenance.histories import POLICY, History, counters, left, orphans, rows

# Where there is no archive, the archive's names and the time that it took do not matter.
TIMES = ("duration_ms", "archives")


def told(using: str, *, dry_run: bool = False) -> dict[str, Any]:
    report = execute(POLICY, using=using, dry_run=dry_run).to_dict()
    return {name: value for name, value in report.items() if name not in TIMES}


@pytest.mark.django_db(
    transaction=True,
    databases=[alias for alias in ALIASES if alias in settings.DATABASES],
    available_apps=EMPTIED_APPS,
)
@pytest.mark.parametrize("seed", range(3))
def test_reports_and_rows_are_the_same(seed: int, tmp_path: Path) -> None:
    found = {}
    with override_settings(STORAGES=configured(tmp_path)):
        for alias in settings.DATABASES:
            history = History(seed)
            history.store(alias)
            before = counters(alias), rows(alias)
            pretended = told(alias, dry_run=True)
            assert (counters(alias), rows(alias)) == before
            report = told(alias)
            assert {**pretended, "dry_run": False} == report
            assert orphans(alias) == {}
            found[alias] = report, left(alias)
    [(report, _), *others] = found.values()
    assert others == [found["default"]] * len(others)
    # Each step had something to do.
    assert report["errors"] == []
    assert all(count for count in report.values() if type(count) is int)
