"""The records: their defaults, their dict form, and what they do without a store."""

from __future__ import annotations

import copy
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.utils import timezone as django_timezone

from asm_store import fields
from asm_store.exceptions import InvalidStatus, ValidationError
from asm_store.models import Artifact, Event, Record, Run, Session, SessionSequence
from tests.records import MOMENT, fullest, kind, smallest

EVENT_TYPES = """
session_created session_started session_paused session_resumed session_completed session_failed
session_cancelled run_started run_completed run_failed run_cancelled run_timeout message_sent
message_received message_streamed tool_call_started tool_call_completed tool_call_failed
error_occurred error_recovered token_usage_updated turn_completed workspace_snapshot_taken
workspace_diff_computed policy_violation tool_approval_requested tool_approval_granted
tool_approval_denied
""".split()  # noqa: SIM905 (28 lines otherwise)


class TestDefaults:
    @pytest.mark.parametrize("record", smallest(), ids=kind)
    def test_the_smallest_record_is_complete(self, record: Record) -> None:
        described = record.to_dict()
        described.pop("sequence_number", None)  # the store gives it

        stored = record.prepared().to_dict()
        stored.pop("sequence_number", None)
        assert stored == described

    def test_of_a_session(self) -> None:
        session = Session(agent_id="assistant")

        assert session.status == "pending"
        assert (session.metadata, session.context, session.tags) == ({}, {}, [])
        assert (session.parent_session_id, session.deleted_at) == (None, None)

    def test_of_a_run(self) -> None:
        run = Run(session_id="ses_1")

        assert (run.status, run.turn_count) == ("pending", 0)
        assert (run.metadata, run.token_usage, run.provider_metadata) == ({}, {}, {})
        assert (run.input, run.output, run.error) == (None, None, None)
        assert (run.ended_at, run.provider, run.cost_usd) == (None, None, None)

    def test_of_an_event(self) -> None:
        event = Event(type="message_sent", session_id="ses_1")

        assert (event.data, event.metadata, event.schema_version) == ({}, {}, 1)
        assert (event.run_id, event.provider, event.correlation_id) == (None, None, None)
        assert event.sequence_number is None

    @pytest.mark.parametrize(
        ("model", "columns"),
        [
            (Session, ["created_at", "updated_at"]),
            (Run, ["started_at"]),
            (Event, ["timestamp"]),
            (Artifact, ["created_at"]),
        ],
    )
    def test_times_are_now_and_aware(self, model: type[Record], columns: list[str]) -> None:
        before = django_timezone.now()
        record = model()
        after = django_timezone.now()

        for column in columns:
            assert before <= getattr(record, column) <= after

    @pytest.mark.parametrize("model", [Session, Run, Event, Artifact])
    def test_json_is_not_shared(self, model: type[Record]) -> None:
        first: Any = model()
        first.metadata["changed"] = True

        second: Any = model()
        assert second.metadata == {}

    def test_a_record_is_shown_by_its_id(self) -> None:
        assert [str(record) for record in fullest()] == ["ses_1", "run_1", "evt_1", "art_1"]
        assert str(SessionSequence(session_id="ses_1", last_sequence=4)) == "ses_1: 4"


class TestIds:
    @pytest.mark.parametrize(
        ("model", "prefix"),
        [(Session, "ses"), (Run, "run"), (Event, "evt"), (Artifact, "art")],
    )
    def test_are_a_prefix_and_a_uuid7(self, model: type[Record], prefix: str) -> None:
        found, _, number = str(model().pk).partition("_")

        assert found == prefix
        assert len(number) == 32
        assert (uuid.UUID(number).version, uuid.UUID(number).variant) == (7, uuid.RFC_4122)

    def test_are_unique(self) -> None:
        assert len({fields.new_event_id() for _ in range(10_000)}) == 10_000

    def test_are_of_this_moment(self) -> None:
        before = django_timezone.now()
        number = uuid.UUID(fields.new_event_id().removeprefix("evt_")).int
        after = django_timezone.now()

        milliseconds = number >> 80
        assert before.timestamp() * 1000 - 1 <= milliseconds <= after.timestamp() * 1000 + 1

    def test_grow_with_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Steps of 250 ns over two milliseconds, and then days.
        start = 1_800_000_000_000_000_000
        moments = [start + 250 * n for n in range(8_000)]
        moments += [start + 86_400 * 10**9 * day for day in range(1, 1_000)]
        clock = SimpleNamespace(time_ns=iter(moments).__next__)
        monkeypatch.setattr(fields, "time", clock)

        ids = [fields.new_event_id() for _ in moments]
        assert ids == sorted(ids)


