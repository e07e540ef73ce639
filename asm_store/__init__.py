"""The durable memory of AI agents inside a Django project."""

from __future__ import annotations

from .conf import DEFAULT_STORE_ALIAS
from .handler import default_store, stores

__version__ = "0.1.0"

__all__ = ["DEFAULT_STORE_ALIAS", "__version__", "default_store", "stores"]
