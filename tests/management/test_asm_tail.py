from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.management.commands.asm_tail import Command
from asm_store.models import Run, Session
from asm_store.providers import BaseProvider
from asm_store.session_manager import SessionManager
from asm_store.test import make_event, make_run, make_session
from tests.databases import vendor_of
from tests.failures import execute, kill_connection
from tests.management.tails import ended, shown, tail
from tests.management.terminals import SECONDS, read_until

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "following.md"
OTHERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist "
    "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}
KILL = {"postgresql": "SELECT pg_terminate_backend(%s, 10000)", "mysql": "KILL %s"}
# The first words of a text that never ends, in the middle of a line.
OPEN = {"type": "message_streamed", "data": {"content": "Once upon"}}


def run(*args: str, **options: Any) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("asm_tail", *args, **{"stdout": out, "stderr": err, **options})
    return out.getvalue(), err.getvalue()


def numbers(out: str) -> list[int]:
    return [int(number) for number in re.findall(r"^\d\d:\d\d:\d\d #(\d+) ", out, re.MULTILINE)]


def filled(using: str, **columns: Any) -> tuple[DatabaseSessionStore, Session]:
    """A session of 30 events: each third is of a run and a tool's."""
    store = DatabaseSessionStore(using)
    session = store.save_session(make_session(**{"status": "active", **columns}))
    made = store.save_run(make_run(session, id=f"run-{session.pk}"))
    for _ in range(10):
        store.append_events([make_event(session), make_event(session)])
        store.append_event(make_event(session, run_id=made.pk, type="tool_call_started"))
    return store, session


class WatchedProvider(BaseProvider):
    """Goes on when what it has said is on the screen."""

    name = "watched"

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.screen = ""

    def execute(self, run: Run, session: Session, *, transcript: Any = None) -> Iterator[Any]:
        yield self.call("tool_call_started", tool_input={"day": "today"})
        self.wait_for('sunset {"day":"today"}\n')
        yield self.call("tool_call_completed", tool_output="18:02")
        self.wait_for("sunset: 18:02\n")
        for delta in ("At six", ", two\n", "minutes past."):
            yield {"type": "message_streamed", "data": {"content": delta}}
            self.wait_for(delta.replace("\n", "↵"))
        answer = {"role": "assistant", "content": "At six."}
        yield {"type": "message_received", "data": answer}
        self.wait_for("assistant: At six.\n")

    def call(self, type: str, **data: Any) -> dict[str, Any]:
        return {"type": type, "data": {"tool_name": "sunset", "tool_call_id": "1", **data}}

    def wait_for(self, text: str) -> None:
        self.screen += shown(self.process, text)


class TestFollowing:
    def test_a_running_agent(self, using: str) -> None:
        with tail("ses-live", "--wait", "--using", using) as process:
            assert process.stderr is not None
            read_until(process.stderr.fileno(), "Waiting for the session ses-live.\n")
            provider = WatchedProvider(process)
            manager = SessionManager(DatabaseSessionStore(using), provider)
            manager.run_once("When is sunset?", session_id="ses-live")
            code, out, err = ended(process)
        lines = (provider.screen + out).splitlines()
        assert [line.split(maxsplit=2)[1:] for line in lines] == [
            ["#1", 'session_created     {"agent_id":"watched"}'],
            ["#2", "session_started"],
            ["#3", "message_sent        user: When is sunset?"],
            ["#4", "run_started"],
            ["#5", 'tool_call_started   sunset {"day":"today"}'],
            ["#6", "tool_call_completed sunset: 18:02"],
            ["#7", "message_streamed    At six, two↵minutes past."],
            ["#10", "message_received    assistant: At six."],
            ["#11", "run_completed       completed"],
            ["#12", "session_completed"],
        ]
        assert (code, err) == (0, "Session ses-live is completed.\n")

    def test_it_ends_with_a_session_that_is_deleted(self, using: str) -> None:
        store, session = filled(using)
        with tail(session.pk, "--using", using) as process:
            shown(process, "#30")
            store.delete_session(session.pk)
            code, _out, err = ended(process)
        assert (code, err) == (0, f"Session {session.pk} was deleted.\n")

    def test_it_goes_on_after_a_lost_connection(self, server: str) -> None:
        vendor = vendor_of(server)
        store, session = filled(server)
        with tail(session.pk, "--using", server) as process:
            shown(process, "#30")
            for [number] in execute(server, OTHERS[vendor]):
                execute(server, KILL[vendor], number)
            store.append_event(make_event(session))
            shown(process, "#31")
            store.soft_delete_session(session.pk)
            code, _out, err = ended(process)
        *retries, last = err.splitlines()
        assert (code, last) == (0, f"Session {session.pk} is active, soft-deleted.")
        told = f"the database '{server}' failed (connection, attempt "
        assert all(line.startswith(told) for line in retries)

    def test_a_database_that_stays_away_is_told(self, server: str) -> None:
        _store, session = filled(server)

        class Killing(StringIO):
            def write(self, text: str) -> int:
                if "#30" in text:
                    kill_connection(server)
                return super().write(text)

        out = Killing()
        told = rf"^The database '{server}' failed: .*Go on with --after 30\.$"
        with (
            override_settings(ASM_STORE_RETRY_SECONDS=0),
            pytest.raises(CommandError, match=re.compile(told, re.DOTALL)),
        ):
            run(session.pk, "--using", server, stdout=out)
        assert numbers(out.getvalue()) == list(range(21, 31))


