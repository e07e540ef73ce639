"""The contract of every store: public methods that check and prepare, over a few primitives."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.utils import timezone

from .. import conf
from ..events.sanitizing import Sanitizer
from ..exceptions import RunNotFound, ValidationError
from ..fields import clean_id, clean_whole_number
from ..models import Event, Run, Session
from ..pricing import calculate_cost
from . import arguments
from .buffering import Buffer
from .measuring import measured
from .reading import EventReader
from .writing import AsyncEventWriter, EventWriter

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Change = Callable[[Session], Collection[str]]


def async_twin(
    method: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """The `a` method for `method`: the same call, in the thread that Django's ORM runs in."""

    async def twin(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # By name, not `method` itself: the store's own class may have another.
        own: Callable[P, R] = getattr(self, method.__name__)
        return await sync_to_async(own)(*args, **kwargs)

    twin.__name__ = f"a{method.__name__}"
    twin.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.{twin.__name__}"
    twin.__doc__ = f"The async twin of `{method.__name__}()`."
    twin.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return twin


class BaseSessionStore(EventReader):
    """Keeps sessions, their runs, and their events in numbered order.

    Records are instances of `asm_store.models`. What a caller gives is never changed; what is
    returned is a new instance that equals what is stored. Times are aware datetimes. Every write
    is all or nothing, and raises, beside what its own text says, `ValidationError` for what
    cannot be stored (before anything is looked up) and `StorageError` when the database fails.
    A store holds no state tied to a thread.
    """

    # Does a write join the caller's `transaction.atomic()` block?
    supports_transactions: ClassVar[bool] = False
    # Do other processes see what is stored?
    supports_processes: ClassVar[bool] = False

    def __init__(self, *, alias: str | None = None) -> None:
        self.alias = alias

    # Sessions

    def save_session(self, session: Session) -> Session:
        """Store `session`, replacing every column of a stored one but its id.

        A stored `deleted_at` is kept when `session` has none: `restore_session()` clears it.
        An unknown `parent_session_id`: `SessionNotFound`. Joins the caller's transaction.
        """
        return self._save_session(arguments.prepared_session(session))

    def get_session(self, session_id: str) -> Session:
        """The session, soft-deleted or not; `SessionNotFound` when it is not stored."""
        return self._get_session(clean_id(session_id, "session_id"))

    def update_session(
        self,
        session_id: str,
        *,
        status: str | None = None,
        add_tags: Iterable[str] = (),
        remove_tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """Change a stored session under its lock, so that two callers never undo each other.

        Tags are added without doubles, then removed; `metadata` is merged, key by key;
        `updated_at` becomes now. `SessionNotFound` when it is not stored. Joins the caller's
        transaction.
        """
        sanitizer = Sanitizer(conf.max_event_bytes())
        adding = arguments.strings(add_tags, "add_tags", sanitizer)
        merging = arguments.json_mapping(metadata, "metadata", sanitizer)
        replaced = sanitizer.replaced
        removing = set(arguments.strings(remove_tags, "remove_tags", sanitizer))
        statuses = arguments.session_statuses(status if status is None else [status])

        def change(session: Session) -> Collection[str]:
            if statuses is not None:
                session.status = statuses[0]
            tags = dict.fromkeys([*session.tags, *adding])
            session.tags = [tag for tag in tags if tag not in removing]
            session.metadata = {**session.metadata, **merging}
            session.count_replaced(replaced)
            session.updated_at = timezone.now()
            return ("status", "tags", "metadata", "updated_at")

        return self._change_session(clean_id(session_id, "session_id"), change)

    def list_sessions(
        self,
        *,
        status: str | Iterable[str] | None = None,
        agent_id: str | None = None,
        include_deleted: bool = False,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[Session]:
        """Sessions, newest `created_at` first, ties by id descending.

        `status` is one or several; an empty list matches nothing.
        """
        return self._list_sessions(
            statuses=arguments.session_statuses(status),
            agent_id=arguments.optional_text(agent_id, "agent_id"),
            include_deleted=arguments.flag(include_deleted, "include_deleted"),
            limit=arguments.row_count(limit, "limit"),
            offset=arguments.row_count(offset, "offset") or 0,
        )

    def delete_session(self, session_id: str) -> None:
        """Remove the session with its runs, events, counter and artifacts.

        Its children stay, without a parent. An absent id is no error. Joins the caller's
        transaction; the artifacts' content goes after the commit.
        """
        self._delete_session(clean_id(session_id, "session_id"))

    def soft_delete_session(self, session_id: str) -> Session:
        """Set `deleted_at`, once; afterwards the session can be read, but not appended to.

        Waits for appends in flight: none commits after this has returned. `SessionNotFound` when
        it is not stored. Joins the caller's transaction.
        """

        def change(session: Session) -> Collection[str]:
            session.deleted_at = session.deleted_at or timezone.now()
            return ("deleted_at",)

        return self._change_session(clean_id(session_id, "session_id"), change)

    def restore_session(self, session_id: str) -> Session:
        """Clear `deleted_at`; `updated_at` becomes now, so that retention counts from here.

        `SessionNotFound` when it is not stored. Joins the caller's transaction.
        """

        def change(session: Session) -> Collection[str]:
            session.deleted_at = None
            session.updated_at = timezone.now()
            return ("deleted_at", "updated_at")

        return self._change_session(clean_id(session_id, "session_id"), change)

    # Runs

    def save_run(self, run: Run) -> Run:
        """Store `run`, replacing every column of a stored one but its id.

        Without a `cost_usd` it keeps the stored one; without either, a run that has ended gets
        its price, when there is one (docs/costs.md). Unknown session: `SessionNotFound`; a new
        run of a soft-deleted one: `SessionDeleted`; a stored run of another session:
        `ValidationError`. Joins the caller's transaction.
        """
        record = arguments.prepared(run, Run)
        return self._save_run(record, keep_cost=_priced(record))

    def get_run(self, run_id: str) -> Run:
        """The run; `RunNotFound` when it is not stored."""
        return self._get_run(clean_id(run_id, "run_id"))

    def list_runs(
        self,
        session_id: str,
        *,
        status: str | Iterable[str] | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """The session's runs, oldest `started_at` first, ties by id."""
        return self._list_runs(
            clean_id(session_id, "session_id"),
            statuses=arguments.run_statuses(status),
            limit=arguments.row_count(limit, "limit"),
        )

    def get_active_run(self, session_id: str) -> Run | None:
        """The session's latest-started run that is running, or None."""
        return self._get_active_run(clean_id(session_id, "session_id"))

    # Events

    def append_event(self, event: Event) -> None:
        """As `append_event_with_sequence()`, with nothing returned."""
        self.append_event_with_sequence(event)

    def append_event_with_sequence(self, event: Event) -> Event:
        """Store `event` under the next number of its session; as a batch of one."""
        return self.append_events([event])[0]

    def append_events(
        self, events: Iterable[Event], *, expected_sequence: int | None = None
    ) -> list[Event]:
        """Store `events`, all or none, numbered in their order, from 1, without gaps.

        Returns the stored events in the order given. An id that its session already holds comes
        back as it was stored and spends no number, so that an append can be tried again.
        Several sessions may be mixed. With `expected_sequence` the batch must be of one session,
        and is refused with `SequenceConflict` unless the session's latest number is that one (or
        the whole batch is stored already). Unknown session: `SessionNotFound`; soft-deleted:
        `SessionDeleted`; an id stored under another session: `EventConflict`; unknown run:
        `RunNotFound`; another session's run: `ValidationError`. Joins the caller's transaction.
        """
        records = arguments.prepared_events(events)
        if expected_sequence is not None:
            clean_whole_number(expected_sequence, "expected_sequence")
            if len({record.session_id for record in records}) > 1:
                raise ValidationError("expected_sequence: the batch is of several sessions.")
        if not records:
            return []
        return measured(self, len(records), partial(self._append, records, expected_sequence))

    def flush(
        self,
        session: Session,
        run: Run,
        events: Iterable[Event] = (),
        provider_metadata: Mapping[str, Any] | None = None,
    ) -> list[Event]:
        """Store a session, its run and that run's events in one transaction, all or nothing.

        `provider_metadata` is merged into the run's. Returns the stored events as
        `append_events()` does. The run's cost is as `save_run()` has it. Ids that do not belong
        together: `ValidationError`. Joins the caller's transaction.
        """
        sanitizer = Sanitizer(conf.max_event_bytes())
        merging = arguments.json_mapping(provider_metadata, "provider_metadata", sanitizer)
        session_record = arguments.prepared_session(session)
        run_record = arguments.prepared(run, Run)
        if merging:
            run_record.provider_metadata = {**run_record.provider_metadata, **merging}
            run_record = run_record.prepared().redacted()
            run_record.count_replaced(sanitizer.replaced)
        records = arguments.prepared_events(events)
        arguments.check_together(session_record, run_record, records)
        keep_cost = _priced(run_record)
        flush = partial(self._flush, session_record, run_record, records, keep_cost=keep_cost)
        return measured(self, len(records), flush)

    def writer(
        self, session_id: str, *, max_events: int = 100, max_delay: float = 0.1
    ) -> EventWriter:
        """A context manager whose `write(event)` appends to the session in batches.

        For a fast producer, such as a stream of tokens: a batch is stored when it has
        `max_events`, or when its first event is `max_delay` seconds old, by a thread of the
        writer's own; and what is left at the end of the `with` block, after an exception too.
        A writer that is opened in the caller's transaction joins it: batches are stored in the
        thread that writes, on size and age at the next write, and at the end.
        """
        return EventWriter(self, self._buffer(session_id, max_events, max_delay))

    def awriter(
        self, session_id: str, *, max_events: int = 100, max_delay: float = 0.1
    ) -> AsyncEventWriter:
        """As `writer()`, for `async with` and `await writer.write(event)`."""
        return AsyncEventWriter(self, self._buffer(session_id, max_events, max_delay))

    @staticmethod
    def _buffer(session_id: str, max_events: int, max_delay: float) -> Buffer:
        return Buffer(
            clean_id(session_id, "session_id"),
            clean_whole_number(max_events, "max_events", 1),
            arguments.seconds(max_delay, "max_delay"),
        )

    def get_latest_sequence(self, session_id: str) -> int:
        """The number of the session's latest event; 0 when there is none."""
        return self._get_latest_sequence(clean_id(session_id, "session_id"))

    asave_session = async_twin(save_session)
    aget_session = async_twin(get_session)
    aupdate_session = async_twin(update_session)
    alist_sessions = async_twin(list_sessions)
    adelete_session = async_twin(delete_session)
    asoft_delete_session = async_twin(soft_delete_session)
    arestore_session = async_twin(restore_session)
    asave_run = async_twin(save_run)
    aget_run = async_twin(get_run)
    alist_runs = async_twin(list_runs)
    aget_active_run = async_twin(get_active_run)
    aappend_event = async_twin(append_event)
    aappend_event_with_sequence = async_twin(append_event_with_sequence)
    aappend_events = async_twin(append_events)
    aflush = async_twin(flush)
    aget_latest_sequence = async_twin(get_latest_sequence)

    # What a store must do itself. Arguments are checked, records prepared and the store's own to
    # keep; what is returned is the caller's own to change.

    @abstractmethod
    def _save_session(self, session: Session) -> Session: ...

    @abstractmethod
    def _get_session(self, session_id: str) -> Session: ...

    @abstractmethod
    def _change_session(self, session_id: str, change: Change) -> Session:
        """Apply `change` to the locked session; prepare and store the columns that it names."""

    @abstractmethod
    def _list_sessions(
        self,
        *,
        statuses: tuple[str, ...] | None,
        agent_id: str | None,
        include_deleted: bool,
        limit: int | None,
        offset: int,
    ) -> list[Session]: ...

    @abstractmethod
    def _delete_session(self, session_id: str) -> None: ...

    @abstractmethod
    def _save_run(self, run: Run, *, keep_cost: bool) -> Run:
        """Store `run`; with `keep_cost` a stored cost goes before the one that it has."""

    @abstractmethod
    def _get_run(self, run_id: str) -> Run: ...

    @abstractmethod
    def _list_runs(
        self, session_id: str, *, statuses: tuple[str, ...] | None, limit: int | None
    ) -> list[Run]: ...

    @abstractmethod
    def _get_active_run(self, session_id: str) -> Run | None: ...

    @abstractmethod
    def _append(self, events: list[Event], expected_sequence: int | None) -> list[Event]: ...

    @abstractmethod
    def _flush(
        self, session: Session, run: Run, events: list[Event], *, keep_cost: bool
    ) -> list[Event]: ...

    @abstractmethod
    def _get_latest_sequence(self, session_id: str) -> int: ...

    @abstractmethod
    def _atomically(self, body: Callable[[], T]) -> T:
        """`body()`, whose writes are stored together or, when it raises, not at all.

        It may be called again, when that may help. Joins the caller's transaction.
        """

    @abstractmethod
    def _locked(self, run_id: str) -> tuple[Session, Run]:
        """Within `_atomically`: a run and its session, which nobody changes until that ends."""

    def _is_in_block(self) -> bool:
        """Whether a write would join a transaction of the caller's."""
        return False


def run_not_found(run_id: str) -> RunNotFound:
    return RunNotFound(f"run {run_id} is not stored.")


def _priced(run: Run) -> bool:
    """Give a run that has ended without a cost its price; whether a stored cost goes before."""
    if run.cost_usd is not None:
        return False
    if run.status in Run.TERMINAL_STATUSES:
        model = run.provider_metadata.get("model")
        model = model if isinstance(model, str) else None
        run.cost_usd = calculate_cost(run.token_usage, run.provider, model, at=run.started_at)
    return True
