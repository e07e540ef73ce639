"""Every error that a store raises, in one file. Configuration mistakes are ImproperlyConfigured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .models import Event


class StoreError(Exception):
    """Base of all errors of asm_store; `code` is stable and safe to show or to log."""

    code: ClassVar[str] = "store_error"
    # On an error that a writer raises: what it was given and has not stored, in order.
    unwritten_events: Sequence[Event] = ()


class SessionNotFound(StoreError, LookupError):
    """The session is not stored."""

    code = "session_not_found"


class RunNotFound(StoreError, LookupError):
    """The run is not stored."""

    code = "run_not_found"


class ArtifactNotFound(StoreError, LookupError):
    """The artifact is not stored."""

    code = "artifact_not_found"


class ValidationError(StoreError, ValueError):
    """An argument or a record is not acceptable; nothing was stored."""

    code = "validation_error"


class InvalidStatus(ValidationError):
    """The status is unknown, or the state machine does not allow the step to it."""

    code = "invalid_status"


class InvalidEventType(ValidationError):
    """The event type is neither built in nor named in ASM_STORE_EXTRA_EVENT_TYPES."""

    code = "invalid_event_type"


class InvalidCursor(StoreError, ValueError):
    """The cursor was not given out for this resource, order and filters."""

    code = "invalid_cursor"


class QueryError(ValidationError):
    """A filter, an order or a limit of a query is unknown or not acceptable."""

    code = "query_error"


class SequenceConflict(StoreError):
    """The session's latest number is not the expected one; `latest_sequence` carries it."""

    code = "sequence_conflict"

    def __init__(self, message: str = "", *, latest_sequence: int = 0) -> None:
        super().__init__(message)  # the default lets a pickled error be made anew
        self.latest_sequence = latest_sequence


class EventConflict(StoreError):
    """The event id is stored under another session."""

    code = "event_conflict"


class SessionDeleted(StoreError):
    """The session is soft-deleted: it can be read and restored, not written to."""

    code = "session_deleted"


class StorageError(StoreError):
    """The database failed, or the storage of an artifact; `__cause__` is its own error."""

    code = "storage_error"


class MigrationRequired(StorageError):
    """The tables of asm_store are missing from the database; the message names the command."""

    code = "migration_required"


class MaintenanceError(StoreError):
    """Maintenance could not do what it was asked for."""

    code = "maintenance_error"


class ProviderError(StoreError):
    """The provider of a run failed, `__cause__` says how; what had arrived before is stored."""

    code = "provider_error"

    def __init__(self, message: str = "", *, session_id: str = "", run_id: str = "") -> None:
        super().__init__(message)
        self.session_id = session_id
        self.run_id = run_id


class RunTimeout(ProviderError, TimeoutError):
    """The run took longer than its timeout; what had arrived before is stored."""

    code = "run_timeout"


class RunCancelled(ProviderError):
    """The run was cancelled while it was executed; what had arrived before is stored."""

    code = "run_cancelled"
