"""Waiting, following and writing in asyncio: who waits blocks neither the loop nor the ORM."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

from asgiref.sync import async_to_sync, sync_to_async

from ...exceptions import RunNotFound, SessionNotFound, ValidationError
from ...models import Event, Session
from ...waiting import polling
from ..factories import make_event, make_run
from .base import ContractCase, ids, needs, numbers, states
from .streams import before_look
from .transactions import Undo
from .workers import SECONDS, start

# More than the threads that an event loop has for waiting.
CROWD = 40
LIMIT = SECONDS / 2
# Much longer than what is done meanwhile takes.
PAUSE = 4.0


class Tasks(ContractCase):
    def run_tasks(self, scenario: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(LIMIT):
                return await scenario()

        return async_to_sync(limited)()

    def some_events(self, session: Session, count: int) -> list[Event]:
        return [make_event(session, data={"n": number}) for number in range(count)]

    def test_a_wait_in_a_task_is_ended_by_an_append_in_another(self) -> None:
        session = self.add_session()
        asked = threading.Event()
        before_look(self.store, 3, asked.set)

        async def scenario() -> None:
            waiter = asyncio.create_task(self.store.aget_events(session.pk, wait_timeout=SECONDS))
            while not asked.is_set():
                await asyncio.sleep(0)
            self.assertFalse(waiter.done())
            event = await self.store.aappend_event_with_sequence(make_event(session))
            self.assertEqual(states(await waiter), states([event]))

        self.run_tasks(scenario)

    def test_a_crowd_of_waiters_does_not_stop_the_append(self) -> None:
        session = self.add_session()

        async def scenario() -> None:
            waiters = [
                asyncio.create_task(self.store.aget_events(session.pk, wait_timeout=SECONDS))
                for _ in range(CROWD)
            ]
            followers = [asyncio.create_task(self.follow(session)) for _ in range(CROWD)]
            await asyncio.sleep(0)
            await self.store.aappend_events(self.some_events(session, 3))
            await self.store.aupdate_session(session.pk, status="completed")
            for found in await asyncio.gather(*waiters):
                self.assertEqual(numbers(found), [1, 2, 3])
            for found in await asyncio.gather(*followers):
                self.assertEqual(numbers(found), [1, 2, 3])

        self.run_tasks(scenario)

    def test_a_waiting_task_leaves_the_thread_of_the_orm(self) -> None:
        session = self.add_session()

        async def scenario() -> float:
            waiter = asyncio.create_task(self.store.aget_events(session.pk, wait_timeout=SECONDS))
            began = time.monotonic()
            for _ in range(10):  # After a few of them the waiter has looked in vain, and waits.
                await self.store.aget_latest_sequence(session.pk)
            waiter.cancel()
            return time.monotonic() - began

        with (
            mock.patch.object(polling, "SHORTEST_PAUSE", PAUSE),
            mock.patch.object(polling, "LONGEST_PAUSE", PAUSE),
        ):
            self.assertLess(self.run_tasks(scenario), PAUSE / 2)

    async def follow(self, session: Session, **options: Any) -> list[Event]:
        return [event async for event in self.store.astream_events(session.pk, **options)]

    def test_async_waits_end_with_nothing(self) -> None:
        session = self.add_session()

        async def scenario() -> None:
            self.assertEqual(await self.store.aget_events(session.pk, wait_timeout=0.05), [])
            self.assertEqual(await self.store.aget_events("ses-missing", wait_timeout=SECONDS), [])
            self.assertEqual(await self.follow(session, idle_timeout=0.05), [])
            with self.assertRaises(SessionNotFound):
                await self.follow(Session(id="ses-missing"))
            with self.assertRaises(ValidationError):
                self.store.astream_events(session.pk, idle_timeout=-1)

        self.run_tasks(scenario)

    def test_an_async_stream_yields_stored_and_live_events(self) -> None:
        session = self.add_session()
        self.store.append_events(self.some_events(session, 300))

        async def scenario() -> list[Event]:
            found: list[Event] = []
            async for event in self.store.astream_events(session.pk, after=1):
                found.append(event)
                if event.sequence_number == 300:
                    await self.store.aappend_events(self.some_events(session, 5))
                if event.sequence_number == 305:
                    await self.store.aupdate_session(session.pk, status="failed")
            return found

        found = self.run_tasks(scenario)
        self.assertEqual(states(found), states(self.store.get_events(session.pk, after=1)))

    def test_a_cancelled_waiter_leaves_the_store_usable(self) -> None:
        session = self.add_session()

        async def scenario() -> None:
            for waiting in (
                self.store.aget_events(session.pk, wait_timeout=SECONDS),
                self.follow(session),
            ):
                task = asyncio.create_task(waiting)
                await asyncio.sleep(0.01)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
            await self.store.aappend_event(make_event(session))

        self.run_tasks(scenario)
        self.assert_log(session)

    def test_lines_have_an_async_twin(self) -> None:
        session = self.add_session()
        self.store.append_events(self.some_events(session, 40))

        async def scenario() -> list[bytes]:
            return [line async for line in self.store.aiter_events_json(session.pk, after=3)]

        lines = self.run_tasks(scenario)
        self.assertEqual(lines, list(self.store.iter_events_json(session.pk, after=3)))
        self.assertEqual([json.loads(x)["sequence_number"] for x in lines], list(range(4, 41)))

    # awriter()

    def written(self, session: Session, count: int, **options: Any) -> list[Event]:
        events = self.some_events(session, count)

        async def scenario() -> None:
            async with self.store.awriter(session.pk, **options) as writer:
                for event in events:
                    await writer.write(event)

        self.run_tasks(scenario)
        return events

    def test_an_async_writer_stores_all_in_order(self) -> None:
        for count, size in ((0, 100), (1, 100), (99, 100), (101, 100), (250, 7)):
            session = self.add_session()
            with self.subTest(count=count, size=size):
                events = self.written(session, count, max_events=size)
                self.assertEqual(ids(self.store.get_events(session.pk)), ids(events))
                self.assert_log(session)

    def test_an_async_writer_flushes_by_itself(self) -> None:
        session = self.add_session()
        store = self.store

        async def scenario() -> None:
            async with store.awriter(session.pk, max_delay=0.02) as writer:
                await writer.write(make_event(session))
                self.assertEqual(
                    numbers(await store.aget_events(session.pk, wait_timeout=SECONDS)), [1]
                )
            async with store.awriter(session.pk, max_delay=SECONDS, max_events=2) as writer:
                for event in self.some_events(session, 2):
                    await writer.write(event)
                found = await store.aget_events(session.pk, after=2, wait_timeout=SECONDS)
                self.assertEqual(numbers(found), [3])
                await writer.write(make_event(session))
                await writer.flush()
                self.assertEqual(await store.aget_latest_sequence(session.pk), 4)

        self.run_tasks(scenario)
        self.assert_log(session)

    def test_a_cancelled_task_flushes_what_it_wrote(self) -> None:
        for cancels in (1, 2, 5):
            with self.subTest(cancels=cancels):
                self.cancelled(cancels)

    def cancelled(self, cancels: int) -> None:
        session = self.add_session()
        events = self.some_events(session, 5)

        async def produce(written: asyncio.Event) -> None:
            async with self.store.awriter(session.pk, max_delay=SECONDS) as writer:
                for event in events:
                    await writer.write(event)
                written.set()
                await asyncio.Event().wait()

        async def scenario() -> None:
            written = asyncio.Event()
            task = asyncio.create_task(produce(written))
            await written.wait()
            # As asyncio.run() does in the end: the writer's own task is cancelled as well.
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                if each is task or "_work" in repr(each.get_coro()):
                    each.cancel()
            for _ in range(cancels - 1):  # As an outer time limit does, while the first is handled.
                await asyncio.sleep(0)
                task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task

        self.run_tasks(scenario)
        self.assertEqual(ids(self.store.get_events(session.pk)), ids(events))
        self.assert_log(session)

    def test_a_sync_helper_may_write_for_its_task(self) -> None:
        session = self.add_session()
        events = self.some_events(session, 120)

        async def scenario() -> None:
            async with self.store.awriter(session.pk, max_events=2, max_delay=0) as writer:

                def helper(some: list[Event]) -> None:
                    for event in some:
                        async_to_sync(writer.write)(event)

                await sync_to_async(helper)(events[:60])
                for event in events[60:70]:
                    await writer.write(event)
                await sync_to_async(helper)(events[70:])

        self.run_tasks(scenario)
        self.assertEqual(ids(self.store.get_events(session.pk)), ids(events))

    def test_a_failed_async_flush_raises_with_the_events(self) -> None:
        session = self.add_session()
        bad = make_event(session, run_id=make_run(session).pk)
        events = [make_event(session), bad, make_event(session)]

        async def at_the_end() -> None:
            async with self.store.awriter(session.pk) as writer:
                for event in events:
                    await writer.write(event)

        async def at_a_write() -> None:
            async with self.store.awriter(session.pk, max_events=1) as writer:
                await writer.write(bad)
                for _ in range(1000):
                    events.append(make_event(session))
                    await writer.write(events[-1])

        with self.assertRaises(RunNotFound) as caught:
            self.run_tasks(at_the_end)
        self.assertEqual(ids(caught.exception.unwritten_events), ids(events))
        events = []
        with self.assertRaises(RunNotFound) as caught:
            self.run_tasks(at_a_write)
        self.assertEqual(ids(caught.exception.unwritten_events), [bad.pk, *ids(events)])
        self.assertEqual(self.store.get_events(session.pk), [])

    @needs("supports_transactions")
    def test_a_full_async_writer_waits_alone(self) -> None:
        session, other = self.add_session(), self.add_session()
        events = self.some_events(session, 30)
        locked, release = threading.Event(), threading.Event()

        def hold() -> None:
            with self.atomic():
                self.append(session)
                locked.set()
                release.wait(SECONDS)

        holder = start(hold)
        self.assertTrue(locked.wait(SECONDS))
        ticks: list[int] = []

        async def produce() -> None:
            async with self.store.awriter(session.pk, max_events=1) as writer:
                for event in events:
                    ticks.append(1)
                    await writer.write(event)

        async def scenario() -> None:
            producer = asyncio.create_task(produce())
            while len(ticks) < 10:
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            self.assertEqual(len(ticks), 10)
            release.set()
            await producer

        self.run_tasks(scenario)
        holder.result()
        self.assertEqual(ids(self.store.get_events(session.pk))[1:], ids(events))
        self.append(other)
        self.assert_log(session)

    @needs("supports_transactions")
    def test_an_async_writer_is_in_the_block_of_an_async_test(self) -> None:
        session = self.add_session()
        try:
            with self.atomic():
                self.written(session, 5, max_events=2, max_delay=0)
                self.assertEqual(len(self.store.get_events(session.pk)), 5)
                raise Undo
        except Undo:
            pass
        self.assertEqual(self.store.get_events(session.pk), [])
        self.assert_log(session)
