"""Logs that are one JSON document, not lines: read whole, and then given out part by part."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ..models import Event
from .conversations import ConversationReader
from .lines import BOM, Line, SkippedLineError, UnreadableFileError, open_log, refuse_constant

# A document is taken into memory, where it needs several times its size.
MAX_DOCUMENT_BYTES = 256 * 1024 * 1024


class Part(NamedTuple):
    """A part of a document: its `head`, one of its steps, or its `end`."""

    kind: str
    number: int
    value: dict[str, Any]


class DocumentReader(ConversationReader):
    """Reads documents: from a file that is one, or from one in each line."""

    reads_documents: ClassVar[bool] = True

    @abstractmethod
    def split(self, document: dict[str, Any]) -> Iterator[Part]:
        """The parts in order; `SkippedLineError` when it cannot be read at all."""

    @abstractmethod
    def feed_part(self, part: Part) -> list[Event]:
        """The events of the next part; `SkippedLineError` when it has to be left out."""

    def parts(self, line: Line) -> Iterator[Line]:
        parts = list(self.split(line.record))
        for part in parts:
            # In a file that is one document the numbers are those of its steps.
            yield Line(line.number or part.number, line.size // len(parts), {"part": part})

    def feed(self, line: Line) -> list[Event]:
        part: Part = line.record["part"]
        return self.feed_part(part)


def read_document(path: Path) -> Line:
    """The JSON object that the file is; `UnreadableFileError` when it is none, or too large."""
    with open_log(path) as handle:
        raw = handle.read(MAX_DOCUMENT_BYTES + 1)
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise UnreadableFileError(f"a document larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    try:
        document = json.loads(raw.removeprefix(BOM).decode(), parse_constant=refuse_constant)
    except UnicodeDecodeError:
        raise UnreadableFileError("not UTF-8") from None
    except RecursionError:
        raise UnreadableFileError("nested too deeply") from None
    except ValueError:
        raise UnreadableFileError("not JSON, or cut off") from None
    if not isinstance(document, dict):
        raise UnreadableFileError("not a JSON object")
    return Line(0, len(raw), document)


def objects_in(document: dict[str, Any], key: str) -> list[Any]:
    """The list under `key`, or `SkippedLineError`."""
    found = document.get(key)
    if not isinstance(found, list):
        raise SkippedLineError(f"{key}: not a list")
    return found
