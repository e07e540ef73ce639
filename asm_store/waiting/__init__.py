"""How readers wait for what is not stored yet: they ask again, and a hub may wake them before.

Writers tell of what they have committed; on PostgreSQL a notification carries it to the readers of
all processes.
"""

from __future__ import annotations

from .polling import Ask, Pause, Polling, Steps, adrive, drive
from .telling import hub_of, tell
from .watching import Watch

__all__ = [
    "Ask",
    "Pause",
    "Polling",
    "Steps",
    "Watch",
    "adrive",
    "drive",
    "hub_of",
    "tell",
]
