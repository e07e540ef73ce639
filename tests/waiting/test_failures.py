"""Connections that the server ends, notifications that are lost, processes that are forked."""

from __future__ import annotations

import os
import threading
import time
import traceback
from runpy import run_path

import pytest
from django.db import connections
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.db.channels import Channel, ChannelError
from asm_store.models import Session
from asm_store.signals import events_appended
from asm_store.test import make_session
from asm_store.waiting import backoff, polling, sending, telling
from asm_store.waiting.hub import Hub, parsed, payload_of
from tests.failures import append
from tests.processes import run_processes
from tests.waiting.waiters import (
    LISTENER,
    SECONDS,
    SENDER,
    Follower,
    append_followed,
    complete,
    end_connection_and_complete,
    end_connections,
    hub_of_tests,
    listening,
    processes,
    until,
)


@pytest.mark.usefixtures("unhurried")
class TestReconnecting:
    def test_the_listener(
        self, told: str, session: Session, hub: Hub, caplog: pytest.LogCaptureFixture
    ) -> None:
        follower = Follower(told, session)
        with listening(hub):
            for _ in range(3):
                before = processes(told, LISTENER)
                assert end_connections(told, LISTENER) == 1
                append_followed(told, session, follower)
                until(lambda: processes(told, LISTENER) not in ([], before), "another listens")  # noqa: B023
                until(lambda: hub.is_listening, "it hears")
            append_followed(told, session, follower)
            complete(told, session)
        warned = [each for each in caplog.records if each.levelname == "WARNING"]
        assert [each.name for each in warned] == ["asm_store"] * 3
        assert f"notifications of {told!r} are not heard" in warned[0].getMessage()

    def test_the_sender(self, told: str, session: Session, hub: Hub) -> None:
        follower = Follower(told, session)
        with listening(hub):
            for _ in range(3):
                append_followed(told, session, follower)
                assert end_connections(told, SENDER) == 1
            append_followed(told, session, follower)
            end_connection_and_complete(told, SENDER, session, follower)

    def test_a_server_that_does_not_answer_is_left(
        self, told: str, session: Session, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("asm_store.waiting.hub.HEARTBEAT", 0.05)
        monkeypatch.setattr("asm_store.db.channels.PATIENCE", 0.5)
        lost = []

        class Silent(Channel):
            def ask_for_a_sign(self) -> None:
                lost.append(self)
                # It is busy with what never ends.
                if self._unanswered_since is None:
                    super().ask_for_a_sign()
                    self._take_all()

            def _take_all(self) -> None:
                while self._unanswered_since is not None:
                    self._take_answers()
                self._unanswered_since = 0.0
                self._libpq.send_query(b"SELECT pg_sleep(600)")

        monkeypatch.setattr("asm_store.db.postgresql.Channel", Silent)
        until(lambda: not processes(told, LISTENER), "those of other tests are gone")
        follower = Follower(told, session)
        with listening(hub):
            until(lambda: len({id(each) for each in lost}) > 1, "it has been left for another")
            append(told, session)
            follower.wait_for([1])
            complete(told, session)
        until(lambda: not processes(told, LISTENER), "none is left")


def test_lost_notifications_cost_a_pause_and_no_event(
    told: str, session: Session, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "HEARD_PAUSE", 0.05)
    with override_settings(ASM_STORE_NOTIFY=False):
        follower = Follower(told, session)
        with listening(hub):
            append_followed(told, session, follower, 3)
            complete(told, session)


def test_a_sender_that_cannot_connect_gives_up_and_grows_no_further(
    told: str, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "MOST", 3)
    monkeypatch.setattr(sending, "STALE", 0.2)
    monkeypatch.setattr(sending, "IDLE", 0.2)
    monkeypatch.setattr(backoff, "FIRST", 0.05)
    sender = sending.Sender(told)
    telling._senders[told].flush(SECONDS)  # of the session
    with monkeypatch.context() as broken:
        broken.setitem(connections.settings[told], "PORT", 1)
        for number in range(10):
            sender.put({f"ses-{number}": number + 1})
        assert len(sender._pending) <= 3
        until(lambda: sender._thread is None, "it has given up")
    assert sender._pending == {}
    assert sender._has_told.is_set()  # nothing is left that the end of the process waits for
    messages = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(messages) == 1
    sender.put({session.pk: 0})
    sender.flush(SECONDS)
    assert sender._pending == {}


def test_what_was_sent_and_never_arrived_is_told_again(
    told: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "IDLE", 0.2)
    telling._senders[told].flush(SECONDS)  # of the session
    listener, sender = Channel(connections[told], "asm_store test"), sending.Sender(told)
    try:
        listener.listen()
        sender.put({session.pk: 1})
        sender.flush(SECONDS)
        assert sender._channel is not None
        time.sleep(max(0.0, sender._pause_left()))
        assert end_connections(told, SENDER) >= 1
        with monkeypatch.context() as unseen:
            unseen.setattr(Channel, "has_answered", lambda self: True)
            sender.put({session.pk: 2})
        heard: list[str] = []

        def are_both_heard() -> bool:
            heard.extend(listener.hear(0.1))
            return len(heard) == 2

        until(are_both_heard, "both are heard")
        assert [parsed(payload) for payload in heard] == [(1, session.pk), (2, session.pk)]
    finally:
        listener.close()
        sender.flush(SECONDS)


def test_the_thread_that_commits_tells_itself(told: str, session: Session) -> None:
    sender = sending.Sender(told)
    sender.put({session.pk: 1})
    sender.flush(SECONDS)
    time.sleep(max(0.0, sender._pause_left()))
    sender.put({session.pk: 2})
    assert sender._sent == {session.pk: 2}
    assert not sender._is_due.is_set()
    sender.put({session.pk: 3})  # too soon, or not answered yet
    assert sender._is_due.is_set() or not sender._pending
    sender.flush(SECONDS)
    assert sender._sent == sender._pending == {}


def test_who_commits_often_is_told_of_less_often(told: str, session: Session) -> None:
    sender = sending.Sender(told)
    for number, longest in ((sending.BUSY, sending.BUSY_INTERVAL), (1, sending.INTERVAL)):
        with sender._lock:  # which the thread needs to tell of them
            for _ in range(number):
                sender.put({session.pk: 1})
        sender.flush(SECONDS)
        assert sender._interval == longest


def test_what_is_told_of_one_session_is_told_once() -> None:
    sender = sending.Sender("nobody's")
    sender._merge({"a": 3, "b": 2})
    sender._merge({"a": 5, "b": 0, "c": 0})
    sender._merge({"a": 4, "b": 7, "c": 1})
    # 0 stays: something else has changed.
    assert sender._pending == {"a": 5, "b": 0, "c": 0}


@pytest.mark.parametrize("session_id", ["ses_1", "with space", 'a"b\\c', "{},", "é" * 255, "7"])
def test_payloads(told: str, session_id: str) -> None:
    assert parsed(payload_of(session_id, 12)) == (12, session_id)
    assert parsed("what others send") == (0, "others send")
    assert parsed("9" * 5_000 + " x") == (0, "x")
    listener, sender = (Channel(connections[told], "asm_store test") for _ in range(2))
    try:
        listener.listen()
        sender.notify([payload_of(session_id, 1), payload_of(session_id, 2)])
        heard: list[str] = []

        def are_both_heard() -> bool:
            heard.extend(listener.hear(0.1))
            return len(heard) == 2

        until(are_both_heard, "both are heard")
        assert [parsed(payload) for payload in heard] == [(1, session_id), (2, session_id)]
    finally:
        listener.close()
        sender.close()


def follow_and_fork(using: str, session_id: str) -> list[list[int]]:
    """In a process of its own: what it and its child were told of, each for itself."""
    polling.HEARD_PAUSE = 3_600.0
    hub = hub_of_tests(using)
    session = DatabaseSessionStore(using).get_session(session_id)
    follower = Follower(using, session)
    append(using, session)
    follower.wait_for([1])
    until(lambda: hub.is_listening, "the parent listens")
    # What is open would be the child's too, and be ended by it for both.
    connections.close_all()
    told, tells = os.pipe()
    if not (child := os.fork()):
        os._exit(_as_child(using, session, tells))
    assert os.read(told, 1) == b"."
    until(lambda: len(processes(using, LISTENER)) == 2, "both listen")
    append(using, session)
    follower.wait_for([1, 2])
    # The child appends the third.
    follower.wait_for([1, 2, 3])
    DatabaseSessionStore(using).update_session(session_id, status="completed")
    follower.wait_for_end()
    _, status = os.waitpid(child, 0)
    connections.close_all()
    return [follower.numbers, [os.waitstatus_to_exitcode(status)]]


def _as_child(using: str, session: Session, tells: int) -> int:
    try:
        hub = hub_of_tests(using)
        assert (hub.count, hub.is_listening) == (0, False)
        follower = Follower(using, session)
        follower.wait_for([1])
        until(lambda: hub.is_listening, "the child listens")
        os.write(tells, b".")
        follower.wait_for([1, 2])
        append(using, session)
        telling._senders[using].flush(SECONDS)
        follower.wait_for([1, 2, 3])
        follower.wait_for_end()
        until(lambda: hub.count == 0, "nobody waits")
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@pytest.mark.usefixtures("django_db_setup")
def test_a_forked_process_listens_and_tells_for_itself(told: str, session: Session) -> None:
    until(lambda: not processes(told, LISTENER), "those of other tests are gone")
    path = f"{__name__}.{follow_and_fork.__name__}"
    [found] = run_processes(path, [[told, session.pk]])
    assert found == [[1, 2, 3], [0]]


def append_and_end(using: str, session_id: str) -> None:
    """In a process of its own, which ends at once."""
    append(using, Session(id=session_id))


@pytest.mark.usefixtures("unhurried")
def test_the_last_commit_of_a_process_is_told(told: str, session: Session, hub: Hub) -> None:
    follower = Follower(told, session)
    with listening(hub):
        run_processes(f"{__name__}.{append_and_end.__name__}", [[told, session.pk]])
        follower.wait_for([1])
        complete(told, session)


def test_a_connection_that_only_opens_is_opened_after_growing_pauses(
    told: str, session: Session, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def fail(channel: Channel, seconds: float) -> list[str]:
        if threading.current_thread() is hub._thread:
            opened.append(time.monotonic())
        raise ChannelError("it was only opened.")

    monkeypatch.setattr(backoff, "FIRST", 0.02)
    monkeypatch.setattr(Channel, "hear", fail)
    follower = Follower(told, session)
    until(lambda: len(opened) > 4, "it is opened again and again")
    monkeypatch.undo()
    complete(told, session)
    follower.wait_for_end()
    # The fourth pause is at least half of eight times the first; without growth it is the first.
    assert opened[4] - opened[3] >= 0.08


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_is_ended_is_replaced(
    told: str, session: Session, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(channel: Channel, seconds: float) -> list[str]:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Channel, "hear", end)
        follower = Follower(told, session, idle_timeout=3_600)
        until(lambda: hub.count and hub._thread is None, "it has ended")
        complete(told, session)
        follower.wait_for_end()
    session = DatabaseSessionStore(told).save_session(make_session(status="active"))
    follower = Follower(told, session)
    with listening(hub):
        complete(told, session)
    follower.wait_for_end()


def test_a_setting_that_cannot_be_read_keeps_no_signal_back(told: str, session: Session) -> None:
    heard = []

    def hear(**arguments: object) -> None:
        heard.append(arguments["signal"])

    events_appended.connect(hear)
    try:
        with override_settings(ASM_STORE_NOTIFY="perhaps"):
            append(told, session)
    finally:
        events_appended.disconnect(hear)
    assert heard == [events_appended]


def test_a_system_without_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "register_at_fork")
    run_path(telling.__file__, run_name="asm_store.waiting.again")
