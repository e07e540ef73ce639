from typing import Any

from django.db import migrations

# Whoever waits for the counter sees by each statement after it what others have committed by then.
# What was counted for a session that was deleted meanwhile is taken back, under the lock. Plans are
# made once for all values, and kept: one of when a table was small would look through all of it
# when it is large.
CREATE = """
CREATE OR REPLACE FUNCTION asm_append_event(
    given_id varchar, given_type varchar, given_timestamp timestamptz, given_data jsonb,
    given_metadata jsonb, given_schema_version integer, given_provider varchar,
    given_correlation_id varchar, given_run_id varchar, given_session_id varchar,
    given_expected bigint, given_now timestamptz
) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    number bigint;
BEGIN
    PERFORM FROM asm_sessions WHERE id = given_session_id AND deleted_at IS NULL
    AND NOT EXISTS (SELECT FROM asm_events WHERE id = given_id);
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF given_run_id IS NOT NULL THEN
        PERFORM FROM asm_runs WHERE id = given_run_id AND session_id = given_session_id;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;

    UPDATE asm_session_sequences SET last_sequence = last_sequence + 1, updated_at = given_now
    WHERE session_id = given_session_id AND last_sequence < 9223372036854775807
    AND last_sequence = coalesce(given_expected, last_sequence)
    RETURNING last_sequence INTO number;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    PERFORM FROM asm_sessions WHERE id = given_session_id AND deleted_at IS NULL FOR SHARE;
    IF NOT FOUND THEN
        UPDATE asm_session_sequences SET last_sequence = number - 1
        WHERE session_id = given_session_id;
        RETURN NULL;
    END IF;

    INSERT INTO asm_events (
        id, type, timestamp, sequence_number, data, metadata, schema_version, provider,
        correlation_id, run_id, session_id
    ) VALUES (
        given_id, given_type, given_timestamp, number, given_data, given_metadata,
        given_schema_version, given_provider, given_correlation_id, given_run_id, given_session_id
    );
    RETURN number;
END
$$
"""
# It has the rights of who calls it, and gives none: those of the tables are asked for.
GRANT = "GRANT EXECUTE ON FUNCTION asm_append_event TO PUBLIC"
# Of the schema that the tables are in, and not of another that is looked in after it.
DROP = """
DO $$ BEGIN
    EXECUTE format('DROP FUNCTION IF EXISTS %I.asm_append_event', current_schema());
END $$
"""


def create_function(apps: Any, schema_editor: Any) -> None:
    """Of PostgreSQL alone: its plans are kept with a connection, prepared statements or not."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(CREATE)
        schema_editor.execute(GRANT)


def drop_function(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(DROP, None)


class Migration(migrations.Migration):
    dependencies = [("asm_store", "0007_session_sums")]

    operations = [migrations.RunPython(create_function, drop_function)]
