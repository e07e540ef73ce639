"""Who waits on PostgreSQL is woken; here he would not look for himself for an hour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from django.db import transaction
from django.test import override_settings

from asm_store.backends.arguments import EventFilter
from asm_store.backends.database import DatabaseSessionStore
from asm_store.maintenance import RetentionPolicy, execute
from asm_store.models import Event, Session
from asm_store.test import make_event
from asm_store.waiting.hub import Hub
from asm_store.waiting.watching import CROWD
from tests.failures import append
from tests.failures import execute as execute_sql
from tests.threads import run_threads
from tests.waiting.waiters import (
    LISTENER,
    SECONDS,
    Follower,
    complete,
    listening,
    processes,
    run,
    until,
)

pytestmark = pytest.mark.usefixtures("unhurried")


def test_appends_wake_a_thread(told: str, session: Session, hub: Hub) -> None:
    follower = Follower(told, session)
    with listening(hub):
        for number in range(1, 4):
            append(told, session)
            follower.wait_for([*range(1, number + 1)])
        complete(told, session)
        follower.wait_for_end()


def test_appends_of_many_sessions_wake_those_of_each(told: str, hub: Hub) -> None:
    store = DatabaseSessionStore(told)
    sessions = [store.save_session(Session(agent_id="many", status="active")) for _ in range(5)]
    followers = [Follower(told, each) for each in sessions]
    with listening(hub, len(sessions)):
        store.append_events([make_event(each) for each in sessions for _ in range(3)])
        for follower in followers:
            follower.wait_for([1, 2, 3])
        assert len(processes(told, LISTENER)) == 1
        for each in sessions:
            store.delete_session(each.pk)
    until(lambda: not processes(told, LISTENER), "the connection is closed")


def test_a_long_poll_is_woken(told: str, session: Session, hub: Hub) -> None:
    def wait() -> list[int]:
        found = DatabaseSessionStore(told).get_events(session.pk, wait_timeout=SECONDS)
        return [event.sequence_number for event in found]

    def write() -> list[int]:
        with listening(hub):
            append(told, session)
        return []

    assert run_threads([wait, write])[0] == [1]


def test_tasks_are_woken(told: str, session: Session, hub: Hub) -> None:
    store = DatabaseSessionStore(told)
    await_all = 20

    async def follow() -> list[int]:
        return [event.sequence_number async for event in store.astream_events(session.pk)]

    async def main() -> list[list[int]]:
        tasks = [asyncio.create_task(follow()) for _ in range(await_all)]
        await asyncio.to_thread(until, lambda: hub.is_listening and hub.count == await_all, "all")
        for _ in range(5):
            await store.aappend_event(make_event(session))
        await store.aupdate_session(session.pk, status="failed")
        return await asyncio.gather(*tasks)

    assert run(main()) == [[1, 2, 3, 4, 5]] * await_all
    assert hub.count == 0


@pytest.mark.parametrize("count", [3, CROWD + 1])
def test_what_one_task_does_to_its_event_no_other_sees(
    told: str, session: Session, hub: Hub, count: int
) -> None:
    store = DatabaseSessionStore(told)

    async def follow() -> list[dict[str, object]]:
        found = []
        async for event in store.astream_events(session.pk):
            found.append(dict(event.data))
            event.data["changed"] = True
        return found

    async def main() -> list[list[dict[str, object]]]:
        tasks = [asyncio.create_task(follow()) for _ in range(count)]
        await asyncio.to_thread(until, lambda: hub.is_listening and hub.count == count, "all")
        await store.aappend_event(make_event(session, data={"content": "x"}))
        await store.aupdate_session(session.pk, status="failed")
        return await asyncio.gather(*tasks)

    assert run(main()) == [[{"content": "x"}]] * count


def test_what_is_not_shared_is_read_by_each(told: str, session: Session, hub: Hub) -> None:
    read: list[int] = []

    class Counting(DatabaseSessionStore):
        def _get_events(self, wanted: EventFilter) -> list[Event]:
            found = super()._get_events(wanted)
            read.extend(event.sequence_number for event in found)
            return found

    store = Counting(told, share_reads=False)

    async def follow() -> list[int]:
        return [event.sequence_number async for event in store.astream_events(session.pk)]

    async def main() -> list[list[int]]:
        tasks = [asyncio.create_task(follow()) for _ in range(3)]
        await asyncio.to_thread(until, lambda: hub.is_listening and hub.count == 3, "all")
        await store.aappend_event(make_event(session))
        await store.aupdate_session(session.pk, status="failed")
        return await asyncio.gather(*tasks)

    assert run(main()) == [[1]] * 3
    assert read == [1] * 3


def _save(using: str, session: Session) -> None:
    DatabaseSessionStore(using).save_session(session.update_status("cancelled"))


def _soft_delete(using: str, session: Session) -> None:
    DatabaseSessionStore(using).soft_delete_session(session.pk)


def _delete(using: str, session: Session) -> None:
    DatabaseSessionStore(using).delete_session(session.pk)


def _expire(using: str, session: Session) -> None:
    """Maintenance removes it, without having marked it before."""
    execute_sql(
        using,
        "UPDATE asm_sessions SET deleted_at = '2001-01-01T00:00:00Z' WHERE id = %s",
        session.pk,
    )
    execute(RetentionPolicy(), using=using)


@pytest.mark.parametrize("end", [complete, _save, _soft_delete, _delete, _expire])
def test_the_end_of_a_session_wakes(
    told: str, session: Session, hub: Hub, end: Callable[[str, Session], None]
) -> None:
    follower = Follower(told, session)
    with listening(hub):
        end(told, session)
        follower.wait_for_end()
    assert follower.numbers == []


def test_what_is_rolled_back_wakes_nobody(told: str, session: Session, hub: Hub) -> None:
    follower = Follower(told, session)
    with listening(hub):
        with transaction.atomic(using=told):
            append(told, session)
            transaction.set_rollback(True, using=told)
        with transaction.atomic(using=told):
            append(told, session)
        follower.wait_for([1])
        complete(told, session)


def test_without_notifications_readers_poll(told: str, session: Session, hub: Hub) -> None:
    until(lambda: not processes(told, LISTENER), "those of other tests are gone")
    with override_settings(ASM_STORE_LISTEN_ALIASES={told: None}, ASM_STORE_NOTIFY=False):
        follower = Follower(told, session)
        append(told, session)
        follower.wait_for([1])
        assert not hub.is_listening
        assert processes(told, LISTENER) == []
        complete(told, session)
        follower.wait_for_end()