class TestWhere:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ([], range(21, 31)),
            (["--last", "3"], range(28, 31)),
            (["--last", "0"], []),
            (["--last", "99"], range(1, 31)),
            (["--all"], range(1, 31)),
            (["--after", "28"], [29, 30]),
            (["--after", "30"], []),
            (["--after", "-1", "--run", "run-it"], range(3, 31, 3)),
            (["--last", "2", "--type", "tool_call_started"], [27, 30]),
            (["--last", "2", "--type", "tool_call_started", "--type", "message_sent"], [29, 30]),
            (["--last", "2", "--run", "run-it"], [27, 30]),
            (["--last", "2", "--type", "run_started"], []),
        ],
    )
    @pytest.mark.django_db
    def test_begins(self, options: list[str], expected: Any) -> None:
        filled("default", id="it")
        out, err = run("it", "--no-follow", *options)
        assert numbers(out) == list(expected)
        assert err == "Session it is active.\n"

    def test_the_last_are_found_far_back(self, using: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("asm_store.management.following.FEWEST_NUMBERS", 3)
        monkeypatch.setattr("asm_store.management.following.MOST_NUMBERS", 5)
        store, session = filled(using)
        store.append_events([make_event(session) for _ in range(20)])
        args = [session.pk, "--using", using, "--no-follow", "--run", f"run-{session.pk}"]
        assert numbers(run(*args, "--last", "3")[0]) == [24, 27, 30]
        assert numbers(run(*args, "--last", "30")[0]) == list(range(3, 31, 3))

    def test_the_newest_that_is_going_on(self, using: str) -> None:
        filled(using, id="old", status="completed")
        args = ["--using", using, "--no-follow", "--last", "1"]
        _out, err = run(*args)
        assert err.splitlines()[0] == "Session old of assistant, completed: the newest."
        filled(using, id="going-on", status="paused")
        filled(using, id="new", status="completed")
        _out, err = run(*args)
        newest = "Session going-on of assistant, paused: the newest that is going on."
        assert err.splitlines() == [newest, "Session going-on is paused."]
        assert run(*args, "--verbosity", "0")[1] == ""

    @pytest.mark.django_db
    def test_names_that_would_drive_a_terminal(self) -> None:
        filled("default", id="\x1b[2J", agent_id="\x9b\u202e\r")
        _out, err = run("--no-follow")
        assert err.startswith(r"Session \x1b[2J of \x9b\u202e\r, active: the newest")
        assert err.endswith("Session \\x1b[2J is active.\n")
        with pytest.raises(CommandError, match=r"of the session \\x1b\[2J is 30\.$"):
            run("--after", "99")

    @pytest.mark.django_db
    def test_the_session_of_a_run(self) -> None:
        filled("default", id="old")
        filled("default", id="new")
        assert run("--run", "run-old", "--no-follow")[1] == "Session old is active.\n"

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["nobody"], "session nobody is not stored."),
            (["\x1b[2J"], r"session \x1b[2J is not stored."),
            (["it", "--after", "31"], "There is no event 31 to go on after: the latest of"),
            (["it", "--run", "run-other"], "The run run-other is of another session."),
            (["it", "--run", "nothing"], "run nothing is not stored."),
            (["it", "--type", "song_sung"], "song_sung"),
            (["it", "--using", "nowhere"], "There is no database 'nowhere'; DATABASES has"),
            (["it", "--idle-timeout", "-1"], "idle_timeout: expected 0 to"),
            (["it", "--last", "-1"], "'-1' is no whole number >= 0."),
            (["it", "--last", "x"], "'x' is no whole number >= 0."),
            (["it", "--last", "1", "--all"], "not allowed with argument"),
            (["it", "--json", "--full"], "not allowed with argument"),
            (["it", "--no-follow", "--idle-timeout", "1"], "not allowed with argument"),
            (["--wait"], "--wait needs SESSION"),
        ],
    )
    @pytest.mark.django_db
    def test_what_is_wrong_is_told(self, args: list[str], message: str) -> None:
        filled("default", id="it")
        filled("default", id="other")
        out = StringIO()
        with pytest.raises(CommandError, match=re.escape(message)):
            run(*args, stdout=out)
        assert out.getvalue() == ""

    @pytest.mark.django_db
    def test_nothing_is_stored(self) -> None:
        with pytest.raises(CommandError, match=r"^There is no session yet\.$"):
            run()

    @pytest.mark.usefixtures("unmigrated")
    def test_tables_are_missing(self) -> None:
        with pytest.raises(CommandError, match="migrate asm_store --database unmigrated"):
            run("--using", "unmigrated")


