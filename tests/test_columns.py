"""Text and JSON columns: what they take, how they compare, on every database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.apps import apps
from django.db import connections, models

from asm_store import fields
from asm_store.backends.database import DatabaseSessionStore
from asm_store.test.factories import make_event, make_session

ALL: list[type[models.Model]] = list(apps.get_app_config("asm_store").get_models())

# In code point order; a locale, UTF-16, case folding or PAD SPACE would order or join them.
TEXTS = [
    "A",
    "A ",
    "Z",
    "a",
    "a ",
    "a  ",
    "a!",
    "a_b",
    "aa",
    "axb",
    "b",
    "e\u0301",
    "ss",
    "z",
    "Ä",
    "ß",
    "ä",
    "é",
    "\u0131",
    "ﬀ",
    "\uffff",
    "\U0001f600",
    "\U0010ffff",
]


def text_columns(model: type[models.Model]) -> list[str]:
    """The columns with text, also those that refer to a text."""
    return [
        field.attname
        for field in model._meta.concrete_fields
        if isinstance(getattr(field, "target_field", field), fields.TextField)
    ]


MODELS = [model for model in ALL if text_columns(model)]
# Of others no index tells SQLite's collation.
TABLES = [model._meta.db_table for model in MODELS if model._meta.pk.attname in text_columns(model)]


def with_text(model: type[models.Model], number: int, text: str) -> models.Model:
    """A row with `text` in every such column."""
    others: dict[str, Any] = {"sequence_number": number, "byte_size": number}
    times = ("begin", "summed_at", "first_started_at", "last_started_at")
    others |= {"is_stored": False, **dict.fromkeys(times, datetime(2026, 1, 1, tzinfo=UTC))}
    names = {field.attname for field in model._meta.concrete_fields}
    columns = {name: value for name, value in others.items() if name in names}
    return model(**columns, **dict.fromkeys(text_columns(model), text))


@pytest.mark.parametrize("model", MODELS)
def test_text_compares_exactly_and_sorts_by_code_point(
    using: str, model: type[models.Model]
) -> None:
    assert sorted(TEXTS) == TEXTS
    table = model._base_manager.using(using)
    shuffled = sorted(TEXTS, key=lambda text: text.encode("utf-8")[::-1])
    table.bulk_create(with_text(model, number, text) for number, text in enumerate(shuffled))
    for column in text_columns(model):
        texts = table.values_list(column, flat=True)
        assert list(texts.order_by(column)) == TEXTS, column
        assert [list(texts.filter(**{column: text})) for text in TEXTS] == [
            [text] for text in TEXTS
        ], column
        late = [text for text in TEXTS if text >= "a!"]
        assert list(texts.filter(**{f"{column}__gte": "a!"}).order_by(column)) == late, column


def _collations(using: str, table: str) -> set[str]:
    """The collations of the table's text columns, JSON apart."""
    sqls = {
        "sqlite": """
            SELECT DISTINCT coll FROM pragma_index_list(%s) AS list, pragma_index_xinfo(list.name)
            WHERE key
        """,
        "postgresql": """
            SELECT DISTINCT coalesce(collation_name, 'default') FROM information_schema.columns
            WHERE table_name = %s AND data_type = 'character varying'
        """,
        "mysql": """
            SELECT DISTINCT collation_name FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = %s AND data_type = 'varchar'
        """,
    }
    with connections[using].cursor() as cursor:
        cursor.execute(sqls[connections[using].vendor], [table])
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.parametrize("table", TABLES)
def test_text_columns_have_the_collation_of_code_points(using: str, table: str) -> None:
    wanted = {"sqlite": "BINARY", "postgresql": "C", "mysql": "utf8mb4_0900_bin"}
    vendor = connections[using].vendor
    mariadb = getattr(connections[using], "mysql_is_mariadb", False)
    assert _collations(using, table) == {"utf8mb4_nopad_bin" if mariadb else wanted[vendor]}


@pytest.mark.parametrize("model", MODELS)
def test_only_sqlite_checks_what_is_json(using: str, model: type[models.Model]) -> None:
    """MariaDB's check refuses 32 levels; SQLite's takes a thousand."""
    table = model._meta.db_table
    with connections[using].cursor() as cursor:
        constraints = connections[using].introspection.get_constraints(cursor, table)
    checked = any(constraint["check"] for constraint in constraints.values())
    has_json = any(isinstance(field, models.JSONField) for field in model._meta.concrete_fields)
    assert checked == (has_json and connections[using].vendor == "sqlite")


@pytest.mark.parametrize("kind", [list, dict])
def test_a_hundred_levels_of_json_fit(using: str, kind: type) -> None:
    value: Any = "bottom"
    for _ in range(99):
        value = [value] if kind is list else {"x": value}
    store = DatabaseSessionStore(using)
    store.save_session(make_session(id="ses_1"))
    store.append_event(make_event("ses_1", data={"x": value}))
    [event] = store.get_events("ses_1")
    assert event.data == {"x": value}
