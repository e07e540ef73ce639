from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Session
from asm_store.test import make_event, make_session
from tests.management.tails import ended, tail
from tests.management.terminals import read_until


class TestTerminal:
    """The command's standard output is a real terminal, 80 columns wide."""

    ESCAPE = "\x1b[32;1mmessage_sent\x1b[0m"

    @pytest.fixture
    def session(self, transactional_db: None) -> Session:
        store = DatabaseSessionStore()
        session = store.save_session(make_session(id="ses-it", status="completed"))
        text = "\x1b]0;owned\x07\x9b2J\u202e" + "x" * 200
        store.append_event(make_event(session, data={"role": "user", "content": text}))
        return session

    def on_terminal(self, *args: str, **environment: str) -> str:
        """What is on the terminal when the command has ended."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        unset = dict.fromkeys(("COLUMNS", "NO_COLOR", "DJANGO_COLORS"))
        try:
            with (
                environ({**unset, "TERM": "xterm", **environment}),
                tail("ses-it", *args, stdout=its) as process,
            ):
                code, _out, err = ended(process)
            assert (code, err) == (0, "Session ses-it is completed.\n")
            return read_until(ours, "\n")
        finally:
            os.close(ours)
            os.close(its)

    def test_cut_to_its_width_in_colours(self, session: Session) -> None:
        line = self.on_terminal()
        assert self.ESCAPE in line
        plain = line.replace(self.ESCAPE, "message_sent").splitlines()[-1]
        assert len(plain) == 80
        assert plain.endswith("x…")
        assert r"user: \x1b]0;owned\x07\x9b2J\u202exx" in plain

    @pytest.mark.parametrize(
        ("args", "environment"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"})]
    )
    def test_without_colours(
        self, session: Session, args: list[str], environment: dict[str, str]
    ) -> None:
        assert "\x1b" not in self.on_terminal(*args, **environment)

    def test_all_of_it(self, session: Session) -> None:
        assert "x" * 200 in self.on_terminal("--full")

    def test_colours_by_force(self, session: Session) -> None:
        with environ({"NO_COLOR": "1"}), tail("ses-it", "--force-color") as process:
            assert self.ESCAPE in ended(process)[1]

    def test_json(self, session: Session) -> None:
        line = self.on_terminal("--json")
        assert line.strip().isprintable()
        assert line.isascii()
        [event] = DatabaseSessionStore().get_events("ses-it")
        assert json.loads(line) == event.to_dict()


@contextmanager
def environ(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Environment variables of the processes that are started in the block; None: not set."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes.items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value)
        yield
