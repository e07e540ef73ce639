"""The contract of every provider: a name, and a generator of what an agent does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from .feeds import ThreadFeed, Yielded

if TYPE_CHECKING:
    from ..models import Event, Run, Session
    from ..transcripts import Transcript

    Yield: TypeAlias = Mapping[str, Any] | Event


class BaseProvider(ABC):
    """Executes runs with some agent or model; docs/adding-a-provider.md.

    A provider may be used by many runs at once. It stores nothing: what it yields is stored, in
    order, as it arrives.
    """

    # Stored as the `provider` of runs and events; prices are found by it.
    name: str

    @abstractmethod
    def execute(
        self, run: Run, session: Session, *, transcript: Transcript | None = None
    ) -> Iterator[Yield]:
        """Execute `run`, whose `input` is a string or `{"messages": [...]}`.

        Yields mappings `{"type": ..., "data": {...}}`, with `timestamp`, `metadata` or `id` when
        it has them, or `Event`s. `transcript` is what was said in the session before this run,
        when the run continues it. What is raised fails the run. Called in a thread of its own;
        `run` and `session` are copies.
        """

    async def aexecute(
        self, run: Run, session: Session, *, transcript: Transcript | None = None
    ) -> AsyncIterator[Yield]:
        """As `execute()`, in the event loop; derived from it, which then runs in a thread."""
        feed = ThreadFeed(lambda: self.execute(run, session, transcript=transcript))
        try:
            while isinstance(arrival := await feed.aget(), Yielded):
                yield arrival.value
        finally:
            feed.stop()
        if arrival.error is not None:
            raise arrival.error
