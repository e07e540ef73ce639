"""All that deletes: retention, archives, erasure, and what is left behind; and whether all is well.

Importing this package needs Django to be set up.
"""

from __future__ import annotations

from .erasing import erase_events
from .execution import (
    clean_orphaned_artifacts,
    execute,
    hard_delete_expired_sessions,
    prune_session_events,
    soft_delete_expired_sessions,
)
from .health import HealthIssue, health_check
from .policy import PROTECTED_TYPES, RetentionPolicy
from .repairing import repair
from .reports import MaintenanceReport, Progress
from .summing import sum_up_usage

__all__ = [
    "PROTECTED_TYPES",
    "HealthIssue",
    "MaintenanceReport",
    "Progress",
    "RetentionPolicy",
    "clean_orphaned_artifacts",
    "erase_events",
    "execute",
    "hard_delete_expired_sessions",
    "health_check",
    "prune_session_events",
    "repair",
    "soft_delete_expired_sessions",
    "sum_up_usage",
]
