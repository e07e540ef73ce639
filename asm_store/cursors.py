"""Where a page of a listing ended: opaque, signed strings that only that listing accepts.

A cursor holds the values of the order's columns in the page's last row, and a digest of what it
continues. It is signed with SECRET_KEY, and verified with SECRET_KEY_FALLBACKS too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core import signing

from .exceptions import InvalidCursor

# Another number for another content: cursors of another version are refused.
VERSION = 1
SALT = "asm_store.cursors"
# Ids have at most 255 characters, of six bytes each as JSON.
MAX_LENGTH = 8_192


@dataclass(frozen=True, slots=True)
class Listing:
    """What a cursor continues: a resource, in an order, under filters (checked values, by name).

    A filter whose value is None is as good as one that is not there; the order of the values in
    a list and doubles among them do not count.
    """

    resource: str
    order: str
    filters: Mapping[str, Any]

    def cursor(self, position: Sequence[Any]) -> str:
        """The cursor for the rows after `position`: strings, numbers and aware times."""
        content = [VERSION, self._digest(), [_packed(value) for value in position]]
        return _signer().sign_object(content)

    def position(self, cursor: object) -> tuple[Any, ...]:
        """What `cursor()` was given; `InvalidCursor` unless this listing gave the cursor out."""
        known = (VERSION, self._digest())
        match _content(cursor):
            case [version, digest, list(position)] if (version, digest) == known:
                return tuple(_unpacked(value) for value in position)
        raise InvalidCursor("the cursor is of another query, order or filter.")

    def _digest(self) -> str:
        given = {name: _plain(value) for name, value in self.filters.items() if value is not None}
        described = json.dumps([self.resource, self.order, given], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()[:32]


def _signer() -> signing.Signer:
    return signing.Signer(salt=SALT)


def _content(cursor: object) -> object:
    """What a cursor holds that was signed here, though perhaps by another version."""
    if not isinstance(cursor, str) or len(cursor) > MAX_LENGTH:
        raise InvalidCursor("a cursor is a string that a page gave out.")
    try:
        return _signer().unsign_object(cursor)
    # A ValueError is of what cannot be encoded: it is not from here.
    except (signing.BadSignature, ValueError):
        raise InvalidCursor("the cursor was not given out here, or was changed.") from None


def _packed(value: Any) -> Any:
    return {"time": value.isoformat()} if isinstance(value, datetime) else value


def _unpacked(value: Any) -> Any:
    return datetime.fromisoformat(value["time"]) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return sorted(set(value))
    return value.isoformat() if isinstance(value, datetime) else value
