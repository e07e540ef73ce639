"""The contents of artifacts in the own format: lines of base64 that follow their artifact's.

{"kind": "artifact", "record": {...}, "has_content": true}
{"kind": "content", "artifact_id": "art_...", "data": "..."}
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from typing import IO, Any

from django.core.files import File

from .. import contents
from ..contents import Content, Place
from ..exceptions import StorageError
from ..models import Artifact
from .lines import SkippedLineError, UnreadableFileError

# Bytes of content in a line, which is a third longer.
PIECE = 768 * 1024
# Bytes that are kept in memory until they are stored.
SPOOLED = 1024 * 1024


def has_content(artifact: Artifact) -> bool:
    """Whether there is something to write down: a deleted artifact's content is gone."""
    return artifact.deleted_at is None and contents.exists(Content.of(artifact))


def content_lines(artifact: Artifact) -> Iterator[dict[str, Any]]:
    """The lines of its content; `ContentError` when that has changed."""
    with contents.opened(Content.of(artifact)) as file:
        while piece := file.read(PIECE):
            data = base64.b64encode(piece).decode()
            yield {"kind": "content", "artifact_id": artifact.id, "data": data}


class Attachment:
    """A content while its lines are read. It is whole when all of it is there, and unchanged."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOLED)  # noqa: SIM115
        # Not a context: whoever reads a log may stop anywhere.
        weakref.finalize(self, self.file.close)
        self._size = 0
        self._checksum = hashlib.sha256()

    @property
    def is_whole(self) -> bool:
        """Whether the last byte was fed; `SkippedLineError` when it is not what was written."""
        if self._size < self.artifact.byte_size:
            return False
        if self._checksum.hexdigest() != self.artifact.checksum_sha256:
            raise SkippedLineError("content: is not what was written")
        return True

    def feed(self, line: Mapping[str, Any]) -> None:
        if line.get("artifact_id") != self.artifact.id:
            raise SkippedLineError("content: of another artifact")
        try:
            data = base64.b64decode(line.get("data", ""), validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise SkippedLineError("content: not base64") from None
        self._size += len(data)
        self._checksum.update(data)
        self.file.write(data)

    def restore(self) -> None:
        """Write the content to where its row says it is, unless it is there.

        `UnreadableFileError` when that cannot be: it is no place of this package's, or something
        else is there.
        """
        content = Content.of(self.artifact)
        if not contents.is_own(content.place.name):
            message = f"{content} is not below {contents.PREFIX}, and is not restored"
            raise UnreadableFileError(message)
        try:
            if has_content(self.artifact):
                contents.compare(content)
            else:
                self._write(content.place)
        except StorageError as error:
            raise UnreadableFileError(f"not restored: {error}") from error

    def _write(self, place: Place) -> None:
        self.file.seek(0)
        try:
            stored = contents.write(place, File(self.file, place.name))
        except Exception as error:
            message = f"{place} could not be written: {type(error).__name__}: {error}"
            raise StorageError(message) from error
        if stored != place:
            contents.discard(stored)
            raise StorageError(f"{place} is taken.")
