"""Reads across sessions. Each function has an async twin with the prefix `a`."""

from .costs import (
    CostEntry,
    CostSummary,
    aget_cost_entries,
    aget_cost_summary,
    get_cost_entries,
    get_cost_summary,
)
from .export import aexport_session, export_session
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
from .totals import Totals, aget_totals, get_totals

__all__ = [
    "CostEntry",
    "CostSummary",
    "EventPage",
    "RunPage",
    "SessionPage",
    "SessionStats",
    "Totals",
    "UsageSummary",
    "acount_events",
    "aexport_session",
    "aget_cost_entries",
    "aget_cost_summary",
    "aget_session_stats",
    "aget_totals",
    "aget_usage_summary",
    "asearch_events",
    "asearch_runs",
    "asearch_sessions",
    "count_events",
    "export_session",
    "get_cost_entries",
    "get_cost_summary",
    "get_session_stats",
    "get_totals",
    "get_usage_summary",
    "search_events",
    "search_runs",
    "search_sessions",
]
