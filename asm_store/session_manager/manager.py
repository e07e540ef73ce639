"""`SessionManager`: the public steps of sessions and runs, each with its async twin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from .. import transcripts
from ..backends import arguments
from ..backends.base import BaseSessionStore, async_twin
from ..exceptions import (
    InvalidStatus,
    SequenceConflict,
    SessionNotFound,
    StoreError,
    ValidationError,
)
from ..fields import clean_id
from ..models import Run, Session
from ..providers import BaseProvider
from . import lifecycle
from .driving import adriven, driven
from .execution import Callback, Execution
from .inputs import messages_of
from .lifecycle import Lifecycle, error_data


class SessionManager:
    """Runs the agent of `provider` in sessions of `store`, and stores all that happens.

    Each step stores its event in one transaction with the new status, and joins the caller's. A
    step that the status does not allow: `InvalidStatus`. Beside what their own text says, steps
    raise what the store's methods raise. A manager holds no state: it can be shared.

    `max_messages`, `max_chars` and `max_tokens` limit the transcript of a continuation, as they
    do for `transcripts.build()`.
    """

    def __init__(
        self,
        store: BaseSessionStore,
        provider: BaseProvider,
        *,
        max_messages: int | None = None,
        max_chars: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        if not isinstance(provider, BaseProvider):
            raise TypeError(f"provider: expected a BaseProvider, got {type(provider).__name__}")
        if not isinstance(name := getattr(provider, "name", None), str) or not name:
            raise TypeError(f"{type(provider).__name__}.name: expected a string, got {name!r}")
        self.store = store
        self.provider = provider
        self._limits = transcripts.Limits(max_messages, max_chars, max_tokens)

    # Sessions

    def start_session(
        self,
        *,
        agent_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        parent_session_id: str | None = None,
    ) -> Session:
        """Store a new session, pending; without `agent_id` its agent has the provider's name."""
        session = self._new_session(agent_id, context, tags, metadata)
        session.parent_session_id = parent_session_id
        return self._lifecycle.create_session(session)

    def activate_session(self, session_id: str) -> Session:
        """A pending session becomes active: runs may start in it."""
        return self._step(session_id, lifecycle.ACTIVATE)

    def complete_session(self, session_id: str) -> Session:
        """An active session becomes completed, for good."""
        return self._step(session_id, lifecycle.COMPLETE)

    def pause_session(self, session_id: str) -> Session:
        """An active session becomes paused: no run starts in it."""
        return self._step(session_id, lifecycle.PAUSE)

    def resume_session(self, session_id: str) -> Session:
        """A paused session becomes active again."""
        return self._step(session_id, lifecycle.RESUME)

    def cancel_session(self, session_id: str) -> Session:
        """An active or paused session becomes cancelled, and with it its runs that go on."""
        return self._step(session_id, lifecycle.CANCEL)

    def fail_session(
        self, session_id: str, error: str | BaseException | Mapping[str, Any]
    ) -> Session:
        """An active session becomes failed; `error` is told by its event."""
        data = error_data(error, "session_failed")
        return self._lifecycle.step_session(session_id, lifecycle.FAIL, data)

    # Runs

    def start_run(self, session_id: str, input: str | Mapping[str, Any]) -> Run:
        """Store a new run of an active session, pending, with the messages of its input.

        `input` is a string, or `{"messages": [{"role": ..., "content": ...}, ...]}`.
        """
        messages = messages_of(input)
        return self._lifecycle.create_run(clean_id(session_id, "session_id"), input, messages)

    def cancel_run(self, run_id: str) -> Run:
        """A pending or running run becomes cancelled; who executes it stops within two seconds."""
        return self._lifecycle.cancel_run(run_id)

    def _begin(
        self,
        run_id: str,
        *,
        event_callback: Callback | None = None,
        continuation: bool = False,
        timeout: float | None = None,
    ) -> Execution:
        """Execute a pending run of an active session, and return its `RunResult`.

        Every event is stored as it arrives; `event_callback` is called with each event of the
        run, in order (a streamed delta before it is stored, without a number); its own exception
        fails the run and passes. With `continuation` the provider gets the transcript of what
        was said before. When the provider fails, run and session fail: `ProviderError`. When it
        takes longer than `timeout` seconds: `RunTimeout`; when the run was cancelled meanwhile:
        `RunCancelled`. In each case what had arrived is kept.
        """
        _check_callback(event_callback)
        arguments.flag(continuation, "continuation")
        seconds = arguments.optional_seconds(timeout, "timeout")
        return self._execution(run_id, event_callback, continuation, seconds, ends_session=False)

    def _begin_once(
        self,
        input: str | Mapping[str, Any],
        *,
        session_id: str | None = None,
        agent_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        event_callback: Callback | None = None,
        continuation: bool = False,
        timeout: float | None = None,
    ) -> Execution:
        """The whole life of one run: its session, the run, its end; returns its `RunResult`.

        The session is made, and completed when the run is. With the `session_id` of a stored one
        it is that session: a pending one is activated, a paused one resumed; one that was active
        stays so, for the next run. Other arguments and errors are those of `start_session()` and
        `execute_run()`; with a stored session the former are not looked at.
        """
        _check_callback(event_callback)
        arguments.flag(continuation, "continuation")
        seconds = arguments.optional_seconds(timeout, "timeout")
        messages = messages_of(input)
        new = self._new_session(agent_id, context, tags, metadata)
        if session_id is not None:
            new.id = clean_id(session_id, "session_id")

        run, ends_session = self._create_run(new, input, messages)
        try:
            return self._execution(run.id, event_callback, continuation, seconds, ends_session)
        except BaseException:
            # Nobody else knows of it, or would end what was made for it.
            with suppress(StoreError):
                self.cancel_session(new.id) if ends_session else self.cancel_run(run.id)
            raise

    execute_run = driven(_begin, "execute_run")
    run_once = driven(_begin_once, "run_once")

    astart_session = async_twin(start_session)
    aactivate_session = async_twin(activate_session)
    acomplete_session = async_twin(complete_session)
    apause_session = async_twin(pause_session)
    aresume_session = async_twin(resume_session)
    acancel_session = async_twin(cancel_session)
    afail_session = async_twin(fail_session)
    astart_run = async_twin(start_run)
    acancel_run = async_twin(cancel_run)
    aexecute_run = adriven(_begin, "aexecute_run")
    arun_once = adriven(_begin_once, "arun_once")

    @property
    def _lifecycle(self) -> Lifecycle:
        return Lifecycle(self.store, self.provider.name)

    def _step(self, session_id: str, step: lifecycle.Step) -> Session:
        return self._lifecycle.step_session(session_id, step, {})

    def _new_session(
        self,
        agent_id: str | None,
        context: Mapping[str, Any] | None,
        tags: Iterable[str],
        metadata: Mapping[str, Any] | None,
    ) -> Session:
        return Session(
            agent_id=self.provider.name if agent_id is None else agent_id,
            context={} if context is None else context,
            tags=tags if isinstance(tags, str) or not isinstance(tags, Iterable) else list(tags),
            metadata={} if metadata is None else metadata,
        )

    def _create_run(
        self, new: Session, input: Any, messages: list[dict[str, Any]]
    ) -> tuple[Run, bool]:
        """A pending run, and whether its session was not active before."""
        was_active: list[bool] = []
        create = partial(
            self._lifecycle.create_run,
            *(new.id, input, messages),
            first=lambda: was_active.append(self._make_active(new)),
        )
        try:
            run = create()
        except (SequenceConflict, InvalidStatus):
            run = create()  # the session was made, or made active, by somebody else meanwhile
        return run, not was_active[-1]

    def _make_active(self, new: Session) -> bool:
        """Whether the session was active before; it is from now on."""
        try:
            status = self.store.get_session(new.id).status
        except SessionNotFound:
            self._lifecycle.create_session(new)
            status = Session.Status.PENDING
        if status == Session.Status.ACTIVE:
            return True
        is_paused = status == Session.Status.PAUSED
        self._step(new.id, lifecycle.RESUME if is_paused else lifecycle.ACTIVATE)
        return False

    def _execution(
        self,
        run_id: str,
        callback: Callback | None,
        continuation: bool,
        timeout: float | None,
        ends_session: bool,
    ) -> Execution:
        transcript = None
        if continuation:
            run = self.store.get_run(run_id)
            transcript = transcripts.build_before(self.store, run, self._limits)
        session, run = self._lifecycle.begin_run(run_id)
        return Execution(
            self._lifecycle,
            self.provider,
            session,
            run,
            transcript=transcript,
            callback=callback,
            timeout=timeout,
            ends_session=ends_session,
        )


def _check_callback(callback: object) -> None:
    if callback is not None and not callable(callback):
        raise ValidationError(f"event_callback: expected a function, not {type(callback).__name__}")
