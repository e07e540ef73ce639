"""Tables of others with our names are left alone, and the Elixir store's rows can move."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.files.storage import FileSystemStorage
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.checks import check_tables
from asm_store.models import Event, Session, SessionSequence
from asm_store.queries import get_cost_summary, get_totals, get_usage_summary, search_sessions
from asm_store.test.factories import make_event, make_session
from tests.cases import EMPTIED_APPS
from tests.databases import vendor_of
from tests.elixir import COLUMNS, ROWS, at, insert, make_tables
from tests.test_checks import found, of_database
from tests.test_migrations import NAMES, recorded, schema, tables

PAGE = (Path(__file__).parents[1] / "docs" / "from-elixir.md").read_text("utf-8")
RENAME, RENAME_KEYS, COPY_POSTGRESQL, COPY_SQLITE, COUNT, DROP = re.findall(
    r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)
[LOOK] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def migrate(using: str, state: str | None = None, **options: Any) -> None:
    target = [] if state is None else [state]
    call_command("migrate", "asm_store", *target, database=using, verbosity=0, **options)


@contextmanager
def every_app() -> Iterator[None]:
    """The checks of other apps need them."""
    apps.unset_available_apps()
    try:
        yield
    finally:
        apps.set_available_apps(EMPTIED_APPS)


def refused(command: str, *arguments: str, **options: Any) -> str:
    """What a command says when its checks make it fail."""
    with every_app(), pytest.raises(CommandError) as raised:
        call_command(command, *arguments, **options)
    return str(raised.value)


def execute(using: str, sql: str) -> None:
    """The statements of a block, one after the other."""
    with connections[using].cursor() as cursor:
        for statement in filter(None, map(str.strip, sql.split(";\n"))):
            cursor.execute(statement)


def contents(using: str) -> dict[str, list[Any]]:
    """The rows of the Elixir store's tables."""
    found = {}
    with connections[using].cursor() as cursor:
        for table in COLUMNS:
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            found[table] = cursor.fetchall()
    return found


@pytest.fixture
def empty(using: str) -> Iterator[str]:
    """Each database without our tables; afterwards it has them again, and no others."""
    before = schema(using)
    migrate(using, "zero")
    yield using
    forget(using)
    migrate(using)
    assert schema(using) == before
    # No later test shall meet a statement that was prepared for a table of this one.
    connections[using].close()


def forget(using: str) -> None:
    """Drop what a test made, and Django's record of it, in whatever state they are."""
    connection = connections[using]
    MigrationRecorder(connection).migration_qs.filter(app="asm_store").delete()
    with connection.cursor() as cursor:
        for table in connection.introspection.get_table_list(cursor):
            if table.name.lower().startswith(("asm_", "elixir_")):
                kind = "VIEW" if table.type == "v" else "TABLE"
                cursor.execute(f"DROP {kind} {connection.ops.quote_name(table.name)}")


@pytest.fixture
def supported(using: str) -> str:
    """Each database that the Elixir store supports."""
    if vendor_of(using) == "mysql":
        pytest.skip("the Elixir store runs on PostgreSQL and SQLite")
    return using


@pytest.fixture
def elixir(supported: str, empty: str) -> str:
    """Each of them with the tables of that store instead of ours."""
    make_tables(empty)
    return empty


def move(using: str) -> None:
    """The steps of the page, up to the comparison."""
    on_postgresql = vendor_of(using) == "postgresql"
    execute(using, RENAME + RENAME_KEYS * on_postgresql)
    assert of_database(using) == []
    migrate(using)
    if on_postgresql:
        # Where a user's own client may be, other than Django.
        execute(using, f"SET TIME ZONE 'Asia/Tokyo';\n{COPY_POSTGRESQL}SET TIME ZONE 'UTC'")
    else:
        execute(using, COPY_SQLITE)
    exec(LOOK.replace('"default"', repr(using)), {})


