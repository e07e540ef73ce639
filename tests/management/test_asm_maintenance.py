from __future__ import annotations

import errno
import io
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from asm_store import signals
from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import import_paths
from asm_store.maintenance import RetentionPolicy
from asm_store.maintenance.locking import lock_held
from asm_store.management.commands.asm_maintenance import Command
from asm_store.management.policy_options import FIELDS, policy_from
from asm_store.models import Event, Session, SessionSequence
from asm_store.test import make_event, make_run, make_session
from tests.artifacts.places import FILES, configured
from tests.management.terminals import SECONDS, Terminal, read_until
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


@pytest.fixture
def filled(using: str) -> str:
    fill(using)
    return using


@pytest.fixture
def filled_default(transactional_db: None) -> None:
    fill("default")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with override_settings(STORAGES=configured(tmp_path)):
        yield tmp_path


class TestMaintenance:
    def test_it_does_what_the_setting_says(self, filled: str) -> None:
        with override_settings(ASM_STORE_RETENTION={"max_run_age_hours": 24}):
            out, err = run("--using", filled)
            assert out.splitlines() == [
                f"Maintenance of the database {filled!r}:",
                "          1 sessions soft-deleted",
                "          3 sessions removed",
                "          1 runs timed out",
            ]
            again = run("--using", filled)[0]
        assert err == ""
        nothing = f"Maintenance of the database {filled!r}: nothing, for nothing is due.\n"
        assert again == nothing
        assert stored(filled) == {"fresh": 10, "expired": 2}

    def test_options_stand_in_the_place_of_the_setting(self, filled: str) -> None:
        with override_settings(ASM_STORE_RETENTION={"max_events_per_session": 1}):
            out, _err = run(
                "--using", filled, *NOTHING, "--max-events-per-session", "5", "--batch-size", "2"
            )
        assert out.splitlines()[1:] == ["          4 events pruned"]
        assert stored(filled) == {**BEFORE, "fresh": 5}

    def test_a_dry_run_says_what_the_real_run_does(self, filled: str) -> None:
        dry = json.loads(run("--using", filled, "--dry-run", "--json")[0])
        assert stored(filled) == BEFORE
        real = json.loads(run("--using", filled, "--json")[0])
        for told in (dry, real):
            told["maintenance"].pop("duration_ms")
        assert dry["maintenance"].pop("dry_run")
        assert not real["maintenance"].pop("dry_run")
        assert dry == real
        assert real["maintenance"]["sessions_hard_deleted"] == 3
        assert run("--using", filled, "--dry-run")[0] == (
            f"Maintenance of the database {filled!r} would do: nothing, for nothing is due.\n"
        )

    def test_one_session(self, filled: str) -> None:
        args = ["--using", filled, "--session", "fresh", "--max-events-per-session", "4"]
        assert "would do:\n          5 events pruned" in run(*args, "--dry-run")[0]
        assert stored(filled) == BEFORE
        report = json.loads(run(*args, "--json")[0])["maintenance"]
        assert report["events_pruned"] == 5
        assert stored(filled) == {**BEFORE, "fresh": 4}

    def test_what_is_archived_can_be_imported(self, filled: str, folder: Path) -> None:
        out, _err = run(
            "--using", filled, "--archive-before-prune", "--archive-storage", "other", "-v", "2"
        )
        names = re.findall(r"^ +(asm_archive/.*)$", out, re.MULTILINE)
        assert "          1 files written to the archive\n" in out
        assert sum(pk.startswith("gone") for pk in stored(filled)) == 0
        paths = [folder / "other" / name for name in names]
        assert import_paths(paths, using=filled, strict=True).failed == ()
        assert stored(filled) == BEFORE

    def test_a_second_one_says_so(self, server: str) -> None:
        fill(server)
        with lock_held(server):
            code, out, err = in_process(["--using", server])
            report = json.loads(in_process(["--using", server, "--json"])[1])
        told = f"Another maintenance of the database {server!r} is running: nothing was done.\n"
        assert (code, out, err) == (0, told, "")
        assert (report["ok"], report["maintenance"]["skipped"]) == (True, True)
        assert stored(server) == BEFORE

    def test_the_time_is_up(self, filled: str) -> None:
        out, _err = run("--using", filled, "--max-seconds", "0.000001")
        assert out.endswith(
            "The time was up before the work was done: the next run goes on from there.\n"
        )
        assert stored(filled) == BEFORE


