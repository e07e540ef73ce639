"""Files that agents make: registered in the database, their content in Django's `STORAGES`."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from django.core.files import File
from django.core.files.storage import storages
from django.db.models import Count, QuerySet, Sum
from django.utils import timezone

from . import contents
from .backends import transactions
from .backends.base import async_twin, run_not_found
from .backends.reading import session_not_found
from .contents import Content, Place
from .db import get_operations
from .events.sanitizing import has_unstorable, shown
from .exceptions import ArtifactNotFound, SessionDeleted, StorageError, ValidationError
from .fields import clean_id
from .models import Artifact, Run, Session

MAX_KEY_LENGTH = 512
# A key's row, as far as other writers change it.
State = tuple[Place, datetime | None] | None
# What a put replaces of a row that is stored: all but its id.
REPLACED = [field.attname for field in Artifact._meta.concrete_fields if not field.primary_key]


class Readable(Protocol):
    """A file that is open for reading, in binary mode."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ArtifactStats:
    """How many artifacts there are, and how many bytes they have together."""

    count: int
    total_bytes: int


@dataclass(slots=True)
class _Attempts:
    """What one put has found so far. All but the last of its attempts failed, it seems; but of
    one that came to its commit, the answer may be all that was lost.
    """

    found: list[State] = field(default_factory=list)
    outdated: set[Place] = field(default_factory=set)

    def are_over(self, known: Artifact, artifact: Artifact) -> bool:
        """Whether what an earlier attempt may have stored was replaced or deleted since.

        Its content is gone then, or was never seen; either way another writer came after.
        """
        expected = (self.found[-1], _state(artifact)) if self.found else (_state(known),)
        return _state(known) not in expected


