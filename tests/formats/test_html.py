"""The HTML export needs neither an admin nor templates of the project."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import export_sessions
from asm_store.formats.readable.loading import MOST_SHOWN, PAGE
from asm_store.test import make_event, make_session

PROGRAM = """
import sys
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="of a project without templates",
    INSTALLED_APPS=["asm_store"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command
from asm_store import default_store
from asm_store.formats import export_sessions
from asm_store.test import make_session
from asm_store.models import Event

call_command("migrate", verbosity=0)
session = default_store.save_session(make_session(agent_id="clerk"))
event = Event(session_id=session.id, type="message_sent", data={"content": "1 < 2"})
default_store.append_event(event)
export = export_sessions([session.id], format="html")
sys.stdout.buffer.write(b"".join(export))
print(export.report.to_dict(), file=sys.stderr)
"""


def test_a_bare_project_exports_html(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "clerk</h1>" in done.stdout
    assert "1 &lt; 2" in done.stdout
    assert "'sessions': 1, 'runs': 0, 'events': 1" in done.stderr


@pytest.mark.django_db
def test_an_export_holds_what_is_long_too() -> None:
    store = DatabaseSessionStore("default")
    session = store.save_session(make_session())
    texts = ["short" if number % 3 else "long" * MOST_SHOWN for number in range(PAGE + 9)]
    store.append_events([make_event(session.id, data={"content": text}) for text in texts])
    export = export_sessions([session.id], format="html")
    content = b"".join(export).decode()
    shown = re.findall(r'<div class="asm-text" dir="auto">((?:long|short)+)</div>', content)
    assert shown == texts
    assert re.findall(r'<article[^>]* id="s0-e(\d+)"', content) == [
        str(number) for number in range(1, PAGE + 10)
    ]
    assert export.report.events == PAGE + 9
