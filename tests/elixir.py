"""The tables of the Elixir store (EctoSessionStore 0.8) as Ecto makes and fills them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.db import connections

TYPES = {
    "postgresql": {
        "string": "varchar(255)",
        "strings": "varchar(255)[]",
        "map": "jsonb",
        "time": "timestamp",
        "float": "float",
        "no_strings": "ARRAY[]::varchar[]",
    },
    "sqlite": {
        "string": "TEXT",
        "strings": "TEXT",
        "map": "TEXT",
        "time": "TEXT",
        "float": "NUMERIC",
        "no_strings": "('[]')",
    },
}
COLUMNS = {
    "asm_sessions": """
        id {string} PRIMARY KEY, agent_id {string} NOT NULL, status {string} NOT NULL,
        parent_session_id {string}, metadata {map} DEFAULT '{{}}', context {map} DEFAULT '{{}}',
        tags {strings} DEFAULT {no_strings}, created_at {time} NOT NULL,
        updated_at {time} NOT NULL, deleted_at {time} NULL
    """,
    "asm_runs": """
        id {string} PRIMARY KEY, session_id {string} NOT NULL, status {string} NOT NULL,
        input {map}, output {map}, error {map}, metadata {map} DEFAULT '{{}}',
        turn_count integer DEFAULT 0, token_usage {map} DEFAULT '{{}}',
        started_at {time} NOT NULL, ended_at {time}, provider {string} NULL,
        provider_metadata {map} DEFAULT '{{}}' NOT NULL, cost_usd {float}
    """,
    "asm_events": """
        id {string} PRIMARY KEY, type {string} NOT NULL, timestamp {time} NOT NULL,
        session_id {string} NOT NULL, run_id {string}, sequence_number integer NOT NULL,
        data {map} DEFAULT '{{}}', metadata {map} DEFAULT '{{}}',
        schema_version integer DEFAULT 1 NOT NULL, provider {string} NULL,
        correlation_id {string} NULL
    """,
    "asm_session_sequences": """
        session_id {string} PRIMARY KEY, last_sequence integer DEFAULT 0 NOT NULL,
        updated_at {time} NULL
    """,
    "asm_artifacts": """
        id {string} PRIMARY KEY, session_id {string} NULL, run_id {string} NULL,
        key {string} NOT NULL, content_type {string} NULL, byte_size bigint NOT NULL,
        checksum_sha256 {string} NOT NULL, storage_backend {string} NOT NULL,
        storage_ref {string} NOT NULL, metadata {map} DEFAULT '{{}}' NOT NULL,
        created_at {time} NOT NULL, deleted_at {time} NULL
    """,
}
# Ecto names an index after its table and columns.
INDEXES = {
    "asm_sessions": ["status", "agent_id", "created_at", "deleted_at"],
    "asm_runs": ["session_id, status", "provider", "started_at"],
    "asm_events": [
        "session_id, sequence_number",
        "session_id, type",
        "session_id, run_id",
        "correlation_id",
        "provider",
        "timestamp",
    ],
    "asm_artifacts": ["key", "session_id", "created_at"],
}
UNIQUE = {"session_id, sequence_number", "key"}


def at(second: int, microsecond: int = 0) -> datetime:
    return datetime(2026, 3, 1, 9, 30, second, microsecond, tzinfo=UTC)


ROWS: dict[str, list[dict[str, Any]]] = {
    "asm_sessions": [
        {
            "id": "ses_a",
            "agent_id": "assistant",
            "status": "active",
            "metadata": {"owner": "Zoë"},
            "context": {"system": "Be brief."},
            "tags": ["pinned", "größe"],
            "created_at": at(0, 1),
            "updated_at": at(1),
        },
        {
            "id": "ses_b",
            "agent_id": "reviewer",
            "status": "completed",
            "parent_session_id": "ses_a",
            "metadata": None,
            "context": None,
            "tags": None,
            "created_at": at(2),
            "updated_at": at(3),
            "deleted_at": at(4, 999999),
        },
        {
            "id": "ses_c",
            "agent_id": "assistant",
            "status": "pending",
            "parent_session_id": "ses_gone",
            "created_at": at(5),
            "updated_at": at(6),
        },
    ],
    "asm_runs": [
        {
            "id": "run_a",
            "session_id": "ses_a",
            "status": "completed",
            "input": {"messages": [{"role": "user", "content": "Hello"}]},
            "output": {"content": "Grüße 😀"},
            "metadata": {"n": 1},
            "turn_count": 2,
            "token_usage": {"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 7},
            "started_at": at(1),
            "ended_at": at(2, 500000),
            "provider": "claude",
            "provider_metadata": {"model": "m-1"},
            "cost_usd": 0.25,
        },
        {
            "id": "run_b",
            "session_id": "ses_a",
            "status": "failed",
            "error": {"code": "timeout"},
            "metadata": None,
            "turn_count": None,
            "token_usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 5},
            "started_at": at(3),
            "provider": "claude",
            "cost_usd": 1,
        },
        {"id": "run_lost", "session_id": "ses_gone", "status": "failed", "started_at": at(3)},
    ],
    # Not in their order.
    "asm_events": [
        {
            "id": "evt_3",
            "type": "run_completed",
            "timestamp": at(2),
            "session_id": "ses_a",
            "run_id": "run_a",
            "sequence_number": 3,
            "data": {"stop_reason": "end_turn"},
            "provider": "claude",
            "correlation_id": "call-1",
        },
        {
            "id": "evt_1",
            "type": "session_created",
            "timestamp": at(1, 1),
            "session_id": "ses_a",
            "sequence_number": 1,
            "data": None,
            "metadata": None,
        },
        {
            "id": "evt_2",
            "type": "message_sent",
            "timestamp": at(1),
            "session_id": "ses_a",
            "run_id": "run_a",
            "sequence_number": 2,
            "data": {"role": "user", "content": "line\nbreak \\u0000 ' \""},
        },
        {
            "id": "evt_b",
            "type": "message_sent",
            "timestamp": at(3),
            "session_id": "ses_b",
            "run_id": "run_gone",
            "sequence_number": 5,
            "data": {"content": "after some were pruned"},
        },
        {
            "id": "evt_lost",
            "type": "message_sent",
            "timestamp": at(3),
            "session_id": "ses_gone",
            "sequence_number": 1,
        },
    ],
    "asm_session_sequences": [
        {"session_id": "ses_a", "last_sequence": 3},
        {"session_id": "ses_b", "last_sequence": 6, "updated_at": at(7)},
        {"session_id": "ses_gone", "last_sequence": 1},
    ],
    "asm_artifacts": [
        {
            "id": "art_a",
            "session_id": "ses_a",
            "run_id": "run_a",
            "key": "patches/größe.diff",
            "content_type": "text/plain",
            "byte_size": 5,
            # Of b"hello".
            "checksum_sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "storage_backend": "file",
            "storage_ref": "patches_gr__e_diff_0123456789abcdef",
            "created_at": at(2),
        },
        {
            "id": "art_lost",
            "session_id": "ses_gone",
            "key": "lost",
            "byte_size": 0,
            "checksum_sha256": "0" * 64,
            "storage_backend": "file",
            "storage_ref": "lost",
            "created_at": at(2),
        },
    ],
}


def make_tables(using: str) -> None:
    """The five tables with their indexes and rows."""
    types = TYPES[connections[using].vendor]
    with connections[using].cursor() as cursor:
        for table, columns in COLUMNS.items():
            cursor.execute(f"CREATE TABLE {table} ({columns.format(**types)})")
            for index in INDEXES.get(table, ()):
                unique = "UNIQUE" if index in UNIQUE else ""
                name = f"{table}_{index.replace(', ', '_')}_index"
                cursor.execute(f"CREATE {unique} INDEX {name} ON {table} ({index})")
    for table, rows in ROWS.items():
        for row in rows:
            insert(using, table, row)


def insert(using: str, table: str, row: dict[str, Any]) -> None:
    as_stored = _on_sqlite if connections[using].vendor == "sqlite" else _on_postgresql
    places = ", ".join("%s" for _name in row)
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})",
            [as_stored(value) for value in row.values()],
        )


def _on_postgresql(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    return json.dumps(value) if isinstance(value, dict) else value


def _on_sqlite(value: Any) -> Any:
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
        # Versions of the adapter differ in the "Z".
        return text if value.second % 2 else f"{text}Z"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
