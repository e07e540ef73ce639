"""Reads across sessions. Each function has an async twin with the prefix `a`."""

from .costs import CostSummary, aget_cost_summary, get_cost_summary
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
    "CostSummary",
    "EventPage",
    "RunPage",
    "SessionPage",
    "SessionStats",
    "UsageSummary",
    "acount_events",
    "aget_cost_summary",
    "aget_session_stats",
    "aget_usage_summary",
    "asearch_events",
    "asearch_runs",
    "asearch_sessions",
    "count_events",
    "get_cost_summary",
    "get_session_stats",
    "get_usage_summary",
    "search_events",
    "search_runs",
    "search_sessions",
]
