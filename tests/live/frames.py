"""What a browser's EventSource makes of a stream, by the rules of the HTML standard."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Message:
    """One event of the stream; a comment has nothing but its text."""

    id: str | None = None
    event: str = "message"
    data: Any = None
    comment: str | None = None

    @property
    def number(self) -> int:
        assert self.id is not None
        return int(self.id)


class Parser:
    """Takes the bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""
        self._last_id: str | None = None
        self.retry: int | None = None

    def feed(self, part: bytes) -> Iterator[Message]:
        *blocks, self._rest = (self._rest + part).split(b"\n\n")
        for block in blocks:
            yield from self._message(block)

    def _message(self, block: bytes) -> Iterator[Message]:
        fields: dict[str, list[str]] = {}
        for line in LINE_END.split(block):
            name, _, value = line.decode().partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        if "" in fields:
            yield Message(comment=fields[""][0])
        if "retry" in fields:
            self.retry = int(fields["retry"][0])
        if "id" in fields:
            self._last_id = fields["id"][0]
        if "data" in fields:
            data = json.loads("\n".join(fields["data"]))
            yield Message(self._last_id, fields.get("event", ["message"])[0], data)


async def messages(parts: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    parser = Parser()
    async for part in parts:
        for message in parser.feed(part):
            yield message
