"""What each of those that are compared can do."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Contents = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A PostgreSQL database, and the alias that Django knows it by."""

    alias: str
    host: str
    port: int
    user: str
    password: str
    name: str

    def url(self, scheme: str = "postgresql") -> str:
        return f"{scheme}://{self.user}:{self.password}@{self.host}:{self.port}/{self.name}"


class Peer(ABC):
    """Works on one connection, which is open after the first call; a process makes its own.

    The contents of an event are those of the result of a tool call.
    """

    def make_tables(self) -> None:  # noqa: B027  (most have them, or make them as they go)
        """Called once, before others of its kind work beside it."""

    # What a session is to the methods: an id where nothing else is needed.
    @abstractmethod
    def new_session(self) -> Any: ...

    @abstractmethod
    def append(self, session: Any, contents: Contents) -> None: ...

    @abstractmethod
    def read(self, session: Any) -> int:
        """Fetch and decode all events; how many they are."""

    def append_batch(self, session: Any, contents: list[Contents]) -> None:
        """In one call, where there is one."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None: ...

    @classmethod
    def can_batch(cls) -> bool:
        return cls.append_batch is not Peer.append_batch


class AsyncPeer(Peer):
    """With an event loop that stays."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)

    def close(self) -> None:
        self.run(self.aclose())
        self._runner.close()

    @abstractmethod
    async def aclose(self) -> None: ...
