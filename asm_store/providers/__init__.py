"""What executes runs: the contract of a provider. No ORM is needed to import it."""

from __future__ import annotations

from .base import BaseProvider
from .failures import IncompleteAnswer
from .feeds import LoopIterator
from .tools import Tool

__all__ = ["BaseProvider", "IncompleteAnswer", "LoopIterator", "Tool"]
