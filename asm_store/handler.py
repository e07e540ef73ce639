"""`stores["alias"]`, as `django.core.cache.caches` and `django.tasks.task_backends` do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from asgiref.local import Local
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.connection import BaseConnectionHandler, ConnectionProxy
from django.utils.module_loading import import_string

from . import conf

if TYPE_CHECKING:
    from .backends.base import BaseSessionStore


class InvalidStoreError(ImproperlyConfigured):
    """`ASM_STORES` has no such alias, or its entry does not make a store."""


class StoreHandler(BaseConnectionHandler):  # type: ignore[type-arg]
    """The stores of `ASM_STORES` by alias, made on first use, one instance a thread or task."""

    settings_name = "ASM_STORES"
    exception_class = InvalidStoreError

    def configure_settings(self, settings: Any) -> dict[str, Any]:
        configured = conf.stores() if settings is None else settings
        if not isinstance(configured, dict) or not all(isinstance(a, str) for a in configured):
            raise InvalidStoreError("ASM_STORES must be a dict of aliases.")
        return configured

    def create_connection(self, alias: str) -> BaseSessionStore:
        entry = self.settings[alias]
        try:
            unknown = set(entry) - {"BACKEND", "OPTIONS"}
            if unknown:
                raise TypeError(f"unknown key {min(unknown)!r}, expected BACKEND and OPTIONS")
            store = import_string(entry["BACKEND"])(alias=alias, **entry.get("OPTIONS", {}))
            if not hasattr(store, "append_events"):
                raise TypeError(f"{entry['BACKEND']} is no store")
            return cast("BaseSessionStore", store)
        except (ImportError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidStoreError(
                f"ASM_STORES[{alias!r}] does not make a store: {error}"
            ) from error


def forget_stores(*, setting: str, **kwargs: Any) -> None:
    """Make the stores anew after a test overrode `ASM_STORES`."""
    if setting == StoreHandler.settings_name:
        stores.__dict__.pop("settings", None)
        stores._settings = None  # type: ignore[attr-defined]
        stores._connections = Local(stores.thread_critical)  # type: ignore[attr-defined]


stores = StoreHandler()
default_store = cast("BaseSessionStore", ConnectionProxy(stores, conf.DEFAULT_STORE_ALIAS))
setting_changed.connect(forget_stores)
