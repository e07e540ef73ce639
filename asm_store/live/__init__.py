"""A session over HTTP, as it happens: a stream of Server-Sent Events, and JSON to poll."""

from __future__ import annotations

from .views import SessionEventsView, SessionStreamView

__all__ = ["SessionEventsView", "SessionStreamView"]
