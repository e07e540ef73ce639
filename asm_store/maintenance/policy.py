"""What is kept, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..events.sanitizing import shown
from ..events.types import EventType
from ..exceptions import ValidationError
from ..fields import clean_event_type, clean_status, clean_whole_number
from ..models import Session

# What a session's life is told by: these are never pruned.
PROTECTED_TYPES = frozenset(
    {
        EventType.SESSION_CREATED,
        EventType.RUN_STARTED,
        EventType.RUN_COMPLETED,
        EventType.RUN_FAILED,
        EventType.ERROR_OCCURRED,
    }
)
# A hundred years, and more rows than a transaction that others wait for should have.
MAX_DAYS = 36_525
MAX_HOURS = MAX_DAYS * 24
MAX_BATCH = 50_000

_LIMITS = {
    "max_session_age_days": MAX_DAYS,
    "max_completed_session_age_days": MAX_DAYS,
    "hard_delete_after_days": MAX_DAYS,
    "max_run_age_hours": MAX_HOURS,
    "max_events_per_session": None,
    "max_total_events": None,
}


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What maintenance deletes. None is no limit; numbers are whole and >= 1.

    Raises `ValidationError` (`InvalidStatus`, `InvalidEventType`) for a value that makes no sense.
    """

    max_session_age_days: int | None = None
    """Soft-delete sessions, whatever their status, that were not used for so many days."""
    max_completed_session_age_days: int | None = 90
    """Likewise those whose status is not in `exempt_statuses`."""
    max_events_per_session: int | None = None
    """Prune the events of a session that has more."""
    max_total_events: int | None = None
    """Prune events, of the least recently used sessions first, while the database has more."""
    hard_delete_after_days: int | None = 30
    """Remove sessions that were soft-deleted so many days ago, with all that is theirs."""
    archive_before_prune: bool = False
    """Delete nothing that was not written to `archive_storage` and read back before."""
    archive_storage: str | None = None
    """An alias in `STORAGES`."""
    exempt_statuses: tuple[str, ...] = ("active", "paused")
    exempt_tags: tuple[str, ...] = ("pinned",)
    """A session with one of these tags is neither deleted nor pruned."""
    prune_event_types_first: tuple[str, ...] = ("message_streamed", "token_usage_updated")
    batch_size: int = 2_000
    """How many rows, about, one transaction changes."""
    max_run_age_hours: int | None = None
    """End runs that are running for so many hours as timed out."""

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            if value is not None:
                _check(name, value, most)
        _check("batch_size", self.batch_size, MAX_BATCH)
        self._tidy("exempt_statuses", lambda value: clean_status(value, Session.Status.values))
        self._tidy("exempt_tags", _clean_tag)
        self._tidy("prune_event_types_first", _clean_prunable)
        self._check_archive()

    def _tidy(self, name: str, clean: Callable[[object], str]) -> None:
        """Make a list of strings a tuple without doubles."""
        value: Any = getattr(self, name)
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise ValidationError(f"{name}: expected a list of strings, got {shown(value)}.")
        try:
            cleaned = tuple(dict.fromkeys(clean(item) for item in value))
        except ValidationError as error:
            raise type(error)(f"{name}: {error}") from None
        object.__setattr__(self, name, cleaned)

    def _check_archive(self) -> None:
        is_wanted: Any = self.archive_before_prune
        if type(is_wanted) is not bool:
            given = shown(is_wanted)
            raise ValidationError(f"archive_before_prune: expected True or False, got {given}.")
        alias: Any = self.archive_storage
        if alias is not None and (not isinstance(alias, str) or not alias):
            given = shown(alias)
            raise ValidationError(f"archive_storage: expected an alias of STORAGES, got {given}.")
        if is_wanted and alias is None:
            raise ValidationError(
                "archive_storage: name the alias of STORAGES that archive_before_prune writes to. "
                "Archives hold all that was said: nobody else should be able to read them."
            )

    @classmethod
    def from_settings(cls, **changes: Any) -> Self:
        """The policy that `ASM_STORE_RETENTION` says, a mapping of these fields, with `changes`.

        `ImproperlyConfigured` for a setting, `ValidationError` for changes that make no sense.
        """
        configured = conf.retention()
        known = [field.name for field in fields(cls)]
        for name in configured:
            if name not in known:
                raise ImproperlyConfigured(
                    f"ASM_STORE_RETENTION has an unknown {shown(name)}; known are "
                    f"{', '.join(known)}."
                )
        try:
            cls(**configured)
        except ValidationError as error:
            raise ImproperlyConfigured(f"ASM_STORE_RETENTION: {error}") from error
        return cls(**{**configured, **changes})


def _check(name: str, value: object, most: int | None) -> None:
    limits = (1,) if most is None else (1, most)
    clean_whole_number(value, name, *limits)


def _clean_tag(value: object) -> str:
    if not isinstance(value, str):
        raise ValidationError(f"expected a tag, got {shown(value)}.")
    return str.__str__(value)


def _clean_prunable(value: object) -> str:
    name = clean_event_type(value)
    if name in PROTECTED_TYPES:
        raise ValidationError(f"{name} is never pruned.")
    return name
