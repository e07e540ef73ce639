"""Logs of agents, read into the store and written from it.

Importing this package needs Django to be set up.
"""

from __future__ import annotations

from .detecting import FORMATS
from .exporting import EXPORT_FORMATS, Export, ExportReport, export_sessions
from .importing import import_paths
from .reports import FileReport, ImportReport, RecordCounts, Skipped, Tokens

__all__ = [
    "EXPORT_FORMATS",
    "FORMATS",
    "Export",
    "ExportReport",
    "FileReport",
    "ImportReport",
    "RecordCounts",
    "Skipped",
    "Tokens",
    "export_sessions",
    "import_paths",
]
