"""The same durable work by hand: one module for each vendor."""

from __future__ import annotations

from django.utils.module_loading import import_string

from ..plan import vendor_of
from .base import Baseline

_CLASSES = {
    "postgresql": "PostgreSQLBaseline",
    "sqlite": "SQLiteBaseline",
    "mysql": "MySQLBaseline",
}


def make_baseline(alias: str) -> Baseline:
    """The one for the database of `alias`; a driver is imported only when it is used."""
    vendor = vendor_of(alias)
    made: Baseline = import_string(f"{__name__}.{vendor}.{_CLASSES[vendor]}")(alias)
    return made
