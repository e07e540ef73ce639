"""Artifacts whose content is not there, or not as it was put."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from django.core.files.storage import InvalidStorageError

from .. import contents
from ..contents import Content
from ..exceptions import StorageError
from ..models import Artifact
from ..queries.paging import Order, ask, pages
from .defects import Scope

BY_ID = Order(("id",))
PAGE = 500
# A page of rows must be small, whatever metadata they have.
COLUMNS = ("key", "storage_backend", "storage_ref", "byte_size", "checksum_sha256")


class Finding(NamedTuple):
    code: str
    artifact_id: str


def findings(scope: Scope, *, deep: bool) -> Iterator[Finding]:
    """Look at the content of every artifact; with `deep` read it. In the order of their ids."""
    rows = scope.rows(Artifact).filter(deleted_at=None).only(*COLUMNS)
    for page in pages(rows, BY_ID, PAGE):
        yield from sorted(_in_page(rows, page, deep), key=lambda finding: finding.artifact_id)


def _in_page(rows: Any, page: list[Artifact], deep: bool) -> Iterator[Finding]:
    """Whoever puts or deletes an artifact removes the old content: what is not there is looked
    for again, where the row says by now that it is.
    """
    while page:
        looked = {row.pk: (Content.of(row), _code(Content.of(row), deep)) for row in page}
        found = {pk: (content, code) for pk, (content, code) in looked.items() if code}
        again = rows.filter(pk__in=found)
        stored: list[Artifact] = ask(rows.db, partial(list, again)) if found else []
        page = []
        for row in stored:
            content, code = found[row.pk]
            if Content.of(row) == content:
                yield Finding(code, row.pk)
            else:
                page.append(row)


def _code(content: Content, deep: bool) -> str:
    """What is wrong with it; empty when nothing is."""
    try:
        if not contents.exists(content):
            return "artifacts_without_content"
        if deep:
            contents.compare(content)
    except StorageError as error:
        if isinstance(error.__cause__, InvalidStorageError):
            return "artifacts_in_unknown_storage"
        if isinstance(error.__cause__, FileNotFoundError):
            return "artifacts_without_content"
        # What the storage raised is the cause; content that it gave, and is another, has none.
        return "artifacts_unreadable" if error.__cause__ else "artifacts_changed"
    return ""
