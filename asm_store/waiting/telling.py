"""The hubs and senders of this process, by database alias."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Mapping

from .. import conf
from ..db import get_operations
from .hub import Hub
from .sending import LAST_WORDS, Sender

_hubs: dict[str, Hub] = {}
_senders: dict[str, Sender] = {}


def hub_of(using: str) -> Hub | None:
    """Who wakes the readers of this database alias; None where the database cannot."""
    if not get_operations(using).supports_notifications:
        return None
    return _hubs.get(using) or _hubs.setdefault(using, Hub(using))


def tell(using: str, numbers: Mapping[str, int]) -> None:
    """Wake who waits for these sessions, wherever he is: call it when they are committed.

    `numbers` has the latest of each; 0: something else of the session has changed, or is gone.
    """
    if not numbers or not conf.notify():
        return
    sender = _senders.get(using)
    if sender is None and get_operations(using).supports_notifications:
        sender = _senders.setdefault(using, Sender(using))
    if sender is not None:
        sender.put(numbers)


def _reset() -> None:
    for hub in _hubs.values():
        hub.reset()
    for sender in _senders.values():
        sender.reset()


def _tell_the_last() -> None:
    end = time.monotonic() + LAST_WORDS
    for sender in list(_senders.values()):
        sender.flush(max(0.0, end - time.monotonic()))


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_reset)
atexit.register(_tell_the_last)
