"""What executes runs: the contract of a provider. No ORM is needed to import it."""

from __future__ import annotations

from .base import BaseProvider

__all__ = ["BaseProvider"]
