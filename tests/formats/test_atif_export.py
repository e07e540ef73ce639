"""Sessions written as ATIF trajectories, and read back."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import SessionNotFound
from asm_store.formats import RecordCounts, export_sessions, import_paths
from asm_store.formats.atif_export import trajectories, trajectory_lines
from asm_store.formats.atif_steps import STEP_TYPES
from asm_store.formats.drafts import key_of
from asm_store.models import Event, Run, Session
from asm_store.test import make_event, make_run, make_session
from example_project.sample_data import broken_lamp, crowded_harbour, storm
from tests.formats.logs import import_log, stored
from tests.formats.rollouts import squall, tide_table
from tests.formats.trajectories import knots, leak, logbook, voyage, write

HAS_ATIF = importlib.util.find_spec("atif") is not None
TOOL = {"tool_name": "look", "tool_call_id": "call"}
STARTED = ("tool_call_started", {**TOOL, "tool_input": {"a": 1}})
COMPLETED = ("tool_call_completed", {**TOOL, "tool_output": "seen"})


def validate(documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents, after the models of the package `atif` have accepted each."""
    from atif import Trajectory

    found = list(documents)
    for document in found:
        Trajectory.model_validate(document)
    return found


def write_all(documents: Iterable[dict[str, Any]], folder: Path) -> None:
    folder.mkdir()
    for number, document in enumerate(documents):
        write(document, folder / f"{number}.json")


def conversation(using: str) -> list[tuple[Any, ...]]:
    """Everything that has to come back, event by event."""
    events = Event.objects.using(using).filter(type__in=STEP_TYPES)
    return sorted(
        (e.session_id, e.id, str(e.type), key_of(e.data), e.run_id or "", e.timestamp)
        for e in events
    )


def totals(using: str) -> list[tuple[Any, ...]]:
    runs = Run.objects.using(using).order_by("id")
    return [
        (r.id, r.session_id, r.status, r.token_usage, r.cost_usd, r.provider, r.turn_count)
        for r in runs
    ]


@pytest.mark.skipif(not HAS_ATIF, reason="needs the package atif")
class TestOracle:
    @pytest.mark.parametrize("make", [broken_lamp, crowded_harbour, storm, tide_table, squall])
    def test_every_trajectory_is_valid(self, using: str, tmp_path: Path, make: Any) -> None:
        log = make()
        import_log(log.write(tmp_path / "log.jsonl"), tmp_path, using)
        assert len(validate(trajectories(using, log.session_id))) > 0

    @pytest.mark.parametrize("make", [leak, knots, voyage])
    def test_what_was_a_trajectory_is_valid_again(
        self, using: str, tmp_path: Path, make: Any
    ) -> None:
        import_log(write(make(), tmp_path / "log.json"), tmp_path, using)
        for session in Session.objects.using(using).all():
            validate(trajectories(using, session.id))

    def test_the_example_of_the_tests_is_valid_itself(self) -> None:
        validate([voyage(), logbook()])


class TestRoundTrip:
    @pytest.mark.parametrize("make", [broken_lamp, crowded_harbour, storm, tide_table, squall])
    def test_logs_come_back(self, using: str, tmp_path: Path, make: Any) -> None:
        log = make()
        import_log(log.write(tmp_path / "log.jsonl"), tmp_path, using)
        self._there_and_back(using, tmp_path)

    @pytest.mark.parametrize("make", [leak, knots, voyage])
    def test_trajectories_come_back(self, using: str, tmp_path: Path, make: Any) -> None:
        import_log(write(make(), tmp_path / "log.json"), tmp_path, using)
        self._there_and_back(using, tmp_path)

    def _there_and_back(self, using: str, tmp_path: Path) -> None:
        sessions = list(Session.objects.using(using).values_list("pk", "parent_session_id"))
        before = conversation(using), totals(using)
        documents = [doc for pk, _parent in sessions for doc in trajectories(using, pk)]
        for pk, _parent in sessions:
            DatabaseSessionStore(using).delete_session(pk)
        # A child before its parent, which it finds when it is imported again.
        documents.sort(key=lambda document: -len(document["session_id"]))
        write_all(documents, tmp_path / "exported")
        for _time in range(2):
            report = import_paths([tmp_path / "exported"], using=using)
            assert [file.error for file in report.files] == [None] * len(documents)
        assert (conversation(using), totals(using)) == before
        again = Session.objects.using(using).values_list("pk", "parent_session_id")
        assert sorted(again) == sorted(sessions)

    @pytest.mark.parametrize("make", [broken_lamp, tide_table])
    def test_an_export_adds_nothing_where_it_came_from(
        self, using: str, tmp_path: Path, make: Any
    ) -> None:
        log = make()
        import_log(log.write(tmp_path / "log.jsonl"), tmp_path, using)
        before = stored(using)
        write_all(trajectories(using, log.session_id), tmp_path / "exported")
        report = import_paths([tmp_path / "exported"], using=using)
        assert (report.total.events.new, report.total.runs.updated) == (0, 0)
        assert stored(using) == before


EVENTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                STARTED,
                COMPLETED,
                ("tool_call_failed", {**TOOL, "error_message": "blind"}),
                ("tool_call_completed", {"tool_output": {"deep": [1, None]}}),
                ("tool_call_started", {"tool_name": "text", "tool_input": "not an object"}),
                ("token_usage_updated", {"input_tokens": 5, "output_tokens": 2}),
                ("token_usage_updated", {"cache_read_tokens": 7, "model": "m", "more": 1}),
                ("message_streamed", {"content": "", "block_type": "thinking"}),
                ("message_streamed", {"content": "a delta"}),
                ("error_occurred", {"error_message": "x", "error_code": "y"}),
            ]
        ),
        st.builds(
            lambda kind, said, role: (kind, {"content": said, "role": role}),
            st.sampled_from(["message_sent", "message_received"]),
            st.text(max_size=3) | st.sampled_from(["", "☂"]),
            st.sampled_from(["user", "assistant", "developer", "system", ""]),
        ),
        st.builds(lambda data: ("message_received", data), st.just({"content": {"odd": 1}})),
    ),
    max_size=12,
)


