"""Who may follow a session: asked of Django's permissions, for all sessions or for this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import auth
from django.db.models import Manager
from django.http import HttpRequest

from ..exceptions import SessionNotFound, ValidationError
from . import answers

if TYPE_CHECKING:
    from ..backends.base import BaseSessionStore

VIEW = frozenset({"asm_store.view_session", "asm_store.view_event"})
VIEW_PAYLOAD = "asm_store.view_event_payload"


def may_see_payloads(user: Any, store: BaseSessionStore, session_id: str) -> bool:
    """Whether `user`, who may follow the session, gets `data` and `metadata` too.

    `Refusal` when he may not follow it, or could follow any and there is none. Asks `has_perm()`,
    not its async twin: that one leaves out a backend's own `has_perm()`, and with it what the
    backend forbids.
    """
    if not getattr(user, "is_authenticated", False):
        raise answers.Refusal(403, "not_authenticated", "Log in to follow sessions.")
    if not user.is_active:
        raise answers.forbidden()
    missing = _missing({*VIEW, VIEW_PAYLOAD}, user.has_perm)
    if not missing:
        return True
    try:
        session = store.get_session(session_id)
    except (SessionNotFound, ValidationError):
        raise (answers.forbidden() if missing & VIEW else answers.not_found()) from None
    missing = _missing(missing, lambda permission: user.has_perm(permission, session))
    if missing & VIEW:
        raise answers.forbidden()
    return VIEW_PAYLOAD not in missing


def _missing(permissions: set[str], has: Callable[[str], bool]) -> set[str]:
    return {permission for permission in permissions if not has(permission)}


def current_user(request: HttpRequest) -> Any:
    """The user of `request` as he is by now: another's, or none's, when he has logged out."""
    user, session = request.user, getattr(request, "session", None)
    if session is not None and session.get(auth.SESSION_KEY) == str(user.pk):
        now = HttpRequest()
        now.session = type(session)(session.session_key)
        return auth.get_user(now)
    # Authenticated by something else than a login, such as a token.
    users: Manager[Any] = auth.get_user_model()._default_manager
    return users.filter(pk=user.pk).first()
