"""`to_dict()` and `from_dict()`: an exact round trip, and everything else refused."""

from __future__ import annotations

import copy
import json
from datetime import timedelta, timezone
from typing import Any

import pytest

from asm_store.exceptions import InvalidEventType, InvalidStatus, ValidationError
from asm_store.models import Artifact, Event, Record, Run, Session
from tests.records import MOMENT, fullest, kind, smallest


class TestDicts:
    @pytest.mark.parametrize("record", smallest() + fullest(), ids=kind)
    def test_the_round_trip_is_exact(self, record: Record) -> None:
        described = record.to_dict()
        again = type(record).from_dict(json.loads(json.dumps(described)))

        assert type(again) is type(record)
        assert again.to_dict() == described
        for name in described:
            assert getattr(again, name) == getattr(record, name)

    @pytest.mark.parametrize("record", fullest(), ids=kind)
    def test_the_dict_has_exactly_the_columns(self, record: Record) -> None:
        described = record.to_dict()

        fields = record._meta.concrete_fields
        assert list(described) == [field.attname for field in fields if not field.generated]
        assert None not in described.values()

    def test_times_have_microseconds_and_an_offset(self) -> None:
        paris = timezone(timedelta(hours=1))
        session = Session(agent_id="a", created_at=MOMENT, updated_at=MOMENT.astimezone(paris))
        described = session.to_dict()

        assert described["created_at"] == "2026-03-01T12:30:00.000000+00:00"
        assert described["updated_at"] == "2026-03-01T12:30:00.000000+00:00"
        assert described["deleted_at"] is None

    @pytest.mark.parametrize("text", ["2026-03-01T12:30:00Z", "2026-03-01T13:30+01:00"])
    def test_other_spellings_of_a_time_are_read(self, text: str) -> None:
        assert Session.from_dict({"agent_id": "a", "created_at": text}).created_at == MOMENT

    def test_a_time_without_zone_is_not_described(self) -> None:
        session = Session(agent_id="a", created_at=MOMENT.replace(tzinfo=None))
        with pytest.raises(ValidationError, match="has no zone"):
            session.to_dict()

    def test_what_is_left_out_has_its_default(self) -> None:
        event = Event.from_dict(
            {"type": "message_sent", "session_id": "ses_1", "schema_version": 1}
        )

        assert event.id.startswith("evt_")
        assert (event.data, event.metadata, event.run_id) == ({}, {}, None)

    def test_the_given_dict_is_not_changed(self) -> None:
        given = Session(agent_id="a", metadata={"text": "a\0b"}).to_dict()
        before = copy.deepcopy(given)
        session = Session.from_dict(given)

        session.metadata["more"] = 1
        assert given == before

    def test_text_is_made_storable(self) -> None:
        session = Session.from_dict({"agent_id": "a\0b", "context": {"text": "\ud800"}})

        assert (session.agent_id, session.context) == ("a\u2400b", {"text": "\ufffd"})
        assert session.metadata == {"_sanitized": {"nul": 1, "surrogate": 1}}

    @pytest.mark.parametrize("model", [Session, Run, Event, Artifact])
    @pytest.mark.parametrize("data", [None, [], "text", 3, [("agent_id", "a")]])
    def test_only_a_mapping_will_do(self, model: type[Record], data: Any) -> None:
        with pytest.raises(ValidationError, match="expected a mapping"):
            model.from_dict(data)

    @pytest.mark.parametrize("record", fullest(), ids=kind)
    @pytest.mark.parametrize("name", ["nonsense", "session", "_state", "pk", 3])
    def test_an_unknown_name_is_refused(self, record: Record, name: Any) -> None:
        with pytest.raises(ValidationError, match=f"{kind(record)} has no .*{name}"):
            type(record).from_dict({**record.to_dict(), name: "x"})

    @pytest.mark.parametrize("record", fullest()[:2], ids=kind)
    @pytest.mark.parametrize("status", ["running!", "Active", "", None, 1, ["active"]])
    def test_an_unknown_status_is_refused(self, record: Record, status: Any) -> None:
        with pytest.raises(InvalidStatus, match="status: unknown status"):
            type(record).from_dict({**record.to_dict(), "status": status})

    @pytest.mark.parametrize("type_", ["shouted", "MESSAGE_SENT", "", None, 1])
    def test_an_unknown_event_type_is_refused(self, type_: Any) -> None:
        with pytest.raises(InvalidEventType, match="type: "):
            Event.from_dict({"type": type_, "session_id": "ses_1", "schema_version": 1})

    @pytest.mark.parametrize("time", ["yesterday", "", 1_700_000_000, True, [], "2026-13-01"])
    def test_a_bad_time_is_refused(self, time: Any) -> None:
        with pytest.raises(ValidationError, match=r"created_at: .* is not an ISO 8601 time"):
            Session.from_dict({"agent_id": "a", "created_at": time})

    @pytest.mark.parametrize(
        "time", ["2026-03-01T12:30:00", "2026-03-01", MOMENT.replace(tzinfo=None)]
    )
    def test_a_time_without_zone_is_refused(self, time: Any) -> None:
        with pytest.raises(ValidationError, match=r"created_at: .* has no zone"):
            Session.from_dict({"agent_id": "a", "created_at": time})

    def test_a_time_that_must_be_there_is_missed(self) -> None:
        with pytest.raises(ValidationError, match="created_at: expected a datetime"):
            Session.from_dict({"agent_id": "a", "created_at": None})

    def test_a_missing_schema_version_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="schema_version: is missing"):
            Event.from_dict({"type": "message_sent", "session_id": "ses_1"})

    @pytest.mark.parametrize("version", [0, -1, None, "1", 1.0, True, 2**31])
    def test_a_bad_schema_version_is_refused(self, version: Any) -> None:
        described = Event(type="message_sent", session_id="ses_1").to_dict()
        with pytest.raises(ValidationError, match="schema_version: "):
            Event.from_dict({**described, "schema_version": version})

    @pytest.mark.parametrize(
        ("model", "column"),
        [
            (Session, "agent_id"),
            (Run, "session_id"),
            (Artifact, "key"),
            (Artifact, "byte_size"),
            (Artifact, "storage_ref"),
        ],
    )
    def test_a_column_without_default_must_be_there(self, model: type[Record], column: str) -> None:
        full = next(record for record in fullest() if isinstance(record, model)).to_dict()
        del full[column]
        with pytest.raises(ValidationError, match=f"{column}: "):
            model.from_dict(full)
