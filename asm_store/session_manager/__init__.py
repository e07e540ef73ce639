"""Runs agents: the life of sessions and runs, with everything that happens stored as it happens."""

from __future__ import annotations

from .execution import RunResult
from .manager import SessionManager

__all__ = ["RunResult", "SessionManager"]
