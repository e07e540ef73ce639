"""Logs of agents, read into the store: foreign formats and the package's own JSON lines.

Importing this package needs Django to be set up.
"""

from __future__ import annotations

from .detecting import FORMATS
from .importing import import_paths
from .jsonl import dump_sessions
from .reports import FileReport, ImportReport, RecordCounts, Skipped, Tokens

__all__ = [
    "FORMATS",
    "FileReport",
    "ImportReport",
    "RecordCounts",
    "Skipped",
    "Tokens",
    "dump_sessions",
    "import_paths",
]
