"""One session removed for good because somebody says so, whatever the policy says."""

from __future__ import annotations

from functools import partial

from django.db.models import Q

from ..fields import clean_id
from ..marks import mark_sessions
from ..models import Session
from ..queries.paging import database
from .locking import lock_sessions
from .orphans import clear_session, remove
from .policy import RetentionPolicy
from .retention import tell_after_commit
from .work import TimeUpError, Work


def remove_session(session_id: str, *, using: str | None = None, max_seconds: float) -> bool | None:
    """Remove the session at once, and what it holds piece by piece, each in a short transaction.

    None when it is not stored. False when the time was up before all was removed: nobody can see
    what is left, and the next maintenance removes it.
    """
    work = Work(RetentionPolicy(), database(using), max_seconds=max_seconds)
    pk = clean_id(session_id, "session_id")
    if not work.write(partial(_remove_row, work, pk)):
        return None
    try:
        clear_session(work, pk)
    except TimeUpError:
        return False
    return True


def _remove_row(work: Work, session_id: str) -> bool:
    """Without its row nobody reads the session, or writes to it; its children stay."""
    if not lock_sessions(work.using, [session_id]):
        return False
    sessions = Session.objects.using(work.using)
    sessions.filter(parent_session_id=session_id).update(parent_session_id=None)
    mark_sessions(work.using, [session_id])
    remove(sessions.filter(Q(pk=session_id)))
    tell_after_commit(work, [session_id])
    return True
