"""System checks, with stable ids; docs/checks.md explains each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections, router
from django.db.migrations.recorder import MigrationRecorder
from django.utils.connection import ConnectionDoesNotExist

from . import conf
from .backends.database import DatabaseSessionStore
from .db import get_operations
from .events.sanitizing import shown
from .handler import InvalidStoreError, StoreHandler


def _message(
    kind: Callable[..., checks.CheckMessage], id: str, text: str, hint: str
) -> checks.CheckMessage:
    return kind(
        text, hint=f"{hint} See docs/checks.md#asm_store{id.lower()}.", id=f"asm_store.{id}"
    )


@checks.register
def check_stores(**kwargs: Any) -> list[checks.CheckMessage]:
    """E001: every entry of ASM_STORES makes a store, on a database that exists."""
    try:
        handler = StoreHandler()
        aliases = list(handler)
    except InvalidStoreError as error:
        return [_bad_stores(str(error))]
    found = []
    if conf.DEFAULT_STORE_ALIAS not in aliases:
        found.append(_bad_stores(f"ASM_STORES has no {conf.DEFAULT_STORE_ALIAS!r} store."))
    for alias in aliases:
        try:
            using = getattr(handler[alias], "using", None)
            if using is not None:
                connections[using]
        except (InvalidStoreError, ConnectionDoesNotExist) as error:
            found.append(_bad_stores(f"ASM_STORES[{alias!r}]: {error}"))
    return found


def _bad_stores(text: str) -> checks.CheckMessage:
    hint = (
        'Write ASM_STORES = {"default": {"BACKEND": "dotted.path.of.a.Store", "OPTIONS": '
        '{"using": "an alias of DATABASES"}}}, or leave the setting out.'
    )
    return _message(checks.Error, "E001", text, hint)


@checks.register
def check_time_zones(**kwargs: Any) -> list[checks.CheckMessage]:
    """E002: naive times cannot be ordered."""
    if settings.USE_TZ:
        return []
    hint = "Set USE_TZ = True: the times of sessions and events are aware."
    return [_message(checks.Error, "E002", "USE_TZ is False.", hint)]


@checks.register
def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """E003 and W002: every ASM_STORE_* name is known, and its value usable."""
    found = []
    for read in {**conf.SCALARS, "ASM_STORE_RETENTION": _read_retention}.values():
        try:
            read()
        except ImproperlyConfigured as error:
            found.append(_message(checks.Error, "E003", str(error), "Correct the value."))
    for name in dir(settings):
        if name.startswith("ASM_STORE_") and name not in conf.SCALARS:
            hint = f"It has no effect. Known are {', '.join(sorted(conf.SCALARS))}."
            found.append(_message(checks.Warning, "W002", f"Unknown setting {name}.", hint))
    return found


def _read_retention() -> None:
    # Late: it needs much that a process which checks nothing never imports.
    from .maintenance import RetentionPolicy

    alias = RetentionPolicy.from_settings().archive_storage
    if alias is not None and alias not in settings.STORAGES:
        raise ImproperlyConfigured(
            f"ASM_STORE_RETENTION: archive_storage: STORAGES has no {shown(alias)}; it has "
            f"{', '.join(sorted(settings.STORAGES))}."
        )


def _databases() -> list[str]:
    """The database aliases that the configured stores use."""
    if check_stores():
        return []
    handler = StoreHandler()
    stores = [handler[alias] for alias in handler]
    return sorted({store.using for store in stores if isinstance(store, DatabaseSessionStore)})


@checks.register
def check_sqlite_mode(**kwargs: Any) -> list[checks.CheckMessage]:
    """W001: in DEFERRED mode a caller's own transactions can fail instead of waiting."""
    hint = 'Set OPTIONS = {"transaction_mode": "IMMEDIATE", ...} in DATABASES.'
    return [
        _message(
            checks.Warning,
            "W001",
            f"The SQLite database {using!r} does not use IMMEDIATE transactions.",
            hint,
        )
        for using in _databases()
        if connections[using].vendor == "sqlite"
        and str(_options(using).get("transaction_mode", "")).upper() != "IMMEDIATE"
    ]


@checks.register(deploy=True)
def check_prepared_statements(**kwargs: Any) -> list[checks.CheckMessage]:
    """W003: without prepared statements PostgreSQL plans most statements of a store anew."""
    hint = 'Set OPTIONS = {"server_side_binding": True, "prepare_threshold": 5} in DATABASES.'
    return [
        _message(checks.Warning, "W003", f"No prepared statements on {using!r}.", hint)
        for using in _databases()
        if connections[using].vendor == "postgresql"
        and not (
            _options(using).get("server_side_binding")
            and _options(using).get("prepare_threshold") is not None
        )
    ]


