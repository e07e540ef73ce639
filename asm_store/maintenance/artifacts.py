"""Artifacts that nobody can reach: rows without their session, contents without a row."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from functools import partial
from itertools import islice

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet

from .. import contents
from ..contents import Place
from ..expressions import OneOf
from ..models import Artifact, Session
from ..queries.paging import Order, pages
from .orphans import discard_artifacts
from .work import Work

BY_ID = Order(("id",))
# A put writes the content first and its row after: until then it has none.
YOUNGEST = timedelta(hours=1)
BATCH = 200


def clean_artifacts(work: Work) -> None:
    """Remove rows whose session is gone, with their contents, and contents that have no row."""
    _clean_rows(work)
    for alias in settings.STORAGES:
        _clean_contents(work, alias)


def _clean_rows(work: Work) -> None:
    orphans = without_session(work.using)
    if work.dry_run:
        work.add("artifacts_cleaned", work.read(orphans.count))
        return
    for page in pages(orphans.only("id"), BY_ID, work.size):
        ids = [row.pk for row in page]
        work.add("artifacts_cleaned", work.write(partial(discard_orphans, orphans, ids)))


def without_session(using: str) -> QuerySet[Artifact]:
    """Rows that name a session which is not stored."""
    sessions = Session.objects.using(using).filter(pk=OuterRef("session_id"))
    rows = Artifact._base_manager.using(using).filter(session_id__isnull=False)
    return rows.filter(~Exists(sessions))


def discard_orphans(orphans: QuerySet[Artifact], ids: list[str]) -> int:
    """Delete those of `ids` that are still orphans, with their contents; how many there were."""
    # Locked first: a put may give one to another session meanwhile.
    rows = Artifact._base_manager.using(orphans.db).filter(pk__in=ids).order_by("pk")
    list(rows.select_for_update().values_list("pk"))
    still = list(orphans.filter(pk__in=ids).values_list("pk", flat=True))
    return discard_artifacts(orphans.db, OneOf("pk", still))


def _clean_contents(work: Work, alias: str) -> None:
    """A crash left them: a content comes before its row, and goes after it."""
    names = contents.listed(alias, work.using)
    while some := list(islice(names, BATCH)):
        needed = _needed(work, alias, some)
        idle = (Place(alias, name) for name in some if name not in needed)
        orphaned = [place for place in idle if _is_old(work, place)]
        if not work.dry_run:
            for place in orphaned:
                contents.discard(place)
        work.add("artifacts_cleaned", len(orphaned))


def _needed(work: Work, alias: str, names: Collection[str]) -> set[str]:
    rows = Artifact._base_manager.using(work.using).filter(deleted_at=None, storage_backend=alias)
    found = rows.filter(storage_ref__in=names).values_list("storage_ref", flat=True)
    return work.read(partial(set, found))


def _is_old(work: Work, place: Place) -> bool:
    moment = contents.modified_at(place)
    return moment is not None and moment < work.now - YOUNGEST
