"""Logs of agents, read into the store: Claude Code transcripts and the package's own JSON lines.

Importing this package needs Django to be set up.
"""

from __future__ import annotations

from .importing import FORMATS, import_paths
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
