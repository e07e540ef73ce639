"""How the lines of a transcript divide into sessions, and what repeats."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from asm_store.events.types import EventType
from example_project.sample_data import (
    HAIKU,
    Transcript,
    broken_lamp,
    harbour_agents,
    text,
    thinking,
    tool_use,
    usage,
)
from tests.formats.logs import Runs, kinds, of_type, read

USED = usage(1, 2, 3, 4)


class TestSessions:
    def test_a_session_tells_where_it_came_from(self, tmp_path: Path) -> None:
        reader = read(broken_lamp().write(tmp_path / "log.jsonl"))[0]
        (session,) = reader.take_sessions(final=True)
        assert session.id == broken_lamp().session_id
        assert (session.agent_id, session.status) == ("claude-code", "completed")
        assert session.metadata == {"imported_from": "claude-code", "title": "Mend the lamp"}
        assert session.context == {
            "cwd": "/home/ada/lighthouse",
            "git_branch": "main",
            "version": "2.1.15",
        }
        assert session.created_at == datetime(2026, 3, 2, 9, 30, 1, tzinfo=UTC)
        assert session.updated_at == datetime(2026, 3, 2, 9, 30, 22, tzinfo=UTC)

    def test_a_subagent_has_a_session_of_its_own(self, tmp_path: Path) -> None:
        agent = harbour_agents()[0]
        reader, events, _runs = read(agent.write(tmp_path / "log.jsonl"))
        (session,) = reader.take_sessions(final=True)
        assert session.id == f"{agent.session_id}/agent-{agent.agent_id}"
        assert session.parent_session_id == agent.session_id
        assert session.metadata["subagent_id"] == agent.agent_id
        assert {event.session_id for event in events} == {session.id}

    def test_a_sidechain_in_the_main_file_is_a_session_of_its_own(
        self, log: Transcript, tmp_path: Path
    ) -> None:
        log.user("Main")
        log.user("Task for an agent", isSidechain=True, parentUuid=None)
        log.answer(text("Main answer"), usage=USED)
        reader, _events, runs = read(log.write(tmp_path / "log.jsonl"))
        sessions = [session.id for session in reader.take_sessions(final=True)]
        assert sessions == [log.session_id, f"{log.session_id}/sidechain"]
        assert [run.output for run in runs] == [{"content": "Main answer"}, None]

    def test_several_sessions_in_one_file_are_told_apart(
        self, log: Transcript, tmp_path: Path
    ) -> None:
        other = Transcript("other")
        for each in (log, other):
            each.user("Go")
            each.answer(text("Done"), usage=USED)
        log.lines = [line for pair in zip(log.lines, other.lines, strict=True) for line in pair]
        reader, events, runs = read(log.write(tmp_path / "log.jsonl"))
        assert len(reader.take_sessions(final=True)) == len(runs) == 2
        assert Counter(event.session_id for event in events) == {
            log.session_id: 6,
            other.session_id: 6,
        }


class TestRepetition:
    def test_a_history_that_is_written_again_adds_nothing(
        self, log: Transcript, tmp_path: Path
    ) -> None:
        log.user([text("One"), text("more")])
        log.answer(thinking("Hm"), tool_use("call", "Read"), usage=USED)
        log.result("call", "found")
        log.answer(text("Done"), usage=USED)
        before = read(log.write(tmp_path / "log.jsonl"))
        log.resume()
        again = read(log.write(tmp_path / "log.jsonl"))
        assert [event.to_dict() for event in again[1]] == [event.to_dict() for event in before[1]]
        assert [run.to_dict() for run in again[2]] == [run.to_dict() for run in before[2]]
        assert again[0].tokens == before[0].tokens
        assert again[0].tally.ignored == {"repeated line": 5}

    def test_it_does_not_bring_back_an_earlier_usage(self, log: Transcript, runs: Runs) -> None:
        log.user("One")
        log.answer(text("a"), usage=usage(10, 1))
        last = json.loads(log.lines[-1])
        last["message"].update(usage=usage(10, 250), content=[text("b")])
        log.line(last)
        log.resume()
        assert runs(log)[0].token_usage["output_tokens"] == 250

    def test_it_may_be_cut_into_other_lines(self, log: Transcript, tmp_path: Path) -> None:
        first = log.user([text("One"), text("more")])
        for block in first["message"]["content"]:
            message = {"role": "user", "content": [block]}
            log.line({**first, "uuid": f"again-{block['text']}", "message": message})
        _reader, events, runs = read(log.write(tmp_path / "log.jsonl"))
        assert len(runs) == 1
        assert len(of_type(events, EventType.MESSAGE_SENT)) == 2

    def test_what_follows_a_repeated_history_is_a_new_turn(self, tmp_path: Path) -> None:
        log = broken_lamp()
        runs = read(log.write(tmp_path / "log.jsonl"))[2]
        assert [run.turn_count for run in runs] == [6, 1]
        assert runs[1].provider_metadata["model"] == HAIKU

    def test_the_events_of_a_beginning_are_the_beginning_of_the_events(
        self, tmp_path: Path
    ) -> None:
        log = broken_lamp()
        whole = [event.id for event in read(log.write(tmp_path / "log.jsonl"))[1]]
        lines = log.lines
        for count in range(2, len(lines)):
            log.lines = lines[:count]
            _reader, events, _runs = read(log.write(tmp_path / "part.jsonl"))
            ids = [event.id for event in events]
            # Only the end of the last turn may be seen too early.
            until = -1 if ids and kinds(events)[-1] in {"run_completed"} else None
            assert ids[:until] == whole[: len(ids[:until])]
