"""Writes that cross each other, and failures of the database that the store mends itself.

Outside of the caller's blocks a deadlock is tried again, and so does not show. The blocks of two
callers cannot be: there every write must lock in one order.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import Any

from django.db import connections
from django.test import override_settings

from ...backends.base import BaseSessionStore
from ...exceptions import SessionNotFound, StorageError
from ...models import Session
from ..factories import make_event, make_run, make_session
from .base import ContractCase, ids, needs, numbers
from .interleavings import GRACE, Interruption
from .workers import Worker

Block = Callable[[BaseSessionStore, list[Session]], Any]


def save(store: BaseSessionStore, owners: list[Session]) -> None:
    store.save_session(last(owners))


def append(store: BaseSessionStore, owners: list[Session]) -> None:
    store.append_events([make_event(owner) for owner in owners])


def run_a_turn(store: BaseSessionStore, owners: list[Session]) -> None:
    owner = last(owners)
    run = store.save_run(make_run(owner))
    store.append_event(make_event(owner, run_id=run.pk))
    store.update_session(owner.pk, status="active")


def update_and_append(store: BaseSessionStore, owners: list[Session]) -> None:
    store.update_session(last(owners).pk, status="paused")
    store.append_event(make_event(last(owners)))


def delete(store: BaseSessionStore, owners: list[Session]) -> None:
    store.delete_session(last(owners).pk)


def last(owners: list[Session]) -> Session:
    """The same one, in whatever order they come."""
    return max(owners, key=attrgetter("pk"))


def break_connection(using: str) -> None:
    """Nothing passes any more, as after a restart of the server."""
    connection: Any = connections[using].connection
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)


class Deadlocks(ContractCase):
    def using_with_row_locks(self) -> str:
        using = str(self.database)
        if not connections[using].features.has_select_for_update:
            self.skipTest("without row locks there are no deadlocks, and no server either")
        return using

    def in_block(self, block: Block, owners: list[Session]) -> None:
        with suppress(SessionNotFound), self.atomic():
            block(self.make_store(), owners)

    def crossed(self, block: Block, other: Block, *, new: bool) -> None:
        """Do `block` with `other` before its first statement, its second, and so on."""
        using = self.using_with_row_locks()
        position = statements = 0
        while position <= statements:
            owners = [make_session(), make_session()]
            for owner in [] if new else owners:
                self.store.save_session(owner)
            worker = Worker(lambda: self.in_block(other, owners[::-1]))  # noqa: B023
            interruption = Interruption(worker, position)
            with connections[using].execute_wrapper(interruption):
                self.in_block(block, owners)
            statements = interruption.statements
            if position < statements:
                worker.result()
            position += 1

    @needs("using")
    def test_a_block_inside_a_block_does_not_meet_it_in_a_deadlock(self) -> None:
        for block, other, new in (
            (save, save, True),
            (save, save, False),
            (append, append, False),
            (run_a_turn, run_a_turn, False),
            (update_and_append, append, False),
            (delete, append, False),
        ):
            with self.subTest(block=block.__name__, other=other.__name__, new=new):
                self.crossed(block, other, new=new)

    @needs("using")
    def test_a_deadlock_with_a_block_is_tried_again(self) -> None:
        self.using_with_row_locks()
        # The database ends the call, which has waited longest and has changed nothing yet. Should
        # it end the block, which its caller must repeat, the scene begins anew.
        for _ in range(5):
            first, second = sorted([self.add_session(), self.add_session()], key=attrgetter("pk"))
            batch = [make_event(first), make_event(second)]
            worker = Worker(lambda: self.store.append_events(batch))  # noqa: B023
            try:
                with self.atomic():
                    self.append(second)
                    worker.start()
                    worker.ended.wait(GRACE)
                    self.append(first)
            except StorageError:
                worker.result()
                continue
            self.assertEqual(ids(worker.result()), ids(batch))
            self.assertEqual(numbers(worker.result()), [2, 2])
            return
        self.fail("the database ended the caller's block every time")

    @needs("using")
    def test_a_lost_connection_is_replaced(self) -> None:
        using = self.using_with_row_locks()
        self.addCleanup(connections[using].close)
        session = self.add_session()
        calls: list[Callable[[], Any]] = [
            lambda: self.append(session),
            lambda: self.store.get_session(session.pk),
            lambda: self.store.update_session(session.pk, add_tags=["a"]),
        ]
        for call in calls:
            break_connection(using)
            with override_settings(ASM_STORE_RETRY_SECONDS=3):
                call()
        self.assert_log(session)
