"""The default store as projects mount it, and each database's beside it."""

from __future__ import annotations

from django.urls import include, path

from asm_store.backends.database import DatabaseSessionStore
from asm_store.live import SessionEventsView, SessionStreamView
from tests.databases import ALIASES


class HastyStreamView(SessionStreamView):
    """Asks for the permissions again before each event."""

    permission_seconds = 0


def views(alias: str) -> list[object]:
    store = DatabaseSessionStore(alias)
    return [
        path("<path:session_id>/events/", SessionEventsView.as_view(store=store)),
        path("<path:session_id>/stream/", SessionStreamView.as_view(store=store)),
        path(
            "<path:session_id>/beating/",
            SessionStreamView.as_view(store=store, heartbeat_seconds=0.01),
        ),
        path(
            "<path:session_id>/quiet/",
            SessionStreamView.as_view(
                store=store, heartbeat_seconds=3_600, permission_seconds=3_600
            ),
        ),
        path("<path:session_id>/hasty/", HastyStreamView.as_view(store=store)),
    ]


urlpatterns = [
    path("asm/", include("asm_store.urls")),
    path("mine/<path:session_id>/events/", SessionEventsView.as_view(store="mine")),
    *(path(f"{alias}/", include(views(alias))) for alias in ALIASES),  # type: ignore[arg-type]
]
