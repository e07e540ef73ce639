"""Where a project mounts the default store: `path("asm/", include("asm_store.urls"))`."""

from __future__ import annotations

from django.urls import re_path

from .live import SessionEventsView, SessionStreamView

app_name = "asm_store"

# An id may hold any character, slashes and line breaks too.
SESSION = r"^sessions/(?P<session_id>[\s\S]+)"

urlpatterns = [
    re_path(rf"{SESSION}/events/\Z", SessionEventsView.as_view(), name="session_events"),
    re_path(rf"{SESSION}/stream/\Z", SessionStreamView.as_view(), name="session_stream"),
]