class TestAnything:
    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(drawn=EVENTS, without_run=st.sets(st.integers(0, 11)))
    def test_any_events_come_back(
        self,
        using: str,
        tmp_path_factory: pytest.TempPathFactory,
        drawn: list[tuple[str, dict[str, Any]]],
        without_run: set[int],
    ) -> None:
        store = DatabaseSessionStore(using)
        session = store.save_session(make_session())
        run = store.save_run(make_run(session, provider="mine"))
        store.append_events(
            [
                make_event(
                    session,
                    type=kind,
                    data=data,
                    run_id=None if number in without_run else run.id,
                )
                for number, (kind, data) in enumerate(drawn)
            ]
        )
        before = conversation(using)
        deltas = {pk for _s, pk, kind, data, *_ in before if "a delta" in data}
        documents = list(trajectories(using, session.id))
        if HAS_ATIF:
            validate(documents)
        store.delete_session(session.id)
        folder = tmp_path_factory.mktemp("any") / "exported"
        write_all(documents, folder)
        report = import_paths([folder], using=using)
        assert [file.error for file in report.files] == [None] * len(documents)
        assert conversation(using) == [each for each in before if each[1] not in deltas]
        DatabaseSessionStore(using).delete_session(session.id)


class TestDocument:
    def test_a_run_without_events_keeps_its_usage_and_cost(
        self, using: str, tmp_path: Path
    ) -> None:
        store = DatabaseSessionStore(using)
        session = store.save_session(make_session())
        usage = {"input_tokens": 9, "output_tokens": 3, "cache_read_tokens": 5}
        run = make_run(session, token_usage=usage, cost_usd=0.5)
        store.save_run(run.set_output({}))
        (document,) = trajectories(using, session.id)
        assert document["final_metrics"] == {
            "total_prompt_tokens": 14,
            "total_completion_tokens": 3,
            "total_cached_tokens": 5,
            "total_cost_usd": 0.5,
            "total_steps": 1,
        }
        store.delete_session(session.id)
        import_paths([write(document, tmp_path / "a.json")], using=using)
        again = store.get_run(run.id)
        assert again.token_usage == {**usage, "cache_creation_tokens": 0}
        assert (again.cost_usd, again.status, again.provider) == (0.5, run.status, run.provider)

    def test_runs_stand_in_the_order_of_their_beginning(self, using: str) -> None:
        store = DatabaseSessionStore(using)
        session = store.save_session(make_session())
        runs = [store.save_run(make_run(session)) for _ in range(3)]
        for run in reversed(runs):
            store.append_event(make_event(session, run_id=run.id))
            store.append_event(make_event(session, run_id=None))
        documents = list(trajectories(using, session.id))
        assert [doc["trajectory_id"] for doc in documents] == [run.id for run in reversed(runs)]
        assert [len(doc["steps"]) for doc in documents] == [2, 2, 2]

    def test_a_result_stands_beside_its_call(self, using: str) -> None:
        store = DatabaseSessionStore(using)
        session = store.save_session(make_session())
        run = store.save_run(make_run(session))
        said = ("message_received", {"content": "meanwhile", "role": "assistant"})
        for kind, data in (STARTED, said, COMPLETED):
            store.append_event(make_event(session, type=kind, data=data, run_id=run.id))
        (document,) = trajectories(using, session.id)
        first, second = document["steps"]
        assert first["observation"]["results"] == [{"source_call_id": "call", "content": "seen"}]
        assert second["message"] == "meanwhile"

    def test_lines_are_what_an_import_reads(self, using: str, tmp_path: Path) -> None:
        import_paths([write(voyage(), tmp_path / "a.json")], using=using)
        before = conversation(using), totals(using)
        counts: Counter[str] = Counter()
        ids = ["voyage-1", "gone", "voyage-1/pilot"]
        lines = list(trajectory_lines(using, ids, counts))
        assert counts == {"sessions": 2, "runs": 2, "events": len(before[0])}
        for pk in ids:
            DatabaseSessionStore(using).delete_session(pk)
        path = tmp_path / "exported.jsonl"
        path.write_bytes(b"".join(lines))
        assert import_log(path, tmp_path, using).format == "atif"
        assert (conversation(using), totals(using)) == before

    def test_a_session_that_is_deleted_meanwhile_is_an_error(self, using: str) -> None:
        store = DatabaseSessionStore(using)
        for name in ("a", "b"):
            store.save_session(make_session(id=name))
            for _ in range(2):
                store.append_event(make_event(name, run_id=store.save_run(make_run(name)).id))
        lines = iter(export_sessions(["a", "b"], using=using, format="atif"))
        next(lines)
        store.delete_session("a")
        with pytest.raises(SessionNotFound, match="a was deleted while it was read"):
            list(lines)

    def test_an_unknown_session(self, using: str) -> None:
        with pytest.raises(SessionNotFound):
            next(trajectories(using, "none"))

    def test_a_session_of_nothing_has_no_trajectory(self, using: str) -> None:
        session = DatabaseSessionStore(using).save_session(make_session())
        assert list(trajectories(using, session.id)) == []

    def test_an_import_is_counted(self, using: str, tmp_path: Path) -> None:
        report = import_paths([write(voyage(), tmp_path / "a.json")], using=using)
        assert report.total.sessions == RecordCounts(new=2)
        assert report.total.runs == RecordCounts(new=2)
