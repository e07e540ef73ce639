"""The events of a session for one request, as JSON."""

from __future__ import annotations

from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async

from ..backends.arguments import EventFilter
from ..backends.reading import PAGE_BYTES, Progress
from ..events.sanitizing import ENCODER
from ..exceptions import SessionNotFound, ValidationError
from ..fields import clean_id
from ..waiting import drive
from . import answers

if TYPE_CHECKING:
    from ..backends.base import BaseSessionStore


@dataclass(frozen=True, slots=True)
class Page:
    """Events after a number, and how to go on."""

    session_id: str
    status: str
    lines: list[bytes]
    last_sequence: int  # all that match up to here are in this page, or were before it
    has_ended: bool  # nothing comes after it

    def to_json(self) -> bytes:
        said = ENCODER.encode(
            {
                "session": self.session_id,
                "status": self.status,
                "last_sequence": self.last_sequence,
                "has_ended": self.has_ended,
            }
        )
        events = b",".join(line.rstrip() for line in self.lines)
        return said[:-1].encode() + b',"events":[' + events + b"]}"


def progress_to(store: BaseSessionStore, wanted: EventFilter) -> Progress:
    """How far the session is; `Refusal` when it is not stored, or not as far as was said."""
    progress = None
    with suppress(ValidationError):  # an address may say what cannot be an id
        progress = store._get_progress(clean_id(wanted.session_id))
    if progress is None:
        raise answers.not_found()
    latest = progress.latest_sequence
    if (wanted.after or 0) > latest:
        raise answers.Refusal(
            409,
            "sequence_conflict",
            f"The latest number of this session is {latest}: nothing comes after {wanted.after}.",
            latest_sequence=latest,
        )
    return progress


def read_page(store: BaseSessionStore, wanted: EventFilter) -> Page:
    """As many lines as are wanted, or fewer when they are large."""
    progress = progress_to(store, wanted)
    latest = progress.latest_sequence
    found: list[tuple[int, bytes]] = []
    size = 0
    for number, line in drive(store._live_lines(replace(wanted, before=latest + 1))):
        found.append((number, line))
        size += len(line)
        if size >= PAGE_BYTES:
            break
    is_cut = size >= PAGE_BYTES or len(found) == wanted.limit
    return Page(
        wanted.session_id,
        progress.status,
        [line for _number, line in found],
        found[-1][0] if is_cut else latest,
        progress.has_ended and not is_cut,
    )


async def aread_page(store: BaseSessionStore, wanted: EventFilter, wait: float) -> Page:
    """The same; without such events, once there is one, the session ends, or the wait is over."""
    page = await sync_to_async(read_page)(store, wanted)
    if not wait or page.lines or page.has_ended:
        return page
    later = replace(wanted, after=page.last_sequence)
    # What ends the wait is read once more: its payloads would only be thrown away.
    awaited = replace(later, payloads=False, limit=None)
    with suppress(SessionNotFound):  # deleted meanwhile: the next look says so
        async with aclosing(store._afollow_lines(awaited, wait)) as lines:
            async for _line in lines:
                break
    return await sync_to_async(read_page)(store, later)