class TestUpdateStatus:
    @pytest.mark.parametrize("status", Session.Status.values)
    def test_of_a_session_sets_updated_at(self, status: str) -> None:
        session = Session(agent_id="a", created_at=MOMENT, updated_at=MOMENT)

        assert session.update_status(status) is session
        assert session.status == status
        assert session.updated_at > MOMENT
        assert session.created_at == MOMENT

    @pytest.mark.parametrize("status", Run.Status.values)
    def test_of_a_run_ends_it_when_it_is_terminal(self, status: str) -> None:
        run = Run(session_id="ses_1")

        assert run.update_status(status) is run
        assert run.status == status
        assert (run.ended_at is not None) == (status not in {"pending", "running"})

    @pytest.mark.parametrize("record", [Session(agent_id="a"), Run(session_id="ses_1")], ids=kind)
    @pytest.mark.parametrize("status", ["unknown", "", "ACTIVE", None, 0, ["active"]])
    def test_an_unknown_status_changes_nothing(self, record: Session | Run, status: Any) -> None:
        before = record.to_dict()
        with pytest.raises(InvalidStatus, match="known are pending"):
            record.update_status(status)

        assert record.to_dict() == before

    def test_each_has_its_own_vocabulary(self) -> None:
        with pytest.raises(InvalidStatus):
            Session(agent_id="a").update_status(Run.Status.TIMEOUT)
        with pytest.raises(InvalidStatus):
            Run(session_id="ses_1").update_status(Session.Status.ACTIVE)


class TestResults:
    def test_output_completes_the_run(self) -> None:
        run = Run(session_id="ses_1")

        assert run.set_output({"text": "done"}) is run
        assert (run.output, run.error, run.status) == ({"text": "done"}, None, "completed")
        assert run.ended_at is not None

    def test_error_fails_the_run(self) -> None:
        run = Run(session_id="ses_1")

        assert run.set_error({"message": "no"}) is run
        assert (run.output, run.error, run.status) == (None, {"message": "no"}, "failed")
        assert run.ended_at is not None

    @pytest.mark.parametrize("method", ["set_output", "set_error", "update_token_usage"])
    @pytest.mark.parametrize("value", [None, "text", [], 1, [("a", 1)]])
    def test_only_a_mapping_will_do(self, method: str, value: Any) -> None:
        run = Run(session_id="ses_1")
        before = run.to_dict()
        with pytest.raises(ValidationError, match="expected a mapping"):
            getattr(run, method)(value)

        assert run.to_dict() == before


class TestTokenUsage:
    def test_counts_are_added_by_name(self) -> None:
        run = Run(session_id="ses_1", token_usage={"input_tokens": 1, "note": "kept"})

        assert run.update_token_usage({"input_tokens": 2, "output_tokens": 3}) is run
        assert run.token_usage == {"input_tokens": 3, "output_tokens": 3, "note": "kept"}
        assert run.update_token_usage({}).token_usage["input_tokens"] == 3

    def test_what_the_run_had_is_not_changed_in_place(self) -> None:
        had = {"input_tokens": 1}
        Run(session_id="ses_1", token_usage=had).update_token_usage({"input_tokens": 1})

        assert had == {"input_tokens": 1}

    @pytest.mark.parametrize("count", [-1, True, None, "3", float("nan"), float("inf"), [1]])
    def test_a_bad_count_changes_nothing(self, count: Any) -> None:
        run = Run(session_id="ses_1", token_usage={"input_tokens": 1})
        with pytest.raises(ValidationError):
            run.update_token_usage({"input_tokens": 5, "output_tokens": count})

        assert run.token_usage == {"input_tokens": 1}

    def test_what_is_no_count_cannot_be_added_to(self) -> None:
        run = Run(session_id="ses_1", token_usage={"input_tokens": "many"})
        with pytest.raises(ValidationError, match="input_tokens: expected a number of tokens"):
            run.update_token_usage({"input_tokens": 5})
        run.token_usage = ["no mapping"]
        with pytest.raises(ValidationError, match="token_usage: expected a mapping"):
            run.update_token_usage({"input_tokens": 5})


