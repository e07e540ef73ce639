"""The settings: one function each, read late, so that `override_settings` works everywhere.

`ASM_STORES` names the stores by alias; everything else is a flat `ASM_STORE_*` scalar.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

DEFAULT_STORE_ALIAS = "default"
DEFAULT_BACKEND = "asm_store.backends.database.DatabaseSessionStore"


def stores() -> dict[str, dict[str, Any]]:
    """`ASM_STORES`: `{alias: {"BACKEND": dotted path, "OPTIONS": keyword arguments}}`."""
    default = {DEFAULT_STORE_ALIAS: {"BACKEND": DEFAULT_BACKEND, "OPTIONS": {"using": "default"}}}
    return getattr(settings, "ASM_STORES", default)


def max_event_bytes() -> int:
    """`ASM_STORE_MAX_EVENT_BYTES`: how large a record's JSON may be, encoded as UTF-8 (bytes)."""
    value = getattr(settings, "ASM_STORE_MAX_EVENT_BYTES", 8 * 1024 * 1024)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ImproperlyConfigured("ASM_STORE_MAX_EVENT_BYTES must be a whole number >= 1 (bytes).")
    return value


def retry_seconds() -> float:
    """`ASM_STORE_RETRY_SECONDS`: how long a write is tried again while a database is busy."""
    value = getattr(settings, "ASM_STORE_RETRY_SECONDS", 30.0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 86_400:
        raise ImproperlyConfigured("ASM_STORE_RETRY_SECONDS must be a number from 0 to 86400.")
    return float(value)


def extra_event_types() -> frozenset[str]:
    """`ASM_STORE_EXTRA_EVENT_TYPES`: the project's own event types beside the built-in ones."""
    value = getattr(settings, "ASM_STORE_EXTRA_EVENT_TYPES", ())
    is_list = isinstance(value, list | tuple | set | frozenset)
    if not is_list or not all(_is_type_name(name) for name in value):
        raise ImproperlyConfigured(
            "ASM_STORE_EXTRA_EVENT_TYPES must be a list of names of 1 to 64 printable characters."
        )
    return frozenset(value)


def _is_type_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 64 and value.isprintable()


# Every scalar with the function that reads and checks it: the system checks walk this table.
SCALARS = {
    "ASM_STORE_MAX_EVENT_BYTES": max_event_bytes,
    "ASM_STORE_RETRY_SECONDS": retry_seconds,
    "ASM_STORE_EXTRA_EVENT_TYPES": extra_event_types,
}
