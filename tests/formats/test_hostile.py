"""Whatever stands in a log, reading it ends well: each line gives events, or is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from asm_store.exceptions import ValidationError
from asm_store.formats.claude_code import ClaudeCodeReader
from asm_store.formats.lines import Line, SkippedLineError
from asm_store.formats.reports import Tally
from example_project.sample_data import broken_lamp, crowded_harbour, harbour_agents, storm
from tests.formats.logs import read

LOGS = (broken_lamp(), crowded_harbour(), *harbour_agents(), storm())
RECORDS = [
    json.loads(line)
    for line in chain.from_iterable(log.lines for log in LOGS)
    if line.startswith("{")
]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.sampled_from(["\0", "\ud800", "x" * 300, "user", "assistant", "2026-03-02T09:30:00Z"]),
    st.lists(st.none() | st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something inside a record."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield (*path, key)
        yield from paths(value[key], (*path, key))


@st.composite
def odd_records(draw: st.DrawFn) -> dict[str, Any]:
    """A record of the samples with a few of its values changed."""
    record: dict[str, Any] = deepcopy(draw(st.sampled_from(RECORDS)))
    for _change in range(draw(st.integers(0, 3))):
        *above, last = draw(st.sampled_from(list(paths(record))))
        holder: Any = record
        for key in above:
            holder = holder[key]
        holder[last] = draw(ODD)
    return record


@settings(max_examples=300, deadline=None)
@given(st.lists(odd_records(), min_size=1, max_size=8))
def test_odd_records_are_read_or_counted(records: list[dict[str, Any]]) -> None:
    reader = ClaudeCodeReader(Tally())
    events = []
    for number, record in enumerate(records, start=1):
        with suppress(SkippedLineError):
            events += reader.feed(Line(number, 1, record))
    events += reader.finish()
    ids = [event.id for event in events]
    assert len(ids) == len(set(ids))
    sessions = {session.prepared().id for session in reader.take_sessions(final=True)}
    runs = {run.prepared().id for run in reader.take_runs(final=True)}
    for event in events:
        assert event.session_id in sessions
        assert event.run_id is None or event.run_id in runs
        event.prepared()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_to_its_end(data: st.DataObject, tmp_path_factory: Any) -> None:
    content = "\n".join(data.draw(st.sampled_from(LOGS)).lines).encode()
    start = data.draw(st.integers(1, len(content)))
    damage = data.draw(st.binary(max_size=20).filter(lambda part: b"\0" not in part))
    path: Path = tmp_path_factory.mktemp("damaged") / "log.jsonl"
    path.write_bytes(content[:start] + damage + content[start + len(damage) :])
    for event in read(path)[1]:
        try:
            event.prepared()
        except ValidationError:
            assert "original" in event.metadata
