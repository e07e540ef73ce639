"""A write between any two lines of another one: for stores that no statement can be watched of.

As `interleavings`, with the lines of the store's own module in the place of statements.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from ...models import Session
from .base import ContractCase
from .interleavings import GRACE
from .workers import Worker


class Switch:
    """A trace function that starts `worker` before the line at `position` of a module."""

    def __init__(self, path: str, worker: Worker[Any], position: int) -> None:
        self.path = path
        self.worker = worker
        self.position = position
        self.lines = 0

    def run(self, write: Callable[[], Any]) -> Any:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            return write()
        finally:
            sys.settrace(before)

    def __call__(self, frame: FrameType, event: str, _: Any) -> Switch | None:
        if frame.f_code.co_filename != self.path:
            return None
        if event == "line":
            if self.lines == self.position:
                self.worker.start()
                self.worker.ended.wait(GRACE)
            self.lines += 1
        return self


class Switches(ContractCase):
    def switched(
        self, write: Callable[[Session], Any], check: Callable[[Session, Any, Any], None]
    ) -> None:
        """Do `write` with another `write` before its first line, its second, and so on."""
        if self.database is not None:
            self.skipTest("the interleavings of statements are tried instead")
        path = str(sys.modules[type(self.store).__module__].__file__)
        position = lines = 0
        while position <= lines:
            session = self.add_session()
            worker = Worker(lambda: write(session))  # noqa: B023
            switch = Switch(path, worker, position)
            written = switch.run(lambda: write(session))  # noqa: B023
            if position < (lines := switch.lines):
                check(session, written, worker.result())
            position += 1

    def test_an_append_between_the_lines_of_an_append_takes_another_number(self) -> None:
        self.switched(self.append, lambda session, *stored: self.assert_log(session, stored))

    def test_an_update_between_the_lines_of_an_update_is_not_undone(self) -> None:
        names = iter(map(str, range(10_000)))

        def check(session: Session, one: str, other: str) -> None:
            self.assertEqual(set(self.store.get_session(session.pk).tags), {one, other})

        def update(session: Session) -> str:
            name = next(names)
            self.store.update_session(session.pk, add_tags=[name])
            return name

        self.switched(update, check)
