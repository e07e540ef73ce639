"""Reads across sessions. Each function has an async twin with the prefix `a`."""

from .search import (
    EventPage,
    RunPage,
    SessionPage,
    acount_events,
    asearch_events,
    asearch_runs,
    asearch_sessions,
    count_events,
    search_events,
    search_runs,
    search_sessions,
)
from .summaries import (
    SessionStats,
    UsageSummary,
    aget_session_stats,
    aget_usage_summary,
    get_session_stats,
    get_usage_summary,
)

__all__ = [
    "EventPage",
    "RunPage",
    "SessionPage",
    "SessionStats",
    "UsageSummary",
    "acount_events",
    "aget_session_stats",
    "aget_usage_summary",
    "asearch_events",
    "asearch_runs",
    "asearch_sessions",
    "count_events",
    "get_session_stats",
    "get_usage_summary",
    "search_events",
    "search_runs",
    "search_sessions",
]