@pytest.fixture
def moved(elixir: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Each of them after the steps, in which nothing was found wrong."""
    move(elixir)
    assert capsys.readouterr().out == ""
    return elixir


def test_migrate_refuses_the_elixir_stores_tables(elixir: str) -> None:
    before = schema(elixir), contents(elixir)
    options: list[dict[str, Any]] = [{}, {"fake_initial": True}, {"fake": True}, {"plan": True}]
    for option in options:
        message = refused("migrate", "asm_store", database=elixir, skip_checks=False, **option)

        assert "(asm_store.E004)" in message
        assert f"The database {elixir!r} has {', '.join(sorted(COLUMNS))}" in message
        assert "look like the Elixir store's (EctoSessionStore). Nothing was changed." in message
        assert "docs/from-elixir.md" in message
        assert (schema(elixir), contents(elixir)) == before
        assert recorded(elixir) == []
    assert "(asm_store.E004)" in refused("migrate", database=elixir, skip_checks=False)


def test_without_checks_django_stops_at_the_first_table(elixir: str) -> None:
    before = schema(elixir), contents(elixir)

    with pytest.raises(DatabaseError, match="already exists"):
        migrate(elixir)

    assert (schema(elixir), contents(elixir)) == before
    assert recorded(elixir) == []


def test_without_checks_an_initial_migration_can_be_faked(elixir: str) -> None:
    """What the page warns of."""
    if vendor_of(elixir) == "postgresql":
        with pytest.raises(DatabaseError, match="jsonb_path_ops"):
            migrate(elixir, fake_initial=True)
        assert recorded(elixir) == NAMES[:1]
        [undo] = re.findall(r"`(DELETE FROM [^`]*)`", PAGE)
        execute(elixir, undo)
        assert [message.id for message in of_database(elixir)] == ["asm_store.E004"]
    else:
        execute(elixir, "UPDATE asm_runs SET metadata = '{}', turn_count = 0")
        migrate(elixir, fake_initial=True)
        assert recorded(elixir) == NAMES
        assert not Session.objects.using(elixir).filter(created_at=at(2)).exists()
        assert Session.objects.using(elixir).get(pk="ses_b").tags is None


@pytest.mark.parametrize(
    "kind", ["TABLE asm_runs (id varchar(9))", "VIEW asm_runs AS SELECT 1 AS id"]
)
def test_tables_of_somebody_else_are_told_apart(empty: str, kind: str) -> None:
    execute(empty, f"CREATE {kind}")
    [message] = of_database(empty)

    assert message.id == "asm_store.E004"
    assert f"{empty!r} has asm_runs, to which" in message.msg
    assert "look like somebody else's" in message.msg


def test_case_counts_where_the_database_says_so(empty: str) -> None:
    execute(empty, f"CREATE TABLE {connections[empty].ops.quote_name('ASM_RUNS')} (id varchar(9))")
    folded = connections[empty].features.ignores_table_name_case
    assert [message.id for message in of_database(empty)] == ["asm_store.E004"] * folded


def test_no_message_without_tables_or_at_any_state_of_our_own(empty: str) -> None:
    assert of_database(empty) == []
    for state in NAMES:
        migrate(empty, state)
        assert of_database(empty) == []


def test_a_migrated_database_is_asked_two_questions(using: str) -> None:
    connections[using].ensure_connection()
    with CaptureQueriesContext(connections[using]) as asked:
        assert check_tables(databases=[using]) == []
    assert len(asked) == 2


def test_no_message_for_tables_made_of_the_models(empty: str, settings: Any) -> None:
    """As a test database with migrations turned off has them."""
    settings.MIGRATION_MODULES = {**settings.MIGRATION_MODULES, "asm_store": None}
    call_command("migrate", run_syncdb=True, database=empty, verbosity=0)
    assert {*tables(empty)} >= COLUMNS.keys()
    del settings.MIGRATION_MODULES["asm_store"]
    assert of_database(empty) == []


class Elsewhere:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == "asm_store" else None


def test_no_message_where_a_router_keeps_the_app_away(empty: str, settings: Any) -> None:
    execute(empty, "CREATE TABLE asm_runs (id varchar(9))")
    settings.DATABASE_ROUTERS = [Elsewhere()]
    assert of_database(empty) == []


def test_only_the_databases_that_are_checked(empty: str) -> None:
    execute(empty, "CREATE TABLE asm_runs (id varchar(9))")
    with every_app():
        assert "asm_store.E004" not in [message.id for message in found()]
    assert "(asm_store.E004)" in refused("check", databases=[empty])


def test_no_message_without_djangos_own_table(unmigrated: str) -> None:
    assert of_database(unmigrated) == []
    execute(unmigrated, "CREATE TABLE asm_runs (id varchar(9))")
    assert [message.id for message in of_database(unmigrated)] == ["asm_store.E004"]


def test_a_database_that_cannot_be_reached_is_left_to_others(
    unmigrated: str, tmp_path: Path
) -> None:
    connections[unmigrated].settings_dict["NAME"] = str(tmp_path / "no" / "folder")
    assert of_database(unmigrated) == []


def test_sessions_read_as_they_were(moved: str) -> None:
    store = DatabaseSessionStore(moved)
    first, second, third = (store.get_session(f"ses_{name}") for name in "abc")

    assert first.to_dict() == make_session(**ROWS["asm_sessions"][0]).to_dict()
    assert (second.parent_session_id, second.deleted_at) == ("ses_a", at(4, 999999))
    assert (second.metadata, second.context, second.tags) == ({}, {}, [])
    assert (third.parent_session_id, third.status) == (None, "pending")
    assert [session.pk for session in store.list_sessions()] == ["ses_c", "ses_a"]
    # Times compare, also those without a fraction of a second.
    sessions = Session.objects.using(moved)
    assert [s.pk for s in sessions.filter(created_at=at(2))] == ["ses_b"]
    assert [s.pk for s in sessions.filter(created_at__lt=at(0, 2))] == ["ses_a"]


def test_sessions_are_found_by_tags(moved: str) -> None:
    for tags in (["pinned"], ["größe"], ["pinned", "größe"]):
        page = search_sessions(using=moved, tags=tags)
        assert [session.pk for session in page.sessions] == ["ses_a"]
    assert search_sessions(using=moved, tags=["gr"]).sessions == []


def test_events_are_in_order_and_counters_go_on(moved: str) -> None:
    store = DatabaseSessionStore(moved)
    events = store.get_events("ses_a")

    assert [event.pk for event in events] == ["evt_1", "evt_2", "evt_3"]
    rows = {row["id"]: row for row in ROWS["asm_events"]}
    assert events[1].to_dict() == Event(**rows["evt_2"]).to_dict()
    assert events[2].to_dict() == Event(**rows["evt_3"]).to_dict()
    assert (events[0].data, events[0].metadata) == ({}, {})
    assert [e.pk for e in store.get_events("ses_a", since=at(1))] == ["evt_1", "evt_3"]
    assert [e.run_id for e in store.get_events("ses_b")] == [None]

    appended = [store.append_event_with_sequence(make_event(ses)) for ses in ("ses_a", "ses_c")]
    assert [event.sequence_number for event in appended] == [4, 1]
    store.restore_session("ses_b")
    assert store.append_event_with_sequence(make_event("ses_b")).sequence_number == 7


def test_counters_have_the_time_of_the_last_append(moved: str) -> None:
    counters = SessionSequence.objects.using(moved).order_by("pk")
    assert list(counters.values_list("pk", "last_sequence", "updated_at")) == [
        ("ses_a", 3, at(2)),
        ("ses_b", 6, at(7)),
        ("ses_c", 0, at(6)),
    ]


def test_runs_tokens_and_cost(moved: str) -> None:
    store = DatabaseSessionStore(moved)
    first, second = store.list_runs("ses_a")
    row = ROWS["asm_runs"][0]

    assert {name: first.to_dict()[name] for name in ("input", "output", "token_usage")} == {
        name: row[name] for name in ("input", "output", "token_usage")
    }
    assert (first.started_at, first.ended_at) == (at(1), at(2, 500000))
    assert (first.model, first.total_tokens, first.error) == ("m-1", 120, None)
    assert (second.metadata, second.turn_count, second.output) == ({}, 0, None)
    usage = get_usage_summary(using=moved, since=at(1), until=at(3))
    assert (usage.total_input_tokens, usage.total_output_tokens, usage.total_tokens) == (
        101,
        22,
        125,
    )
    cost = get_cost_summary(using=moved)
    assert (cost.total_cost_usd, cost.run_count, cost.unmapped_runs) == (1.25, 2, 0)
    totals = get_totals(using=moved)
    assert (totals.session_count, totals.run_count, totals.event_count) == (3, 2, 4)


def test_artifacts_are_read_where_they_lie(moved: str, tmp_path: Path) -> None:
    [row, _lost] = ROWS["asm_artifacts"]
    content = tmp_path / row["storage_ref"]
    content.write_bytes(b"hello")
    place = {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    storages = {"file": {**place, "OPTIONS": {"location": str(tmp_path)}}}
    with override_settings(STORAGES=storages):
        artifacts = ArtifactStore(storage="file", using=moved)
        assert artifacts.get(row["key"]) == b"hello"
        assert [a.pk for a in artifacts.list_by_session("ses_a")] == ["art_a"]
        # A full path is a name, too.
        stored = artifacts.stat(row["key"])
        stored.storage_ref = str(content)
        stored.save(using=moved)
        assert artifacts.get(row["key"]) == b"hello"
        DatabaseSessionStore(moved).delete_session("ses_a")
    assert FileSystemStorage(location=tmp_path).exists(content.name)


def test_what_stays_behind_can_be_counted_and_the_rest_dropped(moved: str) -> None:
    with connections[moved].cursor() as cursor:
        cursor.execute(COUNT.rstrip().rstrip(";"))
        assert cursor.fetchall() == [
            ("sessions", 3, 3),
            ("runs", 3, 2),
            ("events", 5, 4),
            ("artifacts", 2, 1),
        ]
    execute(moved, DROP)
    assert not [name for name in connections[moved].introspection.table_names() if "elixir" in name]
    # By the names of their primary keys too, they are the tables of any project.
    moved_here = schema(moved)
    forget(moved)
    migrate(moved)
    assert moved_here == schema(moved)


def test_what_only_sqlite_lets_through_is_made_storable(
    elixir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if vendor_of(elixir) != "sqlite":
        pytest.skip("PostgreSQL's jsonb refuses U+0000")
    event = {"session_id": "ses_a", "timestamp": at(9), "metadata": {"n": 1}}
    nul = {"id": "evt_nul", "type": "error_occurred", "data": {"message": "a\0b\\u0000"}}
    insert(elixir, "asm_events", {**event, **nul, "sequence_number": 7})
    other = {"id": "evt_other", "type": "plan_revised", "data": {}}
    insert(elixir, "asm_events", {**event, **other, "sequence_number": 8})
    move(elixir)

    assert re.fullmatch(r"Event evt_other .*unknown event type.*\n", capsys.readouterr().out)
    found = {event.pk: event for event in DatabaseSessionStore(elixir).get_events("ses_a", after=3)}
    assert found["evt_nul"].data == {"message": "a\u2400b\\u0000"}
    assert found["evt_nul"].metadata == {"n": 1, "_sanitized": {"nul": 1, "surrogate": 0}}
    assert found["evt_other"].type == "plan_revised"


def test_there_is_a_way_back(moved: str) -> None:
    migrate(moved, "zero")
    backwards = re.sub(r"TABLE (\w+) RENAME TO (\w+)", r"TABLE \2 RENAME TO \1", RENAME)
    execute(moved, backwards)
    assert {table: len(rows) for table, rows in contents(moved).items()} == {
        table: len(rows) for table, rows in ROWS.items()
    }