@checks.register(checks.Tags.database)
def check_packet_size(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """W004: the server must accept a statement that holds the largest event, escaped."""
    found: list[checks.CheckMessage] = []
    try:
        # The driver may escape each byte, and the statement has other columns.
        needed = 2 * conf.max_event_bytes() + 64 * 1024
    except ImproperlyConfigured:
        return found  # E003 says so
    for using in set(databases or ()) & set(_databases()):
        if connections[using].vendor != "mysql":
            continue
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            [size] = cursor.fetchone()
        if size < needed:
            text = f"max_allowed_packet of {using!r} is {size} bytes."
            hint = (
                f"The largest event may need {needed}: raise it on the server, or lower "
                f"ASM_STORE_MAX_EVENT_BYTES."
            )
            found.append(_message(checks.Warning, "W004", text, hint))
    return found


@checks.register(checks.Tags.database)
def check_pooler(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """W005: behind a pooler nobody can LISTEN, unless an alias goes past it."""
    if (named := _listen_aliases()) is None:
        return []
    hint = (
        "Readers that wait are not woken, and poll. Name an alias that goes to the server itself "
        "in ASM_STORE_LISTEN_ALIASES, or None."
    )
    return [
        _message(checks.Warning, "W005", f"The database {using!r} is behind a pooler.", hint)
        for using in sorted(set(databases or ()) & set(_databases()) - named.keys())
        if get_operations(using).is_behind_pooler()
    ]


@checks.register
def check_listen_aliases(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """W006: where ASM_STORE_LISTEN_ALIASES says so, one can LISTEN."""
    hint = (
        "Readers that wait are not woken, and poll. Name an alias of the PostgreSQL server that is "
        "written to, or None."
    )
    found = []
    for using, alias in (_listen_aliases() or {}).items():
        reason = alias and _why_deaf(alias, may_ask=using in (databases or ()))
        if reason:
            text = f"Nobody can LISTEN on {alias!r}, for {using!r}: {reason}"
            found.append(_message(checks.Warning, "W006", text, hint))
    return found


def _listen_aliases() -> dict[str, str | None] | None:
    try:
        return conf.listen_aliases()
    except ImproperlyConfigured:
        return None  # E003 says so


def _why_deaf(alias: str, *, may_ask: bool) -> str | None:
    operations = get_operations(alias)
    if not operations.supports_notifications:
        return "it is no PostgreSQL database, with psycopg 3."
    if may_ask:
        try:
            with closing(operations.open_channel("asm_store check")) as channel:
                channel.listen()
        except Exception as error:  # whatever it is, listeners would meet it too
            return " ".join(str(error).split())
    return None


@checks.register(checks.Tags.database)
def check_tables(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """E004: `migrate` would break off at others' tables, or with --fake-initial take them for ours.

    Django runs it before it migrates a database, and then does not.
    """
    found = []
    for using in databases or ():
        try:
            foreign = _foreign_tables(using)
        except (Error, ImproperlyConfigured):
            continue  # The database cannot be asked: not for this check to say.
        if foreign:
            found.append(_others_tables(using, foreign))
    return found


def _foreign_tables(using: str) -> dict[str, set[str]]:
    """The tables with names of ours that are not ours, and the names of their columns."""
    connection = connections[using]
    introspection = connection.introspection
    models = apps.get_app_config("asm_store").get_models()
    ours = [model._meta for model in models if router.allow_migrate_model(using, model)]
    folded = str.lower if connection.features.ignores_table_name_case else str
    with connection.cursor() as cursor:
        known = introspection.table_names(cursor, include_views=True)
        names = {folded(name): name for name in known}
        tables = [options.db_table for options in ours if options.db_table in names]
        if not tables or _is_migrated(using, names):
            return {}
        found = {
            table: {
                column.name for column in introspection.get_table_description(cursor, names[table])
            }
            for table in tables
        }
    # A test database can have ours without a migration, as Django makes them from the models.
    complete = all(
        found.get(options.db_table, set()) >= {field.column for field in options.concrete_fields}
        for options in ours
    )
    return {} if complete else found


def _is_migrated(using: str, tables: Collection[str]) -> bool:
    recorder = MigrationRecorder(connections[using])
    recorded = recorder.Migration._meta.db_table in tables
    return recorded and recorder.migration_qs.filter(app="asm_store").exists()


def _others_tables(using: str, tables: Mapping[str, Collection[str]]) -> checks.CheckMessage:
    alike = "last_sequence" in tables.get("asm_session_sequences", ())
    owner = "the Elixir store's (EctoSessionStore)" if alike else "somebody else's"
    text = (
        f"The database {using!r} has {', '.join(sorted(tables))}, to which no migration of "
        f"asm_store was applied. They look like {owner}. Nothing was changed."
    )
    hint = (
        "docs/from-elixir.md says how to move the Elixir store's rows over; other tables need "
        "other names, or this app another database."
    )
    return _message(checks.Error, "E004", text, hint)


def _options(using: str) -> dict[str, Any]:
    return connections[using].settings_dict.get("OPTIONS") or {}
