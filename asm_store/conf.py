"""The settings: one function each, read late, so that `override_settings` works everywhere.

`ASM_STORES` names the stores by alias; everything else is a flat `ASM_STORE_*` scalar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import Settings, settings
from django.core.exceptions import ImproperlyConfigured

from .exceptions import ValidationError
from .rates import PricingTable

DEFAULT_STORE_ALIAS = "default"
DEFAULT_BACKEND = "asm_store.backends.database.DatabaseSessionStore"


def _given(name: str, default: Any) -> Any:
    """`getattr(settings, name, default)`, where Django takes several times as long to find that a
    project has not set it.
    """
    held = vars(settings).get("_wrapped")
    if type(held) is Settings and name not in vars(held):
        return default
    return getattr(settings, name, default)


def stores() -> dict[str, dict[str, Any]]:
    """`ASM_STORES`: `{alias: {"BACKEND": dotted path, "OPTIONS": keyword arguments}}`."""
    default = {DEFAULT_STORE_ALIAS: {"BACKEND": DEFAULT_BACKEND, "OPTIONS": {"using": "default"}}}
    value: dict[str, dict[str, Any]] = _given("ASM_STORES", default)
    return value


def max_event_bytes() -> int:
    """`ASM_STORE_MAX_EVENT_BYTES`: how large a record's JSON may be, encoded as UTF-8 (bytes)."""
    value = _given("ASM_STORE_MAX_EVENT_BYTES", 8 * 1024 * 1024)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ImproperlyConfigured("ASM_STORE_MAX_EVENT_BYTES must be a whole number >= 1 (bytes).")
    return value


def retry_seconds() -> float:
    """`ASM_STORE_RETRY_SECONDS`: how long a write is tried again while a database is busy."""
    value = _given("ASM_STORE_RETRY_SECONDS", 30.0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 86_400:
        raise ImproperlyConfigured("ASM_STORE_RETRY_SECONDS must be a number from 0 to 86400.")
    return float(value)


def max_query_limit() -> int:
    """`ASM_STORE_MAX_QUERY_LIMIT`: the largest `limit` of a query, in rows."""
    value = _given("ASM_STORE_MAX_QUERY_LIMIT", 1000)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
        raise ImproperlyConfigured(
            "ASM_STORE_MAX_QUERY_LIMIT must be a whole number from 1 to 1000000 (rows)."
        )
    return value


def extra_event_types() -> frozenset[str]:
    """`ASM_STORE_EXTRA_EVENT_TYPES`: the project's own event types beside the built-in ones."""
    value = _given("ASM_STORE_EXTRA_EVENT_TYPES", ())
    is_list = isinstance(value, list | tuple | set | frozenset)
    if not is_list or not all(_is_type_name(name) for name in value):
        raise ImproperlyConfigured(
            "ASM_STORE_EXTRA_EVENT_TYPES must be a list of names of 1 to 64 printable characters."
        )
    return frozenset(value)


def redaction() -> bool:
    """`ASM_STORE_REDACTION`: whether secrets are taken out of events before they are stored."""
    value = _given("ASM_STORE_REDACTION", False)
    if not isinstance(value, bool):
        raise ImproperlyConfigured("ASM_STORE_REDACTION must be True or False.")
    return value


def pricing() -> PricingTable:
    """`ASM_STORE_PRICING`: the project's own rates, in USD per token, by provider and model."""
    global _pricing  # noqa: PLW0603
    value = _given("ASM_STORE_PRICING", _NO_PRICING)
    if value is not _pricing[0]:
        try:
            _pricing = value, PricingTable.parse(value, "ASM_STORE_PRICING")
        except ValidationError as error:
            raise ImproperlyConfigured(str(error)) from None
    return _pricing[1]


_NO_PRICING: dict[str, Any] = {}
# The last value of the setting that was seen, and what was read from it: each run asks.
_pricing: tuple[Any, PricingTable] = (_NO_PRICING, PricingTable())


def retention() -> dict[str, Any]:
    """`ASM_STORE_RETENTION`: fields of `asm_store.maintenance.RetentionPolicy`, by name."""
    value = _given("ASM_STORE_RETENTION", {})
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ImproperlyConfigured("ASM_STORE_RETENTION must be a mapping of names to values.")
    return dict(value)


def notify() -> bool:
    """`ASM_STORE_NOTIFY`: whether what is committed wakes those who wait, where it can."""
    value = _given("ASM_STORE_NOTIFY", True)
    if not isinstance(value, bool):
        raise ImproperlyConfigured("ASM_STORE_NOTIFY must be True or False.")
    return value


def listen_aliases() -> dict[str, str | None]:
    """`ASM_STORE_LISTEN_ALIASES`: by a store's database alias the one to LISTEN on, or None."""
    value = _given("ASM_STORE_LISTEN_ALIASES", {})
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured("ASM_STORE_LISTEN_ALIASES must be a dict of database aliases.")
    for alias in (*value.keys(), *(named for named in value.values() if named is not None)):
        if not isinstance(alias, str) or alias not in settings.DATABASES:
            raise ImproperlyConfigured(
                f"ASM_STORE_LISTEN_ALIASES: DATABASES has no {alias!r}; it has "
                f"{', '.join(sorted(settings.DATABASES))}."
            )
    return dict(value)


def _is_type_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 64 and value.isprintable()


# Every scalar with the function that reads and checks it: the system checks walk this table.
SCALARS = {
    "ASM_STORE_MAX_EVENT_BYTES": max_event_bytes,
    "ASM_STORE_RETRY_SECONDS": retry_seconds,
    "ASM_STORE_MAX_QUERY_LIMIT": max_query_limit,
    "ASM_STORE_EXTRA_EVENT_TYPES": extra_event_types,
    "ASM_STORE_REDACTION": redaction,
    "ASM_STORE_PRICING": pricing,
    "ASM_STORE_RETENTION": retention,
    "ASM_STORE_NOTIFY": notify,
    "ASM_STORE_LISTEN_ALIASES": listen_aliases,
}