class ArtifactStore:
    """Keeps files by their key: content in the storage `storage`, rows in the database `using`.

    `storage` is an alias of `STORAGES` (else `InvalidStorageError`), for what is put from now on;
    what is stored is read from where its row says. A put or a delete joins the caller's
    transaction; outside one it is tried again as a store's writes are. Beside what their own text
    says, methods raise `ValidationError` for bad arguments, and `StorageError` when the database
    or the storage fails. An artifact store holds no state tied to a thread.
    """

    def __init__(self, storage: str = "default", using: str = "default") -> None:
        for name, alias in (("storage", storage), ("using", using)):
            if not isinstance(alias, str):
                raise TypeError(f"{name}: expected an alias, got {alias!r}")
        storages[storage]
        self.storage = storage
        self.using = using

    def __repr__(self) -> str:
        return f"{type(self).__name__}(storage={self.storage!r}, using={self.using!r})"

    def put(
        self,
        key: str,
        content: bytes | str | Readable,
        *,
        session_id: str | None = None,
        run_id: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Store `content` under `key`, in place of what it had; the stored artifact.

        A string is stored as UTF-8. A file is read from where it stands to its end, in pieces,
        and left open; one that cannot be rewound goes through a temporary file. What its `read()`
        raises passes. Without `content_type` it is guessed from the key. An artifact with a
        `run_id` belongs to the run's session.

        All of a stored row but its id is replaced: `created_at` becomes now, and a deleted key is
        there again. Until the row is stored, and committed, readers get what there was.

        `SessionNotFound`, `RunNotFound`; `SessionDeleted` when the session is soft-deleted;
        `ValidationError` when the run is another session's.
        """
        artifact = _prepared(
            key,
            session_id=session_id,
            run_id=run_id,
            content_type=content_type,
            metadata={} if metadata is None else metadata,
            storage_backend=self.storage,
        )
        contents.check(content)
        # Content may travel for long: a mistake is told before, and once more under locks after.
        transactions.write(self.using, partial(self._lock_owners, artifact.copied()))
        saved = contents.save(
            artifact.key, self.storage, content, artifact.content_type, self.using
        )
        return self._register(artifact, saved)

    def _register(self, artifact: Artifact, content: Content) -> Artifact:
        artifact.storage_ref = content.place.name
        artifact.byte_size = content.byte_size
        artifact.checksum_sha256 = content.checksum_sha256
        attempts = _Attempts()
        store = partial(self._store, artifact, attempts)
        try:
            return transactions.write(self.using, store, partial(store, locking=True))
        except BaseException:
            if not attempts.found:
                contents.discard(content.place)
            raise

    def _store(self, artifact: Artifact, attempts: _Attempts, *, locking: bool = False) -> Artifact:
        """Insert the row, or replace that of the key; its content goes after the commit."""
        artifact = artifact.copied()  # a retry starts from what the caller gave
        self._lock_owners(artifact)
        rows = self._rows().filter(key=artifact.key)
        # A locking read of a row that is missing may keep others from inserting theirs.
        known = rows.select_for_update().first() if locking or rows.exists() else None
        if known is not None:
            artifact.id = known.id
        if known is None:
            self._rows().bulk_create([artifact])
        elif attempts.are_over(known, artifact):
            attempts.outdated.add(Content.of(artifact).place)
        else:
            rows.update(**{name: getattr(artifact, name) for name in REPLACED})
            attempts.outdated |= {Content.of(known).place} - {Content.of(artifact).place}
        contents.discard_after_commit(self.using, attempts.outdated)
        attempts.found.append(_state(known))
        artifact._state.adding, artifact._state.db = False, self.using
        return artifact

    def _lock_owners(self, artifact: Artifact) -> None:
        """See that session and run are there, and stay until the transaction ends."""
        if artifact.session_id is None and artifact.run_id is not None:
            artifact.session_id = self._session_of_run(artifact.run_id)
        if artifact.session_id is not None:
            get_operations(self.using).show_locks([artifact.session_id])
            self._lock_session(artifact.session_id)
        if artifact.run_id is not None:
            self._lock_run(artifact.run_id, artifact.session_id)

    def _session_of_run(self, run_id: str) -> str:
        runs = Run.objects.using(self.using).filter(id=run_id)
        # One that seems missing may only be newer than the snapshot of the caller's block.
        run = runs.first() or runs.select_for_update().first()
        if run is None:
            raise run_not_found(run_id)
        return str(run.session_id)

    def _lock_session(self, session_id: str) -> None:
        rows = Session.objects.using(self.using).filter(id=session_id)
        found = get_operations(self.using).lock_shared(rows, "deleted_at")
        if not found:
            raise session_not_found(session_id)
        if found != [(None,)]:
            raise SessionDeleted(f"session {session_id} is soft-deleted: no new artifact.")

    def _lock_run(self, run_id: str, session_id: str | None) -> None:
        rows = Run.objects.using(self.using).filter(id=run_id)
        found = get_operations(self.using).lock_shared(rows, "session_id")
        if not found:
            raise run_not_found(run_id)
        [(owner,)] = found
        if owner != session_id:
            raise ValidationError(f"run_id: run {run_id} belongs to session {owner}.")

    def get(self, key: str) -> bytes:
        """The content, checked against size and checksum; `ArtifactNotFound`.

        `StorageError` when the content is gone or has changed.
        """
        with self.open(key) as file:
            return bytes(file.read())

    def open(self, key: str) -> File[bytes]:
        """The content as a binary file to read and close, for `with`; `ArtifactNotFound`.

        It is checked while it is read: whoever reads it from its begin to its end gets a
        `StorageError` there when it has changed. One that is gone is a `StorageError` here.
        """
        content = Content.of(self.stat(key))
        while True:
            try:
                return contents.opened(content)
            except StorageError:
                seen, content = content, Content.of(self.stat(key))
                if content.place == seen.place:
                    raise
                # It was replaced in between.

    def delete(self, key: str) -> None:
        """Mark the artifact as deleted; its content goes after the commit. `ArtifactNotFound`."""
        rows = self._rows().filter(key=_clean_key(key))
        now = timezone.now()

        def body() -> None:
            artifact = rows.select_for_update().first()
            # Deleted by this very call, whose commit's answer was lost, is no error.
            if artifact is None or artifact.deleted_at not in (None, now):
                raise _not_found(key)
            rows.update(deleted_at=now)
            contents.discard_after_commit(self.using, [Content.of(artifact).place])

        transactions.write(self.using, body)

    def stat(self, key: str) -> Artifact:
        """The artifact's row; `ArtifactNotFound` for a key that is not stored, or deleted."""
        rows = self._alive().filter(key=_clean_key(key))
        artifact = transactions.read(self.using, rows.first)
        if artifact is None:
            raise _not_found(key)
        return artifact

    def list_by_session(self, session_id: str) -> list[Artifact]:
        """The session's artifacts, oldest `created_at` first, ties by id; none if it is unknown."""
        rows = self._alive().filter(session_id=clean_id(session_id, "session_id"))
        return transactions.read(self.using, partial(list, rows.order_by("created_at", "id")))

    def session_stats(self, session_id: str) -> ArtifactStats:
        """Number and size of the session's artifacts; zeros if it is unknown."""
        rows = self._alive().filter(session_id=clean_id(session_id, "session_id"))
        sums = partial(rows.aggregate, count=Count("id"), total=Sum("byte_size"))
        found = transactions.read(self.using, sums)
        return ArtifactStats(found["count"], int(found["total"] or 0))

    aput = async_twin(put)
    aget = async_twin(get)
    adelete = async_twin(delete)
    astat = async_twin(stat)
    alist_by_session = async_twin(list_by_session)
    asession_stats = async_twin(session_stats)

    def _rows(self) -> QuerySet[Artifact]:
        return Artifact.objects.using(self.using)

    def _alive(self) -> QuerySet[Artifact]:
        return self._rows().filter(deleted_at=None)


def _prepared(key: str, *, content_type: str | None, **columns: Any) -> Artifact:
    """The artifact as it will be stored, but for what its content will say."""
    key = _clean_key(key)
    if content_type is None:
        content_type, encoding = mimetypes.guess_type(key)
        content_type = None if encoding else content_type
    elif not _is_printable(content_type):
        raise ValidationError(
            f"content_type: expected a MIME type in printable ASCII, got {shown(content_type)}."
        )
    unknown = {"byte_size": 0, "checksum_sha256": "0", "storage_ref": contents.PREFIX}
    return Artifact(key=key, content_type=content_type, **columns, **unknown).prepared()


def _is_printable(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


def _clean_key(key: object) -> str:
    if not isinstance(key, str):
        raise ValidationError(f"key: expected a string, got {shown(key)}.")
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise ValidationError(f"key: must have 1 to {MAX_KEY_LENGTH} characters.")
    if has_unstorable(key):
        raise ValidationError(f"key: holds U+0000 or a surrogate: {shown(key)}.")
    return str.__str__(key)


def _not_found(key: str) -> ArtifactNotFound:
    return ArtifactNotFound(f"artifact {shown(key)} is not stored.")


def _state(artifact: Artifact | None) -> State:
    return None if artifact is None else (Content.of(artifact).place, artifact.deleted_at)