def in_process(args: list[str]) -> tuple[int, str, str]:
    """The command in this process: exit code, output, errors."""
    with start_command("asm_maintenance", *args) as process:
        out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out.decode(), err.decode()


class TestPolicy:
    def parsed(self, *args: str) -> RetentionPolicy:
        parser = Command().create_parser("manage.py", "asm_maintenance")
        return policy_from(vars(parser.parse_args(args)))

    def test_every_field_has_an_option(self) -> None:
        assert self.parsed() == RetentionPolicy()
        policy = self.parsed(
            "--max-session-age-days=1", "--max-completed-session-age-days", "2",
            "--max-events-per-session=3", "--max-total-events=4", "--hard-delete-after-days=5",
            "--archive-before-prune", "--archive-storage=other", "--exempt-statuses=active",
            "--exempt-statuses", "failed, paused", "--exempt-tags=a,ü b", "--exempt-tags=c",
            "--prune-event-types-first=tool_call_started", "--batch-size=6",
            "--max-run-age-hours=7",
        )  # fmt: skip
        assert policy == RetentionPolicy(
            max_session_age_days=1,
            max_completed_session_age_days=2,
            max_events_per_session=3,
            max_total_events=4,
            hard_delete_after_days=5,
            archive_before_prune=True,
            archive_storage="other",
            exempt_statuses=("active", "failed", "paused"),
            exempt_tags=("a", "ü b", "c"),
            prune_event_types_first=("tool_call_started",),
            batch_size=6,
            max_run_age_hours=7,
        )
        differs = {f.name for f in fields(policy) if getattr(policy, f.name) != f.default}
        assert differs == set(FIELDS)

    def test_none_is_no_limit_and_no_name(self) -> None:
        configured = {
            "max_total_events": 9, "max_run_age_hours": 9, "archive_before_prune": True,
            "archive_storage": "other",
        }  # fmt: skip
        with override_settings(ASM_STORE_RETENTION=configured):
            policy = self.parsed(
                *NOTHING, "--max-total-events", "none", "--max-run-age-hours=None",
                "--exempt-tags=none", "--exempt-statuses=none", "--prune-event-types-first=none",
                "--no-archive-before-prune",
            )  # fmt: skip
        assert policy == RetentionPolicy(
            max_completed_session_age_days=None,
            hard_delete_after_days=None,
            archive_storage="other",
            exempt_tags=(),
            exempt_statuses=(),
            prune_event_types_first=(),
        )

    def test_from_python(self, filled_default: None) -> None:
        run(max_events_per_session=3, hard_delete_after_days=None, exempt_tags=["x"])
        assert stored("default") == {**BEFORE, "fresh": 3}

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--max-session-age-days", "0"], "max_session_age_days: must be from 1 to 36525"),
            (["--hard-delete-after-days", "-3"], "hard_delete_after_days: must be from 1"),
            (["--max-total-events", "ten"], "'ten' is neither a whole number nor none"),
            (["--max-total-events", ""], "'' is neither a whole number nor none"),
            (["--batch-size", "0"], "batch_size: must be from 1 to 50000"),
            (["--batch-size", "none"], "invalid int value: 'none'"),
            (["--exempt-statuses", "idle"], "exempt_statuses: unknown status 'idle'"),
            (["--prune-event-types-first", "x"], "unknown event type 'x'"),
            (["--prune-event-types-first", "run_failed"], "run_failed is never pruned"),
            (["--exempt-tags", ""], "'' has an empty name"),
            (["--exempt-tags", "a,,b"], "'a,,b' has an empty name"),
            (["--archive-before-prune"], "archive_storage: name the alias"),
            (["--archive-storage", "other"], "archives nothing without --archive-before-prune"),
            (
                ["--archive-before-prune", "--archive-storage", "nowhere"],
                "archive_storage: .*Could not find config for 'nowhere'.* Nothing was deleted",
            ),
            (["--using", "nowhere"], "no database 'nowhere'; DATABASES has .*default"),
            (["--using", ""], "no database ''"),
            (["--max-seconds", "0"], "max_seconds: expected seconds > 0, got 0"),
            (["--max-seconds", "nan"], "max_seconds: expected seconds > 0, got nan"),
            (["--max-seconds", "soon"], "invalid float value: 'soon'"),
            (["--session", "lost", "--max-events-per-session", "3"], "session lost is not stored"),
            (["--session", "", "--max-events-per-session", "3"], "session_id: must have 1 to 255"),
            (["--session", "fresh"], "--session prunes: say to how many"),
            (["--session", "fresh", "--max-total-events", "3"], "takes no --max-total-events"),
            (["--session", "fresh", "--max-seconds", "3"], "takes no --max-seconds"),
            (["--deep"], "--deep needs --health-check"),
            (["--erase", "e"], "--erase needs --session"),
            (["--erase", "e", "--session", "fresh", "--dry-run"], "--erase takes no --dry-run"),
            (["--erase", "e", "--session", "fresh", "--repair"], "--erase takes no --repair"),
            (["--health-check", "--dry-run"], "--health-check takes no --dry-run"),
            (
                ["--repair", "--max-seconds", "3", "--batch-size", "3"],
                "--repair takes no --max-seconds, --batch-size",
            ),
            (["--health-check", "--exempt-tags=x"], "--health-check takes no --exempt-tags"),
        ],
    )
    def test_what_is_wrong_is_told_before_anything_is_done(
        self, filled_default: None, args: list[str], message: str
    ) -> None:
        with pytest.raises(CommandError, match=message):
            run(*args)
        assert stored("default") == BEFORE

    def test_a_bad_setting(self, filled_default: None) -> None:
        with (
            override_settings(ASM_STORE_RETENTION={"max_total_events": 0}),
            pytest.raises(CommandError, match="ASM_STORE_RETENTION: max_total_events: must be"),
        ):
            run()
        assert stored("default") == BEFORE


