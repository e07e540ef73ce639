"""Is what is stored as a store leaves it? Asked of the database, and of the storages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ..backends.arguments import flag
from ..backends.reading import session_not_found
from ..db import get_operations
from ..events.sanitizing import shown
from ..queries.paging import ask
from .defects import Defect, Scope, all_defects
from .summing import differing_hours
from .unreadable import findings

EXAMPLES = 5

CIRCLE = (
    "Sessions that are above themselves by their parents, or below such ones: give one of each "
    "circle another parent_session, or none."
)
SUMS = (
    "Hours whose sums are not those of their runs and sessions: another program has written the "
    "tables. asm_maintenance --sum-up --anew adds all up again."
)
CONTENTS = {
    "artifacts_without_content": (
        "Artifacts whose content is gone: restore it from a backup, put it again, or delete them."
    ),
    "artifacts_changed": (
        "Artifacts whose content is not what was put: restore it from a backup, or put it again."
    ),
    "artifacts_unreadable": (
        "Artifacts whose content the storage cannot give: see what the storage lacks."
    ),
    "artifacts_in_unknown_storage": (
        "Artifacts in storages that are not in STORAGES: give STORAGES their aliases again."
    ),
}


@dataclass(frozen=True, slots=True)
class HealthIssue:
    """What is wrong with some records.

    `code` is stable; `message` says what it is and what to do; `examples` are the ids of up to
    five of the `count` records, a counter's is its session's, of sums the beginning of their hour;
    `repair()` mends what `is_repairable`.
    """

    code: str
    message: str
    count: int
    examples: tuple[str, ...]
    is_repairable: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "examples": list(self.examples)}


def health_check(
    *, using: str | None = None, session_id: str | None = None, deep: bool = False
) -> list[HealthIssue]:
    """What is wrong with the records of a database, or of one session; empty: nothing.

    `using` is an alias of `DATABASES`, by default the default store's. The database is asked by
    one statement for each kind of issue, and each artifact's storage whether the content is there;
    `deep` reads all contents and compares their checksums. Nothing is locked, and work may go on
    meanwhile: a removal that is under way shows as an issue that can be repaired.

    Raises `ValidationError` for bad arguments, `SessionNotFound` when nothing is stored of the
    session, `StorageError` when the database fails.
    """
    scope, is_deep = Scope.of(using, session_id), flag(deep, "deep")
    if scope.session_id is not None and scope.is_empty():
        raise session_not_found(scope.session_id)
    found = [*_of_rows(scope), *_of_parents(scope), *_of_contents(scope, is_deep)]
    return found if scope.session_id is not None else [*found, *_of_sums(scope)]


def _of_rows(scope: Scope) -> Iterator[HealthIssue]:
    for defect in all_defects():
        if count := ask(scope.using, defect.rows(scope).count):
            yield _issue(defect, scope, count)


def _issue(defect: Defect, scope: Scope, count: int) -> HealthIssue:
    rows = defect.rows(scope)
    examples = rows.order_by("pk").values_list("pk", flat=True)[:EXAMPLES]
    return HealthIssue(
        defect.code,
        defect.message.format(values=_values(rows, defect.named)),
        count,
        tuple(ask(scope.using, partial(list, examples))),
        defect.is_repairable,
    )


def _values(rows: Any, column: str) -> str:
    """Some of those that the rows have in this column."""
    if not column:
        return ""
    values = rows.order_by(column).values_list(column, flat=True).distinct()[:EXAMPLES]
    return ", ".join(map(shown, ask(rows.db, partial(list, values))))


def _of_parents(scope: Scope) -> Iterator[HealthIssue]:
    operations, pk = get_operations(scope.using), scope.session_id
    if pk is None:
        count, ids = ask(scope.using, partial(operations.sessions_in_circles, EXAMPLES))
    else:
        ids = [pk] if ask(scope.using, partial(operations.is_in_circle, pk)) else []
        count = len(ids)
    if count:
        yield HealthIssue("parents_in_circle", CIRCLE, count, tuple(ids), is_repairable=False)


def _of_sums(scope: Scope) -> Iterator[HealthIssue]:
    hours = ask(scope.using, partial(differing_hours, scope.using))
    if hours:
        examples = tuple(hour.isoformat() for hour in hours[:EXAMPLES])
        yield HealthIssue("usage_sums_differ", SUMS, len(hours), examples, is_repairable=False)


def _of_contents(scope: Scope, deep: bool) -> Iterator[HealthIssue]:
    counts = dict.fromkeys(CONTENTS, 0)
    examples: dict[str, list[str]] = {code: [] for code in CONTENTS}
    for finding in findings(scope, deep=deep):
        counts[finding.code] += 1
        examples[finding.code] += [finding.artifact_id][: EXAMPLES - len(examples[finding.code])]
    for code, message in CONTENTS.items():
        if counts[code]:
            found = tuple(examples[code])
            yield HealthIssue(code, message, counts[code], found, is_repairable=False)
