"""How readers wait for what is not stored yet: they ask again, at growing intervals."""

from __future__ import annotations

from .polling import Pause, Polling, Steps, adrive, drive

__all__ = ["Pause", "Polling", "Steps", "adrive", "drive"]
