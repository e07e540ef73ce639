"""What can be wrong with the rows, as conditions that the database looks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from .. import conf
from ..fields import BUILT_IN_TYPES, clean_id
from ..models import Artifact, Event, Run, Session, SessionSequence
from ..queries.paging import ask, database


@dataclass(frozen=True, slots=True)
class Scope:
    """The records to look at: all of a database, or those of one session."""

    using: str
    session_id: str | None

    @classmethod
    def of(cls, using: str | None, session_id: str | None) -> Scope:
        pk = None if session_id is None else clean_id(session_id, "session_id")
        return cls(database(using), pk)

    def rows(self, kind: type[Model]) -> QuerySet[Any]:
        rows = kind._base_manager.using(self.using)
        if self.session_id is None:
            return rows
        column = "pk" if kind is Session else "session_id"
        return rows.filter(**{column: self.session_id})

    def is_empty(self) -> bool:
        """Whether nothing is stored of the one session."""
        kinds = (Session, SessionSequence, Event, Run, Artifact)
        return not any(ask(self.using, self.rows(kind).exists) for kind in kinds)


@dataclass(frozen=True, slots=True)
class Defect:
    """Rows of a kind that meet a condition, and should not."""

    code: str
    kind: type[Model]
    condition: Q
    message: str
    """With `{values}`: the values of the column `named` that such rows have."""
    is_repairable: bool = False
    named: str = ""

    def rows(self, scope: Scope) -> QuerySet[Any]:
        return scope.rows(self.kind).filter(self.condition)


def _stored(kind: type[Model], key: str, **columns: Any) -> Exists:
    """Whether there is a row with the primary key that the column `key` names, and such columns."""
    # The second condition says nothing new. For the first alone MariaDB would write the keys of
    # all rows to a temporary table on disk and look there, which takes ten times as long.
    pk = OuterRef(key)
    return Exists(kind._base_manager.filter(pk=pk, pk__gte=pk, **columns))


_HAS_SESSION = _stored(Session, "session_id")
_HAS_COUNTER = _stored(SessionSequence, "session_id")
_HAS_RUN = _stored(Run, "run_id")
_HAS_FOREIGN_RUN = Exists(
    Run.objects.filter(pk=OuterRef("run_id")).exclude(session_id=OuterRef("session_id"))
)
_HAS_ENDED = _stored(
    Session,
    "session_id",
    status__in=sorted(Session.TERMINAL_STATUSES),
    deleted_at=None,
)
_HAS_LATER_EVENT = Exists(
    Event.objects.filter(session_id=OuterRef("pk"), sequence_number__gt=OuterRef("last_sequence"))
)

_FINISH = "the session was removed and this was left behind: repair removes it"
_UNKNOWN = (
    "of sessions that are not stored, and nothing tells whether they were removed: restore the "
    "sessions from an archive or a backup, or delete the rows by hand"
)

COUNTERS_WITHOUT_SESSION = Defect(
    "counters_without_session",
    SessionSequence,
    Q(~_HAS_SESSION),
    f"Counters without their session: {_FINISH}.",
    is_repairable=True,
)
# Those with a counter are the rest of a removal that was killed, which takes the counter last.
EVENTS_WITHOUT_SESSION = Defect(
    "events_without_session",
    Event,
    Q(~_HAS_SESSION) & Q(_HAS_COUNTER),
    f"Events without their session: {_FINISH}.",
    is_repairable=True,
)
RUNS_WITHOUT_SESSION = Defect(
    "runs_without_session",
    Run,
    Q(~_HAS_SESSION) & Q(_HAS_COUNTER),
    f"Runs without their session: {_FINISH}.",
    is_repairable=True,
)
ARTIFACTS_WITHOUT_SESSION = Defect(
    "artifacts_without_session",
    Artifact,
    Q(session_id__isnull=False) & Q(~_HAS_SESSION),
    f"Artifacts without their session: {_FINISH}, with its content.",
    is_repairable=True,
)
COUNTERS_MISSING = Defect(
    "counters_missing",
    Session,
    Q(~_stored(SessionSequence, "pk")),
    "Sessions without a counter, which nothing can be appended to: repair makes it anew.",
    is_repairable=True,
)
COUNTERS_BEHIND = Defect(
    "counters_behind",
    SessionSequence,
    Q(_HAS_SESSION) & (Q(last_sequence__lt=0) | Q(_HAS_LATER_EVENT)),
    "Counters lower than a number that is taken, so that appends fail: repair raises them.",
    is_repairable=True,
)
PARENTS_MISSING = Defect(
    "parents_missing",
    Session,
    Q(parent_session_id__isnull=False) & Q(~_stored(Session, "parent_session_id")),
    "Sessions whose parent is not stored: repair leaves them without one, as its removal would.",
    is_repairable=True,
)

_REFERENCES = (
    Defect(
        "events_of_unknown_sessions",
        Event,
        Q(~_HAS_SESSION) & Q(~_HAS_COUNTER),
        f"Events {_UNKNOWN}.",
    ),
    Defect(
        "runs_of_unknown_sessions",
        Run,
        Q(~_HAS_SESSION) & Q(~_HAS_COUNTER),
        f"Runs {_UNKNOWN}.",
    ),
    Defect(
        "events_without_run",
        Event,
        Q(run_id__isnull=False) & Q(~_HAS_RUN),
        "Events of runs that are not stored: restore the runs from an archive or a backup.",
    ),
    Defect(
        "events_with_foreign_run",
        Event,
        Q(run_id__isnull=False) & Q(_HAS_FOREIGN_RUN),
        "Events of runs that belong to other sessions: find out which of the two is right.",
    ),
    Defect(
        "artifacts_without_run",
        Artifact,
        Q(run_id__isnull=False) & Q(~_HAS_RUN),
        "Artifacts of runs that are not stored: restore the runs, or put the artifacts again.",
    ),
    Defect(
        "artifacts_with_foreign_run",
        Artifact,
        Q(run_id__isnull=False) & Q(_HAS_FOREIGN_RUN),
        "Artifacts of runs that belong to other sessions: put them again with the right one.",
    ),
)

_VALUES = (
    Defect(
        "events_with_nonpositive_numbers",
        Event,
        Q(sequence_number__lt=1) | Q(schema_version__lt=1),
        "Events with a sequence_number or schema_version below 1: restore them from an archive "
        "or a backup.",
    ),
    Defect(
        "sessions_with_unknown_status",
        Session,
        ~Q(status__in=Session.Status.values),
        "Sessions with an unknown status ({values}): set one that there is.",
        named="status",
    ),
    Defect(
        "runs_with_unknown_status",
        Run,
        ~Q(status__in=Run.Status.values),
        "Runs with an unknown status ({values}): set one that there is.",
        named="status",
    ),
    Defect(
        "runs_left_running",
        Run,
        Q(status=Run.Status.RUNNING) & Q(_HAS_ENDED),
        "Runs still running in sessions that have ended: end them, or let maintenance do it by "
        "max_run_age_hours.",
    ),
)


def _unknown_types() -> Defect:
    known = sorted(BUILT_IN_TYPES | conf.extra_event_types())
    return Defect(
        "events_with_unknown_type",
        Event,
        ~Q(type__in=known),
        "Events of unknown types ({values}): name these in ASM_STORE_EXTRA_EVENT_TYPES.",
        named="type",
    )


REPAIRABLE = (
    COUNTERS_WITHOUT_SESSION,
    EVENTS_WITHOUT_SESSION,
    RUNS_WITHOUT_SESSION,
    ARTIFACTS_WITHOUT_SESSION,
    COUNTERS_MISSING,
    COUNTERS_BEHIND,
    PARENTS_MISSING,
)


def all_defects() -> tuple[Defect, ...]:
    """Each costs a statement that looks at the rows of its kind once."""
    return (*REPAIRABLE, *_REFERENCES, *_VALUES, _unknown_types())
