"""What a format has to bring: turn the lines of one log into records of the store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any, ClassVar

from ..models import Artifact, Event, Run, Session
from .attachments import Attachment
from .lines import Line
from .reports import Tally, Tokens


class LogReader(ABC):
    """Reads one file. The events must depend on the lines alone, so that a log that has grown
    gives the same events again, with the same ids, and then the new ones.
    """

    name: ClassVar[str]
    # Whether events keep the numbers that the log gives them.
    keeps_numbers: ClassVar[bool] = False
    # Whether a record whose parent session is not stored is kept without it.
    parent_is_optional: ClassVar[bool] = False

    # Whether the log itself has said that it is whole: such a one may hold nothing.
    is_whole = False

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    @property
    @abstractmethod
    def tokens(self) -> Tokens:
        """What the lines so far say was used."""

    @classmethod
    @abstractmethod
    def recognises(cls, record: Mapping[str, Any]) -> bool:
        """Whether this is a line of the format, and of no other."""

    def parts(self, line: Line) -> Iterator[Line]:
        """What `feed` is to be given of a line; `SkippedLineError` when that is nothing."""
        yield line

    @abstractmethod
    def feed(self, line: Line) -> list[Event]:
        """The events of the next line, unsaved; `SkippedLineError` when it has to be left out."""

    def finish(self) -> list[Event]:
        """The events that the end of the log gives."""
        return []

    @abstractmethod
    def take_sessions(self, *, final: bool) -> list[Session]:
        """The sessions that the events fed since the last call need, or all that changed."""

    @abstractmethod
    def take_runs(self, *, final: bool) -> list[Run]:
        """The runs, likewise."""

    def take_artifacts(self) -> list[Artifact]:
        """The registry's rows that the lines since the last call gave."""
        return []

    def take_attachments(self) -> dict[str, Attachment]:
        """The contents of artifacts that were taken, by the artifacts' ids."""
        return {}

    def take_last_sequences(self) -> dict[str, int]:
        """The latest number that each session has given out, as far as the log knows it."""
        return {}

    def merged_session(self, stored: Session, given: Session) -> Session:
        """What to store for `given` where `stored` is; `stored` itself to leave it alone.

        Status, tags and what else was changed since stay as they are in the store.
        """
        merged = copy(stored)
        merged.parent_session_id = stored.parent_session_id or given.parent_session_id
        if given.updated_at >= stored.updated_at:
            merged.metadata = {**stored.metadata, **given.metadata}
            merged.context = {**stored.context, **given.context}
            merged.updated_at = given.updated_at
        return stored if merged.to_dict() == stored.to_dict() else merged

    def merged_run(self, stored: Run, given: Run) -> Run:
        """What to store for `given` where `stored` is; `stored` itself to leave it alone.

        A run that is still open says nothing new, and neither does an older copy of the log.
        """
        if given.ended_at is None or (stored.ended_at and stored.ended_at > given.ended_at):
            return stored
        merged = copy(given)
        merged.metadata = {**stored.metadata, **given.metadata}
        merged.provider_metadata = {**stored.provider_metadata, **given.provider_metadata}
        if given.cost_usd is None and stored.token_usage == given.token_usage:
            merged.cost_usd = stored.cost_usd
        return stored if merged.to_dict() == stored.to_dict() else merged