class TestFailures:
    @pytest.mark.parametrize(
        ("storage", "message"),
        [
            (FILES, "Not a directory|File exists"),
            (f"{__name__}.FullStorage", "No space left on device"),
        ],
    )
    def test_an_archive_that_cannot_be_written(
        self, filled: str, folder: Path, storage: str, message: str
    ) -> None:
        (folder / "archive").mkdir()
        (folder / "archive" / "asm_archive").write_text("no folder")
        entry = {"BACKEND": storage, "OPTIONS": {"location": str(folder / "archive")}}
        out = io.StringIO()
        with (
            override_settings(STORAGES={**configured(folder), "archive": entry}),
            pytest.raises(CommandError) as caught,
        ):
            run(
                *("--using", filled, "--json", "--archive-before-prune"),
                *("--archive-storage", "archive"),
                stdout=out,
            )
        text = str(caught.value)
        assert text.startswith("Not all was done; the next run tries again.\nhard delete: ")
        assert re.search(message, text)
        report = json.loads(out.getvalue())
        assert report["ok"] is False
        assert report["error"] == text
        assert len(report["maintenance"]["errors"]) == 1
        assert report["maintenance"]["sessions_soft_deleted"] == 1
        assert stored(filled) == BEFORE

    def test_tables_that_are_missing(self, unmigrated: str) -> None:
        out = io.StringIO()
        with pytest.raises(CommandError, match=r"run `manage\.py migrate asm_store"):
            run("--using", unmigrated, "--session", "x", "--max-events-per-session=3")
        with pytest.raises(CommandError, match=r"run `manage\.py migrate asm_store"):
            run("--using", unmigrated, "--json", stdout=out)
        assert "run `manage.py migrate" in json.loads(out.getvalue())["error"]


class TestJson:
    def test_errors(self, filled_default: None) -> None:
        out = io.StringIO()
        with pytest.raises(CommandError):
            run("--json", "--batch-size", "0", stdout=out)
        assert json.loads(out.getvalue()) == {
            "ok": False,
            "error": "batch_size: must be from 1 to 50000.",
            "using": "default",
            "maintenance": None,
            "repaired": None,
            "issues": None,
            "erased": None,
        }

    # Django's own checks of the models ask all of them.
    @pytest.mark.django_db(databases="__all__")
    def test_system_checks_that_fail(self) -> None:
        out = io.StringIO()
        with (
            override_settings(ASM_STORE_RETENTION={"batch_size": 0}),
            pytest.raises(CommandError),
        ):
            run("--json", skip_checks=False, stdout=out)
        error = json.loads(out.getvalue())["error"]
        assert "(asm_store.E003) ASM_STORE_RETENTION: batch_size: must be from 1" in error

    @pytest.mark.django_db
    def test_what_nobody_expected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("asm_store.management.commands.asm_maintenance.execute", fail)
        out = io.StringIO()
        with pytest.raises(ZeroDivisionError):
            run("--json", stdout=out)
        assert json.loads(out.getvalue())["error"] == "ZeroDivisionError"


