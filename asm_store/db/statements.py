"""PostgreSQL's statements that store and write out events, and what belongs to them."""

from __future__ import annotations

from collections.abc import Iterable

from ..models import Run, Session
from .base import COLUMNS, stored_columns

MOST = 2**63 - 1
NAMES = ", ".join(COLUMNS)
# Not each of many ids, of which the unique index knows: that would take a sixth of a batch's time.
ALL_NEW = "NOT EXISTS (SELECT FROM asm_events WHERE id IN (%(first)s::varchar, %(last)s::varchar))"
ALL_STORABLE = f"""{ALL_NEW}
        AND cardinality(%(runs)s::varchar[]) = (
            SELECT count(*) FROM asm_runs
            WHERE id = ANY(%(runs)s::varchar[]) AND session_id = %(session_id)s
        )"""
# `alive` asks for what the counter's row has given: the session is locked after it, as everywhere,
# and seen as it is by then. The counter is locked before it is moved, since that could not be
# taken back.
COUNT = f"""WITH counter AS (
        SELECT session_id, last_sequence + %(events)s AS latest FROM asm_session_sequences
        WHERE session_id = %(session_id)s AND last_sequence <= {MOST} - %(events)s
        AND last_sequence = coalesce(%(expected)s::bigint, last_sequence)
        FOR UPDATE
    ), alive AS (
        SELECT id FROM asm_sessions
        WHERE id = (SELECT session_id FROM counter) AND deleted_at IS NULL
        FOR SHARE
    )
    UPDATE asm_session_sequences moved SET last_sequence = latest, updated_at = %(now)s
    FROM counter CROSS JOIN alive
    WHERE moved.session_id = counter.session_id AND {ALL_STORABLE}
    RETURNING last_sequence
"""
# The function is made by migration 0008. It does the same with one event, and stores it: what it
# consists of is planned once, where each APPEND would be planned anew without prepared statements.
GIVEN_TO_APPEND = {*COLUMNS, "expected", "now"} - {"sequence_number"}
APPEND = "SELECT asm_append_event({})".format(
    ", ".join(f"given_{name} => %({name})s" for name in sorted(GIVEN_TO_APPEND))
)
# A text of `jsonb` has no line breaks.
JSON_TEXTS = {
    "timestamp": (
        """'"' || to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00"'"""
    ),
    **dict.fromkeys(("data", "metadata", "sequence_number", "schema_version"), "{0}::text"),
}
MEMBERS = {
    name: f"""'"{name}":' || """
    + JSON_TEXTS.get(name, "coalesce(to_json({0})::text, 'null')").format(f"asm_events.{name}")
    for name in COLUMNS
}
LINES = {
    payloads: "('{' || "
    + " || ',' || ".join(sql for name, sql in MEMBERS.items() if payloads or not COLUMNS[name])
    + " || '}')"
    for payloads in (True, False)
}
COPY = f"COPY asm_events ({NAMES}) FROM STDIN"

OF_SESSION, OF_RUN = stored_columns(Session), stored_columns(Run)


def _given(kind: str, names: Iterable[str]) -> str:
    return ", ".join(f"%({kind}_{name})s" for name in names)


def _renewed(names: Iterable[str]) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in names if name != "id")


# Each of them asks for what the one before has given: so the locks are taken in the order in which
# all writers take them. What may have to be marked, healed, or refused gives no row. A row that was
# there has been locked by this transaction, of which its `xmax` speaks.
SAVE = f"""WITH counter AS (
        INSERT INTO asm_session_sequences AS kept (session_id, last_sequence, updated_at)
        VALUES (%(session_id)s, %(events)s, %(now)s)
        ON CONFLICT (session_id) DO UPDATE
        SET last_sequence = kept.last_sequence + %(events)s, updated_at = %(now)s
        WHERE kept.last_sequence <= {MOST} - %(events)s
        RETURNING last_sequence
    ), saved AS (
        INSERT INTO asm_sessions AS kept ({", ".join(OF_SESSION)})
        SELECT {_given("session", OF_SESSION)} FROM counter
        ON CONFLICT (id) DO UPDATE SET {_renewed(OF_SESSION)}
        WHERE kept.deleted_at IS NULL AND kept.agent_id = excluded.agent_id
        AND kept.created_at = excluded.created_at
        RETURNING xmax = 0 AS is_new
    ), run AS (
        INSERT INTO asm_runs AS kept ({", ".join(OF_RUN)})
        SELECT {_given("run", OF_RUN)} FROM saved
        ON CONFLICT (id) DO UPDATE SET {_renewed(name for name in OF_RUN if name != "cost_usd")},
        cost_usd = CASE WHEN %(keep_cost)s THEN coalesce(kept.cost_usd, excluded.cost_usd)
            ELSE excluded.cost_usd END
        WHERE kept.session_id = excluded.session_id AND kept.started_at = excluded.started_at
        RETURNING cost_usd
    )
    SELECT last_sequence, is_new, cost_usd FROM counter CROSS JOIN saved CROSS JOIN run
    WHERE CASE WHEN last_sequence > %(events)s THEN NOT is_new
        ELSE NOT EXISTS (SELECT FROM asm_events WHERE session_id = %(session_id)s) END
    AND {ALL_NEW}
"""

# Many sessions, whose ids are given as JSON once: drivers look at each text of an array.
GIVEN = "WITH given AS (SELECT ARRAY(SELECT jsonb_array_elements_text(%s::jsonb)) AS ids)"
IDS = "(SELECT ids FROM given)::varchar[]"
# Followed by what locks the sessions: COUNTED has none before all counters are locked.
LOCK = f"""{GIVEN}, counters AS MATERIALIZED (
        SELECT session_id, last_sequence FROM asm_session_sequences
        WHERE session_id = ANY({IDS}) ORDER BY session_id FOR UPDATE
    ), locked AS MATERIALIZED ("""
COUNTED = f"= ANY(CASE WHEN (SELECT count(*) FROM counters) >= 0 THEN {IDS} END)"
LOCKED = """ FOR UPDATE)
    SELECT locked.*, last_sequence FROM locked LEFT JOIN counters ON session_id = id
"""
# Children that go too are left alone: of two changes of one row, a statement makes one.
REMOVE = f"""{GIVEN}, children AS (
        UPDATE asm_sessions SET parent_session_id = NULL
        WHERE parent_session_id = ANY({IDS}) AND NOT id = ANY({IDS})
    ), artifacts AS (
        DELETE FROM asm_artifacts WHERE session_id = ANY({IDS})
        RETURNING storage_backend, storage_ref
    ), events AS (
        DELETE FROM asm_events WHERE session_id = ANY({IDS})
    ), runs AS (
        DELETE FROM asm_runs WHERE session_id = ANY({IDS}) RETURNING started_at AS moment
    ), counters AS (
        DELETE FROM asm_session_sequences WHERE session_id = ANY({IDS})
    ), sums AS (
        DELETE FROM asm_session_sums WHERE session_id = ANY({IDS})
    ), sessions AS (
        DELETE FROM asm_sessions WHERE id = ANY({IDS}) RETURNING created_at AS moment
    ), marks AS (
        INSERT INTO asm_usage_marks (begin) SELECT DISTINCT date_trunc('hour', moment, 'UTC')
        FROM (SELECT moment FROM runs UNION ALL SELECT moment FROM sessions) began
        WHERE moment < %s
    )
    SELECT storage_backend, storage_ref FROM artifacts
"""
