from __future__ import annotations

import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from asm_store import signals
from asm_store.management.commands.asm_maintenance import Command
from tests.management.maintaining import (
    BEFORE,
    QUESTION,
    TRIES,
    at_terminal,
    run,
    stored,
)
from tests.management.terminals import SECONDS, Terminal, read_until


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