class TestExitCodes:
    @pytest.mark.parametrize(
        ("args", "code", "message"),
        [
            ([], 0, ""),
            (["--verbosity", "0"], 0, ""),
            (["--max-seconds", "0.000001"], 0, ""),
            (["--batch-size", "0"], 1, "CommandError: batch_size: must be from 1 to 50000.\n"),
            (["--max-total-events", "x"], 2, "'x' is neither a whole number nor none.\n"),
            (["--no-such-option"], 2, "unrecognized arguments: --no-such-option\n"),
        ],
    )
    def test_each(self, filled_default: None, args: list[str], code: int, message: str) -> None:
        found, out, err = in_process(args)
        assert (found, err.endswith(message), bool(err)) == (code, True, bool(message))
        assert bool(out) == (code == 0 and args[:1] != ["--verbosity"])


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


def output_after(process: subprocess.Popen[bytes], number: signal.Signals) -> bytes:
    """What the process writes once it is signalled."""
    for _ in range(TRIES):
        process.send_signal(number)
        try:
            return process.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            # It came just before the process waited for input: Python noticed it and waits.
            continue
    raise AssertionError(f"{TRIES} times {number.name}, and it has not ended")


class TestAsking:
    def test_the_counts_come_before_the_question(self, filled_default: None) -> None:
        with at_terminal("--no-color") as (process, terminal):
            asked = read_until(terminal, QUESTION)
            assert (
                "Maintenance of the database 'default' would do:\n"
                "          1 sessions soft-deleted\n"
                "          3 sessions removed\n"
                f"{QUESTION}"
            ) in asked
            assert stored("default") == BEFORE
            os.write(terminal, b"yes\n")
            out, _err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        assert b"Maintenance of the database 'default':\n          1 sessions" in out
        assert stored("default") == {"fresh": 9, "expired": 2}

    @pytest.mark.parametrize("answer", [b"no\n", b"y\n", b"\n", b"\x04"])
    def test_all_but_yes_is_no(self, filled_default: None, answer: bytes) -> None:
        with at_terminal("--json") as (process, terminal):
            read_until(terminal, QUESTION)
            os.write(terminal, answer)
            out, _err = process.communicate(timeout=SECONDS)
        report = json.loads(out)
        assert process.returncode == 1
        assert report["error"] == "Cancelled: nothing was changed."
        assert report["maintenance"] is None
        assert stored("default") == BEFORE

    @pytest.mark.parametrize("args", [["--noinput"], ["--no-input", "--max-seconds", "60"]])
    def test_noinput_does_not_ask(self, filled_default: None, args: list[str]) -> None:
        with at_terminal(*args) as (process, _terminal):
            out, _err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        assert b"3 sessions removed" in out

    def test_a_dry_run_does_not_ask(self, filled_default: None) -> None:
        with at_terminal("--dry-run") as (process, _terminal):
            out, _err = process.communicate(timeout=SECONDS)
        assert b"would do:\n" in out
        assert stored("default") == BEFORE

    def test_nor_does_it_when_nothing_is_due(self, filled_default: None) -> None:
        run()
        with at_terminal() as (process, _terminal):
            out, _err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        assert out.endswith(b"nothing, for nothing is due.\n")

    def test_without_a_terminal_to_ask_on(self, filled_default: None) -> None:
        with at_terminal(stderr=subprocess.PIPE) as (process, _terminal):
            _out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 1
        assert b"There is nobody to ask on standard error: --noinput goes on." in err
        assert stored("default") == BEFORE

    def test_for_one_session(self, filled_default: None) -> None:
        args = ["--session", "fresh", "--max-events-per-session", "4"]
        with at_terminal(*args) as (process, terminal):
            assert "5 events pruned" in read_until(terminal, QUESTION)
            os.write(terminal, b"yes\n")
            process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        assert stored("default") == {**BEFORE, "fresh": 4}
        with at_terminal(*args) as (process, _terminal):
            assert b"nothing is due" in process.communicate(timeout=SECONDS)[0]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_instead_of_an_answer(
        self, filled_default: None, number: signal.Signals
    ) -> None:
        with at_terminal("--json") as (process, terminal):
            read_until(terminal, QUESTION)
            out = output_after(process, number)
            told = os.read(terminal, 4096).decode()
        assert process.returncode == 128 + number
        assert json.loads(out)["error"].startswith(f"Stopped by {number.name}: ")
        assert f"CommandError: Stopped by {number.name}: what was committed is done" in told
        assert "Traceback" not in told
        assert stored("default") == BEFORE


