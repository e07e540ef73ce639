"""All that deletes: retention, archives, and what is left behind.

Importing this package needs Django to be set up.
"""

from __future__ import annotations

from .execution import (
    clean_orphaned_artifacts,
    execute,
    hard_delete_expired_sessions,
    prune_session_events,
    soft_delete_expired_sessions,
)
from .policy import PROTECTED_TYPES, RetentionPolicy
from .reports import MaintenanceReport, Progress

__all__ = [
    "PROTECTED_TYPES",
    "MaintenanceReport",
    "Progress",
    "RetentionPolicy",
    "clean_orphaned_artifacts",
    "execute",
    "hard_delete_expired_sessions",
    "prune_session_events",
    "soft_delete_expired_sessions",
]
