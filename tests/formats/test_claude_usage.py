"""The usage of API messages, each of which stands in several lines."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asm_store.events.types import EventType
from asm_store.formats.reports import Tokens
from example_project.sample_data import (
    HAIKU,
    OPUS,
    Transcript,
    broken_lamp,
    crowded_harbour,
    harbour_agents,
    storm,
    text,
    tool_use,
    usage,
)
from tests.formats.logs import Runs, of_type, read

USED = usage(1, 2, 3, 4)


class TestUsage:
    def test_lines_that_repeat_a_message_are_counted_once(
        self, log: Transcript, runs: Runs
    ) -> None:
        log.user("Go")
        log.answer(text("a"), text("b"), tool_use("c", "Read"), usage=USED)
        log.result("c", "")
        log.answer(text("d"), usage=USED)
        (run,) = runs(log)
        assert run.token_usage == Tokens(2, 4, 6, 8).to_dict()
        assert run.turn_count == 2

    def test_the_last_line_of_a_message_wins(self, log: Transcript, tmp_path: Path) -> None:
        log.user("Go")
        log.answer(text("a"), usage=usage(10, 1, 5, 5))
        last = json.loads(log.lines[-1])
        last["message"]["usage"] = usage(10, 250, 5, 0)
        last["message"]["content"] = [text("b")]
        log.line(last)
        reader, events, (run,) = read(log.write(tmp_path / "log.jsonl"))
        assert run.token_usage == reader.tokens.to_dict() == Tokens(10, 250, 5, 0).to_dict()
        assert run.turn_count == 1
        sums: Counter[str] = Counter()
        for event in of_type(events, EventType.TOKEN_USAGE_UPDATED):
            sums.update({name: event.data[name] for name in run.token_usage})
        assert dict(sums) == run.token_usage

    def test_one_message_of_two_requests_is_two(self, log: Transcript, runs: Runs) -> None:
        log.user("Go")
        log.answer(text("a"), usage=USED)
        log.line({**json.loads(log.lines[-1]), "requestId": "another"})
        assert runs(log)[0].token_usage == Tokens(2, 4, 6, 8).to_dict()

    @pytest.mark.parametrize("wrong", [None, "12", -1, 1.5, True, 2**60, [1]])
    def test_a_count_that_is_none_counts_nothing(
        self, log: Transcript, runs: Runs, wrong: object
    ) -> None:
        log.user("Go")
        log.answer(text("a"), usage={"output_tokens": wrong, "input_tokens": 3})
        assert runs(log)[0].token_usage == Tokens(input_tokens=3).to_dict()

    def test_the_last_model_counts_and_all_are_kept(self, log: Transcript, runs: Runs) -> None:
        log.user("Go")
        log.answer(text("a"), usage=USED, model=HAIKU)
        log.answer(text("b"), usage=USED, model=OPUS)
        log.answer(text("c"), usage=USED, model=HAIKU)
        metadata = runs(log)[0].provider_metadata
        assert metadata == {"model": HAIKU, "models": [OPUS, HAIKU]}

    def test_the_samples_add_up(self, tmp_path: Path) -> None:
        for log in (broken_lamp(), crowded_harbour(), *harbour_agents(), storm()):
            messages: dict[tuple[str, str | None], dict[str, Any]] = {}
            for line in log.lines:
                record = json.loads(line) if line.startswith("{") else {}
                if record.get("type") == "assistant":
                    message = record["message"]
                    messages[message["id"], record.get("requestId")] = message["usage"]
            reader, _events, runs = read(log.write(tmp_path / "log.jsonl"))
            for name, key in (
                ("input_tokens", "input_tokens"),
                ("output_tokens", "output_tokens"),
                ("cache_read_tokens", "cache_read_input_tokens"),
                ("cache_creation_tokens", "cache_creation_input_tokens"),
            ):
                expected = sum(used[key] for used in messages.values())
                assert sum(run.token_usage.get(name, 0) for run in runs) == expected
                assert reader.tokens.to_dict()[name] == expected
