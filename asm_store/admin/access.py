"""Who may see and do what, beyond Django's own permissions of each model."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from ..models import Record, Session


def may(request: HttpRequest, *codenames: str, record: Record | None = None) -> bool:
    """Whether the user has all of these permissions of this app.

    With a record, of its session alone is enough: a backend of the project may know of it, by
    `has_perm(permission, session)`.
    """
    user: Any = request.user
    permissions = [f"asm_store.{codename}" for codename in codenames]
    missing = [permission for permission in permissions if not user.has_perm(permission)]
    if not missing or record is None:
        return not missing
    session = _session_of(record)
    return session is not None and all(user.has_perm(permission, session) for permission in missing)


def may_see_content(request: HttpRequest, record: Record | None = None) -> bool:
    """Whether what agents, tools and people said may be shown."""
    return may(request, "view_event_payload", record=record)


def _session_of(record: Any) -> Session | None:
    if isinstance(record, Session):
        return record
    try:
        session: Session | None = record.session
    except Session.DoesNotExist:  # removed by hand
        return None
    return session
