"""What the tests of `asm_maintenance` have to remove, and how they call it."""

from __future__ import annotations

import errno
import io
import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.utils import timezone

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session, SessionSequence
from asm_store.test import make_event, make_run, make_session
from tests.management.terminals import SECONDS
from tests.processes import start_command

NOTHING = ["--max-completed-session-age-days", "none", "--hard-delete-after-days", "none"]
TRIES = 6
QUESTION = "Type 'yes' to do this, or 'no' to cancel: "


class FullStorage(FileSystemStorage):
    def _save(self, name: str, content: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def run(*args: str, **options: Any) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(
        "asm_maintenance", *args, **{"stdout": out, "stderr": err, "no_color": True, **options}
    )
    return out.getvalue(), err.getvalue()


def add(using: str, pk: str, events: int, *, used: int, deleted: int | None = None) -> None:
    """A session that was last used, and deleted, so many days ago."""
    store, now = DatabaseSessionStore(using=using), timezone.now()
    status = "active" if pk == "fresh" else "completed"
    session = make_session(id=pk, status=status, updated_at=now - timedelta(days=used))
    store.save_session(session)
    store.append_events([make_event(session, id=f"{pk}_{n}") for n in range(events)])
    counters = SessionSequence.objects.using(using).filter(pk=pk)
    counters.update(updated_at=session.updated_at)
    if deleted is not None:
        moment = now - timedelta(days=deleted)
        Session.objects.using(using).filter(pk=pk).update(deleted_at=moment)


def fill(using: str) -> None:
    add(using, "fresh", 9, used=1)
    add(using, "expired", 2, used=100)
    for pk in ("gone_1", "gone_2", "gone_3"):
        add(using, pk, 3, used=200, deleted=40)
    started_at = timezone.now() - timedelta(hours=30)
    store = DatabaseSessionStore(using=using)
    store.save_run(make_run("fresh", id="stuck", status="running", started_at=started_at))


def stored(using: str) -> dict[str, int]:
    """How many events each session has."""
    ids = Session.objects.using(using).values_list("pk", flat=True)
    return {pk: Event.objects.using(using).of_session(pk).count() for pk in ids}


BEFORE = {"fresh": 9, "expired": 2, "gone_1": 3, "gone_2": 3, "gone_3": 3}


def in_process(args: list[str]) -> tuple[int, str, str]:
    """The command in this process: exit code, output, errors."""
    with start_command("asm_maintenance", *args) as process:
        out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out.decode(), err.decode()


@contextmanager
def at_terminal(*args: str, **streams: Any) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command with a terminal for its input and errors, and the terminal's other end."""
    ours, its = pty.openpty()
    try:
        streams = {"stdin": its, "stderr": its, **streams}
        with start_command("asm_maintenance", *args, **streams) as process:
            try:
                yield process, ours
            finally:
                process.kill()  # it has ended, unless something went wrong
    finally:
        os.close(ours)
        os.close(its)