class TestProgress:
    def test_it_is_for_terminals(
        self, filled_default: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written = io.StringIO()
        monkeypatch.setattr("sys.stderr", written)
        monkeypatch.setattr("asm_store.management.progress.SHOWN_EVERY", 0)
        run("--dry-run", stderr=Terminal())
        assert "\r1 sessions soft-deleted, 3 sessions removed" in written.getvalue()
        assert written.getvalue().endswith("\r")
        shown = written.getvalue()
        run("--dry-run")
        run("--dry-run", stderr=Terminal(), verbosity=0)
        assert written.getvalue() == shown


class TestSignals:
    @pytest.fixture
    def signalled(self) -> Iterator[list[signal.Signals]]:
        """The signals to send, one for each session that is removed."""
        left: list[signal.Signals] = []

        def send(**kwargs: Any) -> None:
            if left:
                signal.raise_signal(left.pop())

        signals.session_deleted.connect(send)
        yield left
        signals.session_deleted.disconnect(send)

    def started(self, using: str, *args: str) -> int | str | None:
        """The exit code of the command, run as `manage.py` runs it, but in this process."""
        argv = ["manage.py", "asm_maintenance", "--skip-checks", "--using", using, "--noinput"]
        try:
            Command().run_from_argv([*argv, "--batch-size", "1", *args])
        except SystemExit as end:
            return end.code
        return 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_ends_between_two_transactions(
        self, filled: str, signalled: list[Any], number: signal.Signals, capsys: Any
    ) -> None:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signalled.append(number)
        assert self.started(filled, "--json") == 128 + number
        out, err = capsys.readouterr()
        report = json.loads(out)
        assert report["error"].startswith(f"Stopped by {number.name}: ")
        assert report["error"] in err
        assert report["maintenance"]["sessions_hard_deleted"] == 1
        assert report["maintenance"]["is_complete"] is False
        assert stored(filled) == {pk: n for pk, n in BEFORE.items() if pk != "gone_1"}
        assert before == {number: signal.getsignal(number) for number in before}
        assert self.started(filled) == 0
        assert stored(filled) == {"fresh": 9, "expired": 2}

    def test_the_second_ends_it_at_once(
        self, filled: str, signalled: list[Any], capsys: Any
    ) -> None:
        def again(**kwargs: Any) -> None:
            signal.raise_signal(signal.SIGTERM)

        signalled.append(signal.SIGINT)
        signals.session_deleted.connect(again)
        try:
            assert self.started(filled, "--json") == 128 + signal.SIGTERM
        finally:
            signals.session_deleted.disconnect(again)
        out, err = capsys.readouterr()
        assert json.loads(out)["maintenance"] is None
        assert "Traceback" not in err
        assert self.started(filled) == 0
        assert stored(filled) == {"fresh": 9, "expired": 2}

    def test_after_the_work_it_comes_too_late(
        self, filled: str, signalled: list[Any], capsys: Any
    ) -> None:
        def send(**kwargs: Any) -> None:
            signal.raise_signal(signal.SIGTERM)

        signals.maintenance_finished.connect(send)
        try:
            assert self.started(filled) == 0
        finally:
            signals.maintenance_finished.disconnect(send)
        assert "3 sessions removed" in capsys.readouterr().out
        assert stored(filled) == {"fresh": 9, "expired": 2}

    def test_from_python_signals_are_the_callers(
        self, filled_default: None, signalled: list[Any]
    ) -> None:
        signalled.append(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            run()


class TestHealth:
    @pytest.fixture
    def broken(self, filled: str) -> str:
        """A database with something that can be repaired, and something that cannot."""
        Session.objects.using(filled).filter(pk="expired").update(status="gone\x1b[2J")
        SessionSequence.objects.using(filled).filter(pk="fresh").update(last_sequence=4)
        SessionSequence.objects.using(filled).filter(pk="gone_1").delete()
        return filled

    def test_all_is_well(self, filled: str) -> None:
        assert run("--using", filled, "--health-check")[0] == "Healthy: nothing was found.\n"
        report = json.loads(run("--using", filled, "--health-check", "--deep", "--json")[0])
        assert (report["ok"], report["issues"], report["repaired"]) == (True, [], None)
        assert stored(filled) == BEFORE

    def test_what_is_broken_is_told(self, broken: str) -> None:
        out = io.StringIO()
        codes = "counters_missing, counters_behind, sessions_with_unknown_status"
        with pytest.raises(CommandError, match=f"^Not healthy: {codes}[.]$"):
            run("--using", broken, "--health-check", stdout=out)
        told = out.getvalue()
        assert "counters_behind (1): Counters lower than a number" in told
        assert "  such as fresh\n  --repair mends it.\n" in told
        assert told.endswith("  such as expired\n")
        assert "\x1b" not in told

    def test_as_json(self, broken: str) -> None:
        out = io.StringIO()
        with pytest.raises(CommandError):
            run("--using", broken, "--health-check", "--json", stdout=out)
        report = json.loads(out.getvalue())
        assert report["ok"] is False
        assert report["maintenance"] is None
        issues = {issue["code"]: issue for issue in report["issues"]}
        assert issues["counters_behind"]["examples"] == ["fresh"]
        assert issues["counters_behind"]["is_repairable"] is True

    def test_one_session(self, broken: str) -> None:
        args = ["--using", broken, "--health-check", "--session"]
        assert run(*args, "gone_2")[0] == "Healthy: nothing was found.\n"
        with pytest.raises(CommandError, match=r"^Not healthy: counters_behind\.$"):
            run(*args, "fresh")
        with pytest.raises(CommandError, match="nowhere"):
            run(*args, "nowhere")

    def test_repair(self, broken: str) -> None:
        args = ["--using", broken, "--repair"]
        mended = "          1 counters_missing\n          1 counters_behind\n"
        assert run(*args, "--dry-run")[0] == f"Would be repaired:\n{mended}"
        out = io.StringIO()
        with pytest.raises(CommandError, match=r"^Not healthy: sessions_with_unknown_status\.$"):
            run(*args, "--health-check", stdout=out)
        assert out.getvalue().startswith(f"Repaired:\n{mended}sessions_with_unknown_status (1)")
        assert run(*args)[0] == "Nothing had to be repaired.\n"
        assert run(*args, "--dry-run")[0] == "There is nothing to repair.\n"
        assert json.loads(run(*args, "--json")[0])["repaired"] == {}

    def test_it_asks_before_it_repairs(self, filled_default: None) -> None:
        SessionSequence.objects.filter(pk="fresh").update(last_sequence=4)
        with at_terminal("--repair") as (process, terminal):
            asked = read_until(terminal, QUESTION)
            assert f"Would be repaired:\n          1 counters_behind\n{QUESTION}" in asked
            os.write(terminal, b"yes\n")
            out, _err = process.communicate(timeout=SECONDS)
        assert out == b"Repaired:\n          1 counters_behind\n"
        with at_terminal("--repair", "--health-check") as (process, _terminal):
            out, _err = process.communicate(timeout=SECONDS)
        assert out == b"Nothing had to be repaired.\nHealthy: nothing was found.\n"

    def test_the_exit_code(self, filled_default: None) -> None:
        SessionSequence.objects.filter(pk="fresh").update(last_sequence=4)
        code, _out, err = in_process(["--health-check"])
        assert (code, err) == (1, "CommandError: Not healthy: counters_behind.\n")


class TestErasure:
    def content(self, using: str, pk: str) -> Any:
        return Event.objects.using(using).get(pk=pk).data

    def test_of_some_events(self, filled: str) -> None:
        args = ["--using", filled, "--session", "fresh", "--erase", "fresh_1", "--erase"]
        assert run(*args, "fresh_2")[0] == (
            "Erased the content of 2 of 2 events of the session 'fresh'.\n"
        )
        assert self.content(filled, "fresh_1") == {"erased": True}
        assert self.content(filled, "fresh_3") != {"erased": True}
        assert json.loads(run(*args, "fresh_3", "--json")[0])["erased"] == 1
        assert stored(filled) == BEFORE

    @pytest.mark.parametrize("other", ["nothing", "expired_1", ""])
    def test_all_or_none(self, filled: str, other: str) -> None:
        with pytest.raises(CommandError):
            run("--using", filled, "--session", "fresh", "--erase", "fresh_1", "--erase", other)
        assert self.content(filled, "fresh_1") != {"erased": True}

    def test_it_asks(self, filled_default: None) -> None:
        args = ["--session", "fresh", "--erase", "fresh_1"]
        with at_terminal(*args) as (process, terminal):
            asked = read_until(terminal, QUESTION)
            assert "The content of 1 event of the session 'fresh' will be replaced" in asked
            os.write(terminal, b"no\n")
            process.communicate(timeout=SECONDS)
        assert process.returncode == 1
        assert self.content("default", "fresh_1") != {"erased": True}
