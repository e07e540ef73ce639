"""Async twins: there, of the same signature, and doing the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any

from asgiref.sync import async_to_sync

from ...exceptions import (
    RunNotFound,
    SequenceConflict,
    SessionDeleted,
    SessionNotFound,
    ValidationError,
)
from ..factories import make_event, make_run, make_session
from .base import ContractCase, ids, numbers, states

METHODS = (
    "save_session", "get_session", "update_session", "list_sessions", "delete_session",
    "soft_delete_session", "restore_session", "save_run", "get_run", "list_runs",
    "get_active_run", "append_event", "append_event_with_sequence", "append_events", "flush",
    "get_events", "get_latest_sequence",
)  # fmt: skip
# For `async for` and `async with`.
NOT_AWAITED = ("stream_events", "iter_events_json", "writer")


class Twins(ContractCase):
    """Everything runs under `async_to_sync`, as Django's own async tests do.

    So what the twins send to the thread of the caller arrives in the thread of the test.
    """

    def run_async(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def run() -> Any:
            return await coroutine

        return async_to_sync(run)()

    def test_every_method_has_a_twin_with_its_signature(self) -> None:
        for name in (*METHODS, *NOT_AWAITED):
            with self.subTest(method=name):
                method, twin = getattr(self.store, name), getattr(self.store, f"a{name}")
                self.assertEqual(inspect.iscoroutinefunction(twin), name in METHODS)
                self.assertFalse(inspect.iscoroutinefunction(method))
                self.assertEqual(
                    inspect.signature(twin).parameters, inspect.signature(method).parameters
                )

    def test_sessions_live_and_die_through_twins(self) -> None:
        async def scenario() -> None:
            store = self.store
            session = await store.asave_session(make_session(tags=["a"]))
            self.assert_same(await store.aget_session(session.pk), session)
            updated = await store.aupdate_session(session.pk, status="active", add_tags=["b"])
            self.assertEqual((updated.status, updated.tags), ("active", ["a", "b"]))
            self.assertEqual(ids(await store.alist_sessions(status="active")), [session.pk])
            self.assertIsNotNone((await store.asoft_delete_session(session.pk)).deleted_at)
            with self.assertRaises(SessionDeleted):
                await store.aappend_event(make_event(session))
            self.assertIsNone((await store.arestore_session(session.pk)).deleted_at)
            await store.adelete_session(session.pk)
            with self.assertRaises(SessionNotFound):
                await store.aget_session(session.pk)

        self.run_async(scenario())

    def test_runs_are_kept_through_twins(self) -> None:
        session = self.add_session()

        async def scenario() -> None:
            store = self.store
            run = await store.asave_run(make_run(session, status="running"))
            self.assert_same(await store.aget_run(run.pk), run)
            self.assertEqual(ids(await store.alist_runs(session.pk, limit=5)), [run.pk])
            active = await store.aget_active_run(session.pk)
            assert active is not None
            self.assertEqual(active.pk, run.pk)
            with self.assertRaises(RunNotFound):
                await store.aget_run("run-missing")

        self.run_async(scenario())

    def test_events_are_appended_and_read_through_twins(self) -> None:
        session = self.add_session()

        async def scenario() -> None:
            store = self.store
            await store.aappend_event(make_event(session))
            second = await store.aappend_event_with_sequence(make_event(session))
            more = [make_event(session), make_event(session)]
            stored = await store.aappend_events(more, expected_sequence=2)
            self.assertEqual(numbers([second, *stored]), [2, 3, 4])
            found = await store.aget_events(session.pk, after=2, limit=1)
            self.assertEqual(states(found), states(stored[:1]))
            self.assertEqual(await store.aget_latest_sequence(session.pk), 4)
            with self.assertRaises(SequenceConflict):
                await store.aappend_events([make_event(session)], expected_sequence=0)
            with self.assertRaises(ValidationError):
                await store.aget_events(session.pk, limit=-1)

        self.run_async(scenario())
        self.assert_log(session)

    def test_flush_has_its_twin(self) -> None:
        session = make_session()
        run = make_run(session)
        events = [make_event(session, run_id=run.pk)]
        stored = self.run_async(self.store.aflush(session, run, events, {"model": "m"}))
        self.assertEqual(numbers(stored), [1])
        self.assertEqual(self.store.get_run(run.pk).provider_metadata, {"model": "m"})

    def test_what_twins_write_the_methods_read(self) -> None:
        session = self.run_async(self.store.asave_session(make_session()))
        self.assert_same(self.store.get_session(session.pk), session)
        event = self.append(session)
        found = self.run_async(self.store.aget_events(session.pk))
        self.assertEqual(states(found), states([event]))

    def test_tasks_append_together(self) -> None:
        session = self.add_session()

        async def scenario() -> list[Any]:
            store = self.store
            one = [store.aappend_event_with_sequence(make_event(session)) for _ in range(10)]
            many = [store.aappend_events([make_event(session)] * 2) for _ in range(5)]
            singles, batches = await asyncio.gather(asyncio.gather(*one), asyncio.gather(*many))
            return [*singles, *(event for batch in batches for event in batch)]

        stored = self.run_async(scenario())
        self.assertEqual({event.sequence_number for event in stored}, set(range(1, 16)))
        self.assert_log(session, stored)
