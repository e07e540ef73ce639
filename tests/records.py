"""Records of every kind, as small and as full as they can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from asm_store.models import Artifact, Event, Record, Run, Session

MOMENT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
NESTED: dict[str, Any] = {"list": [1, 1.5, True, None, {"deep": "日本 🙂"}], "big": 2**70}


def artifact(**columns: Any) -> Artifact:
    return Artifact(
        **{
            "key": "report.txt",
            "byte_size": 3,
            "checksum_sha256": "ab" * 32,
            "storage_backend": "default",
            "storage_ref": "agents/report.txt",
            **columns,
        }
    )


def smallest() -> list[Record]:
    """A record of each kind with no more than it needs."""
    return [
        Session(agent_id="assistant"),
        Run(session_id="ses_1"),
        Event(type="message_sent", session_id="ses_1"),
        artifact(),
    ]


def fullest() -> list[Record]:
    """A record of each kind with a value in every column."""
    later = MOMENT + timedelta(microseconds=1)
    return [
        Session(
            id="ses_1",
            agent_id="assistant",
            status="paused",
            parent_session_id="ses_0",
            metadata=NESTED,
            context={"cwd": "/home"},
            tags=["a", "b"],
            created_at=MOMENT,
            updated_at=later,
            deleted_at=later,
        ),
        Run(
            id="run_1",
            session_id="ses_1",
            status="timeout",
            input=["any", "JSON"],
            output=NESTED,
            error=False,
            metadata={"k": 1},
            turn_count=2,
            token_usage={"input_tokens": 3},
            started_at=MOMENT,
            ended_at=later,
            provider="scripted",
            provider_metadata={"model": "m"},
            cost_usd=0.25,
        ),
        Event(
            id="evt_1",
            type="tool_call_failed",
            timestamp=MOMENT,
            session_id="ses_1",
            run_id="run_1",
            sequence_number=7,
            data=NESTED,
            metadata={"k": 1},
            schema_version=3,
            provider="scripted",
            correlation_id="call_1",
        ),
        artifact(
            id="art_1",
            session_id="ses_1",
            run_id="run_1",
            content_type="text/plain",
            metadata={"k": 1},
            created_at=MOMENT,
            deleted_at=later,
        ),
    ]


def kind(record: Record) -> str:
    return type(record).__name__