class TestVocabularies:
    def test_the_event_types_are_the_28(self) -> None:
        assert len(EVENT_TYPES) == 28
        assert Event.Type.values == EVENT_TYPES

    def test_the_statuses_of_a_session(self) -> None:
        assert Session.Status.values == [
            "pending", "active", "paused", "completed", "failed", "cancelled",
        ]  # fmt: skip

    def test_the_statuses_of_a_run(self) -> None:
        assert Run.Status.values == [
            "pending", "running", "completed", "failed", "cancelled", "timeout",
        ]  # fmt: skip
        assert {"completed", "failed", "cancelled", "timeout"} == Run.TERMINAL_STATUSES

    def test_the_tables(self) -> None:
        models = apps.get_app_config("asm_store").get_models()
        assert sorted(model._meta.db_table for model in models) == [
            "asm_artifacts", "asm_events", "asm_runs", "asm_session_sequences", "asm_session_sums",
            "asm_sessions", "asm_usage_marks", "asm_usage_progress", "asm_usage_sums",
        ]  # fmt: skip


class TestPrepared:
    def test_the_record_itself_is_not_changed(self) -> None:
        event = Event(type="message_sent", session_id="ses_1", data={"text": "a\0b"})
        before = copy.deepcopy(event.to_dict())
        copied = event.prepared()

        assert copied.data == {"text": "a\u2400b"}
        copied.metadata["more"] = 1
        assert event.to_dict() == before

    def test_counts_add_up_over_the_record_and_over_time(self) -> None:
        session = Session(agent_id="a\0", context={"\0": "\0"}, tags=["\udfff"]).prepared()
        assert session.metadata["_sanitized"] == {"nul": 3, "surrogate": 1}

        session.context = {"again": "\0"}
        assert session.prepared().metadata["_sanitized"] == {"nul": 4, "surrogate": 1}

    def test_clean_records_have_no_counts(self) -> None:
        assert Session(agent_id="é🙂").prepared().metadata == {}

    @pytest.mark.parametrize("found", ["nonsense", {"nul": "many", "surrogate": True}])
    def test_what_stands_where_the_counts_go_cannot_break_them(self, found: Any) -> None:
        session = Session(agent_id="a", metadata={"_sanitized": found}, context={"t": "\0"})

        assert session.prepared().metadata["_sanitized"] == {"nul": 1, "surrogate": 0}

    def test_the_size_is_that_of_all_columns_together(self, settings: Any) -> None:
        settings.ASM_STORE_MAX_EVENT_BYTES = 60
        text = "é" * 7  # {"t":"ééééééé"} is 22 bytes
        Event(
            type="message_sent", session_id="s", data={"t": text}, metadata={"t": text}
        ).prepared()

        with pytest.raises(ValidationError, match="larger than 60 bytes"):
            Session(agent_id="a", metadata={"t": text}, context={"t": text}, tags=[text]).prepared()


def test_a_prepared_record_is_encoded_anew_when_it_is_given_another_value() -> None:
    event = Event(type="message_sent", session_id="ses_1", data={"a": 1}).prepared()
    assert event.json_text("data") == '{"a":1}'
    event.data = {"b": 2}
    assert event.json_text("data") == '{"b":2}'
    assert event.json_text("metadata") == "{}"