class TestEnding:
    def test_nothing_new_for_so_long(self, using: str) -> None:
        _store, session = filled(using)
        out, err = run(session.pk, "--using", using, "--idle-timeout", "0.05")
        assert numbers(out) == list(range(21, 31))
        assert err == f"Session {session.pk} is active.\n"

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("form", [[], ["--json"]])
    @pytest.mark.django_db(transaction=True)
    def test_a_signal(self, number: signal.Signals, form: list[str]) -> None:
        store, session = filled("default")
        store.append_event(make_event(session, **OPEN))
        with tail(session.pk, *form) as process:
            out = shown(process, "Once upon")
            process.send_signal(number)
            code, rest, err = ended(process)
        assert (code, err) == (128 + number, "")
        assert (out + rest).endswith("\n")

    @pytest.mark.django_db(transaction=True)
    def test_a_signal_that_the_parent_ignores_is_ignored(self) -> None:
        store, session = filled("default")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with tail(session.pk) as process:
            shown(process, "#30")
            process.send_signal(signal.SIGINT)
            store.append_event(make_event(session))
            shown(process, "#31")
            store.update_session(session.pk, status="completed")
            assert ended(process)[0] == 0

    @pytest.mark.django_db(transaction=True)
    def test_a_reader_that_goes_away_while_nothing_comes(self) -> None:
        _store, session = filled("default")
        with tail(session.pk) as process:
            shown(process, "#30")
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.wait(SECONDS) == 141
            assert process.stderr.read() == b""

    @pytest.mark.django_db(transaction=True)
    def test_a_reader_that_goes_away_while_much_comes(self) -> None:
        store, session = filled("default", status="completed")
        store.append_events([make_event(session, data={"x": "y" * 9_000}) for _ in range(100)])
        with tail(session.pk, "--all", "--json") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read(5) == b'{"id"'
            process.stdout.close()
            assert process.wait(SECONDS) == 141
            assert process.stderr.read() == b""

    @pytest.mark.django_db(transaction=True)
    def test_a_disk_that_is_full_is_told(self) -> None:
        _store, session = filled("default")
        with Path("/dev/full").open("wb") as full, tail(session.pk, stdout=full) as process:
            code, _out, err = ended(process)
        told = "CommandError: Standard output cannot be written: No space left on device\n"
        assert (code, err) == (1, told)


def test_the_options_are_documented() -> None:
    parser = Command().create_parser("manage.py", "asm_tail")
    common = {"-h", "--version", "--settings", "--pythonpath", "--traceback", "--no-color"}
    common |= {"--help", "-v", "--force-color", "--skip-checks"}
    options = {name for action in parser._actions for name in action.option_strings}
    text = DOCUMENTATION.read_text("utf-8")
    assert {name for name in options - common if f"`{name}" not in text} == set()
