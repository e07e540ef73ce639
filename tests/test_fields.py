"""The columns: what each lets through, and what each vendor makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from django.db import connections, models

from asm_store import fields
from asm_store.events.sanitizing import Sanitizer
from asm_store.exceptions import InvalidEventType, InvalidStatus, ValidationError
from asm_store.models import Artifact, Event, Record, Run, Session
from tests.databases import vendor_of

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAIVE = MOMENT.replace(tzinfo=None)


class Text(str):
    """A str that databases would not know."""


class Colour(StrEnum):
    RED = "red"


def prepare(model: type[Record], column: str, value: Any) -> Any:
    [field] = [field for field in model._meta.concrete_fields if field.attname == column]
    assert isinstance(field, fields.PreparedField)
    return field.prepare(value, Sanitizer(10**6))


def refused(model: type[Record], column: str, value: Any, message: str = "") -> None:
    with pytest.raises(ValidationError, match=rf"^{column}: {message}"):
        prepare(model, column, value)


IDS = [
    (Session, "id"),
    (Session, "parent_session_id"),
    (Run, "id"),
    (Run, "session_id"),
    (Event, "id"),
    (Event, "session_id"),
    (Event, "run_id"),
    (Artifact, "id"),
    (Artifact, "session_id"),
    (Artifact, "run_id"),
]


class TestIds:
    @pytest.mark.parametrize(("model", "column"), IDS)
    @pytest.mark.parametrize("value", ["x", "ü" * 255, " padded ", "🙂", "a/b?c"])
    def test_any_text_of_1_to_255_characters_will_do(
        self, model: type[Record], column: str, value: str
    ) -> None:
        assert prepare(model, column, value) == value

    @pytest.mark.parametrize(("model", "column"), IDS)
    @pytest.mark.parametrize("value", ["", "x" * 256, 1, b"x", ["x"], "a\0b", "\ud800", "a\udfff"])
    def test_others_are_refused_and_not_repaired(
        self, model: type[Record], column: str, value: Any
    ) -> None:
        refused(model, column, value)

    def test_none_is_for_references_that_may_be_missing(self) -> None:
        assert prepare(Session, "parent_session_id", None) is None
        assert prepare(Event, "run_id", None) is None
        refused(Run, "session_id", None, "expected a string")
        refused(Event, "id", None, "expected a string")

    def test_a_subclass_of_str_becomes_a_str(self) -> None:
        assert type(prepare(Session, "id", Text("x"))) is str
        assert type(prepare(Session, "id", Colour.RED)) is str

    def test_a_message_shows_no_unprintable_and_no_long_value(self) -> None:
        with pytest.raises(ValidationError) as caught:
            fields.clean_id("\0" + "x" * 200, "session_id")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 120


class TestText:
    @pytest.mark.parametrize(
        ("model", "column", "length"),
        [
            (Session, "agent_id", 255),
            (Run, "provider", 255),
            (Event, "provider", 255),
            (Event, "correlation_id", 255),
            (Artifact, "key", 512),
            (Artifact, "content_type", 255),
            (Artifact, "storage_backend", 255),
            (Artifact, "storage_ref", 1024),
        ],
    )
    def test_has_its_length(self, model: type[Record], column: str, length: int) -> None:
        assert prepare(model, column, "🙂" * length) == "🙂" * length
        refused(model, column, "x" * (length + 1), f"longer than {length} characters")
        refused(model, column, 1, "expected a string")

    def test_may_be_empty_only_where_it_may_be_missing(self) -> None:
        assert [prepare(Run, "provider", value) for value in ("", None)] == ["", None]
        refused(Session, "agent_id", "", "must not be empty")
        refused(Session, "agent_id", None, "expected a string")
        refused(Artifact, "key", "", "must not be empty")

    def test_is_made_storable(self) -> None:
        assert prepare(Event, "provider", "a\0\ud800b") == "a\u2400\ufffdb"

    def test_a_subclass_of_str_becomes_a_str(self) -> None:
        assert type(prepare(Session, "agent_id", Text("x"))) is str


class TestVocabularies:
    @pytest.mark.parametrize("status", [Session.Status.ACTIVE, "active"])
    def test_a_known_status_becomes_a_str(self, status: str) -> None:
        prepared = prepare(Session, "status", status)
        assert (prepared, type(prepared)) == ("active", str)

    @pytest.mark.parametrize("status", ["Active", "active ", "", None, 1])
    def test_an_unknown_status_is_refused(self, status: Any) -> None:
        with pytest.raises(InvalidStatus, match=r"^status: unknown status"):
            prepare(Session, "status", status)

    def test_a_known_type_becomes_a_str(self) -> None:
        prepared = prepare(Event, "type", Event.Type.RUN_STARTED)
        assert (prepared, type(prepared)) == ("run_started", str)

    @pytest.mark.parametrize("value", ["invented", "", None, 1, ["run_started"]])
    def test_an_unknown_type_is_refused(self, value: Any) -> None:
        with pytest.raises(InvalidEventType, match=r"^type: "):
            prepare(Event, "type", value)

    def test_a_project_has_types_of_its_own(self, settings: Any) -> None:
        settings.ASM_STORE_EXTRA_EVENT_TYPES = ["invented"]
        assert prepare(Event, "type", "invented") == "invented"
        assert prepare(Event, "type", "run_started") == "run_started"


class TestTimes:
    @pytest.mark.parametrize("hours", [-11, 0, 5.5])
    def test_are_brought_to_utc(self, hours: float) -> None:
        local = MOMENT.astimezone(timezone(timedelta(hours=hours)))
        prepared = prepare(Event, "timestamp", local)

        assert prepared == MOMENT
        assert prepared.tzinfo is UTC

    @pytest.mark.parametrize(
        "value",
        [
            datetime(1000, 1, 1, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
            MOMENT.replace(microsecond=1),
        ],
    )
    def test_the_whole_range_is_kept(self, value: datetime) -> None:
        assert prepare(Event, "timestamp", value) == value

    @pytest.mark.parametrize(
        "value",
        [
            datetime(999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(1000, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        ],
    )
    def test_outside_of_it_they_are_refused(self, value: datetime) -> None:
        refused(Event, "timestamp", value, "the time .* is out of range")

    @pytest.mark.parametrize("value", [None, "2026-03-01T12:00:00+00:00", 0, NAIVE.date()])
    def test_other_types_are_refused(self, value: Any) -> None:
        refused(Event, "timestamp", value, "expected a datetime")

    def test_without_a_zone_they_are_refused(self) -> None:
        refused(Event, "timestamp", NAIVE, "the time 2026-03-01T12:00:00 has no zone")


class TestNumbers:
    @pytest.mark.parametrize(
        ("model", "column", "least", "most"),
        [
            (Run, "turn_count", 0, 2**31 - 1),
            (Event, "schema_version", 1, 2**31 - 1),
            (Event, "sequence_number", 1, 2**63 - 1),
            (Artifact, "byte_size", 0, 2**63 - 1),
        ],
    )
    def test_whole_ones_have_a_range(
        self, model: type[Record], column: str, least: int, most: int
    ) -> None:
        assert [prepare(model, column, value) for value in (least, most)] == [least, most]
        refused(model, column, least - 1, f"must be from {least} to {most}")
        refused(model, column, most + 1, f"must be from {least} to {most}")

    @pytest.mark.parametrize("column", ["turn_count", "cost_usd"])
    @pytest.mark.parametrize("value", ["1", True, [1], 1j])
    def test_nothing_else_is_a_number(self, column: str, value: Any) -> None:
        refused(Run, column, value)

    def test_a_float_is_no_whole_number(self) -> None:
        refused(Run, "turn_count", 1.0, "expected a whole number")

    def test_an_event_may_have_no_number_yet(self) -> None:
        assert prepare(Event, "sequence_number", None) is None

    @pytest.mark.parametrize("value", [0, 3, 0.1, 5e-324, 1.7976931348623157e308])
    def test_a_cost_is_kept_as_a_float(self, value: float) -> None:
        prepared = prepare(Run, "cost_usd", value)
        assert (prepared, type(prepared)) == (value, float)

    @pytest.mark.parametrize(
        "value", [-0.01, -1, float("nan"), float("inf"), float("-inf"), 10**400]
    )
    def test_a_cost_is_finite_and_not_negative(self, value: float) -> None:
        refused(Run, "cost_usd", value)

    def test_a_cost_may_be_unknown(self) -> None:
        assert prepare(Run, "cost_usd", None) is None


class TestJson:
    @pytest.mark.parametrize("value", [None, False, 0, "", [], {}, [{"a": [1]}], "text"])
    def test_a_payload_is_any_json(self, value: Any) -> None:
        assert prepare(Run, "output", value) == value

    @pytest.mark.parametrize(
        ("model", "column"),
        [
            (Session, "metadata"),
            (Session, "context"),
            (Run, "token_usage"),
            (Run, "provider_metadata"),
            (Event, "data"),
            (Artifact, "metadata"),
        ],
    )
    def test_a_mapping_is_a_mapping(self, model: type[Record], column: str) -> None:
        prepared = prepare(model, column, MappingProxyType({"a": (1, 2)}))
        assert (prepared, type(prepared)) == ({"a": [1, 2]}, dict)
        for value in (None, [], "text", 1, [("a", 1)]):
            refused(model, column, value, "expected a mapping")

    @pytest.mark.parametrize("value", [["a", "b"], ("a", "b"), []])
    def test_tags_are_a_list_of_strings(self, value: Any) -> None:
        assert prepare(Session, "tags", value) == list(value)

    @pytest.mark.parametrize("value", [None, "ab", {"a": 1}, {"a"}, [1], ["a", None], [b"a"]])
    def test_other_tags_are_refused(self, value: Any) -> None:
        refused(Session, "tags", value, "expected a list of strings")


class TestOnDatabases:
    def test_text_compares_by_code_point(self, using: str) -> None:
        connection = connections[using]
        collation = Session._meta.get_field("agent_id").db_parameters(connection)["collation"]

        assert (
            collation
            in {
                "sqlite": (None,),
                "postgresql": ("C",),
                "mysql": ("utf8mb4_nopad_bin", "utf8mb4_0900_bin"),
            }[vendor_of(using)]
        )

    def test_text_on_postgresql_has_no_second_index_for_like(self, using: str) -> None:
        connection = connections[using]
        field = Session._meta.get_field("agent_id")
        with connection.schema_editor(collect_sql=True) as editor:
            editor.create_model(Session)
            created = [sql for sql in map(str, editor.deferred_sql) if "INDEX" in sql]
        assert len(created) == len(Session._meta.indexes)
        named_otherwise = vendor_of(using) == "postgresql"
        assert str(field.db_type(connection)).startswith("character varying") == named_otherwise

    def test_json_on_mysql_is_text_without_a_check(self, using: str) -> None:
        connection = connections[using]
        field = Event._meta.get_field("data")
        text = vendor_of(using) == "mysql"

        assert (field.db_type(connection) == "longtext") == text
        assert (field.db_parameters(connection).get("collation") == "utf8mb4_bin") == text
        assert (field.db_check(connection) is not None) == (vendor_of(using) == "sqlite")

    def test_a_partial_index_is_whole_where_there_are_no_partial_ones(self, using: str) -> None:
        [index] = [index for index in Event._meta.indexes if index.name == "asm_events_run"]
        with connections[using].schema_editor(collect_sql=True) as editor:
            sql = str(index.create_sql(Event, editor))

        assert "asm_events_run" in sql
        assert ("WHERE" in sql) == (vendor_of(using) != "mysql")


@pytest.mark.parametrize("model", [Session, Run, Event, Artifact])
def test_fields_and_indexes_are_rebuilt_from_migrations(model: type[Record]) -> None:
    for field in model._meta.concrete_fields:
        _name, _path, args, kwargs = field.deconstruct()
        assert type(field)(*args, **kwargs).deconstruct()[1:] == field.deconstruct()[1:]
    for index in model._meta.indexes:
        _path, expressions, kwargs = index.deconstruct()
        assert type(index)(*expressions, **kwargs) == index
        assert isinstance(index, models.Index)
