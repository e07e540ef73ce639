"""Whatever stands in a log, reading it ends well: each line gives events, or is counted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asm_store.exceptions import ValidationError
from asm_store.formats import import_paths
from asm_store.formats.atif import AtifReader
from asm_store.formats.claude_code import ClaudeCodeReader
from asm_store.formats.codex import CodexReader
from asm_store.formats.detecting import detect
from asm_store.formats.lines import Line, SkippedLineError, UnreadableFileError
from asm_store.formats.reader import LogReader
from asm_store.formats.reports import Tally
from asm_store.formats.swe_agent import SweAgentReader
from asm_store.models import Event
from example_project.sample_data import (
    Transcript,
    broken_lamp,
    crowded_harbour,
    harbour_agents,
    storm,
)
from tests.formats.logs import read_as, stored
from tests.formats.rollouts import Rollout, squall, tide_table
from tests.formats.trajectories import Document, knots, leak, logbook, voyage, write

LOGS: dict[type[LogReader], tuple[Transcript | Rollout, ...]] = {
    ClaudeCodeReader: (broken_lamp(), crowded_harbour(), *harbour_agents(), storm()),
    CodexReader: (tide_table(), squall()),
}
RECORDS = {
    reader: [
        json.loads(line)
        for line in chain.from_iterable(log.lines for log in logs)
        if line.startswith("{")
    ]
    for reader, logs in LOGS.items()
}
DOCUMENTS: dict[type[LogReader], list[Document]] = {
    AtifReader: [voyage(), logbook()],
    SweAgentReader: [leak(), knots()],
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.sampled_from(
        ["\0", "\ud800", "x" * 300, "user", "assistant", "2026-03-02T09:30:00Z", 1e300, 2**70]
    ),
    st.lists(st.none() | st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something inside a record."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield (*path, key)
        yield from paths(value[key], (*path, key))


def change(draw: st.DrawFn, record: dict[str, Any], most: int) -> dict[str, Any]:
    """The record with a few of its values changed."""
    record = deepcopy(record)
    for _change in range(draw(st.integers(0, most))):
        *above, last = draw(st.sampled_from(list(paths(record))))
        holder: Any = record
        for key in above:
            holder = holder[key]
        holder[last] = draw(ODD)
    return record


@st.composite
def odd_records(draw: st.DrawFn, samples: list[dict[str, Any]], most: int = 3) -> dict[str, Any]:
    return change(draw, draw(st.sampled_from(samples)), most)


def feed(reader: LogReader, lines: Iterable[Line]) -> None:
    """Read the lines, and see that all that comes of them can be stored together."""
    events: list[Event] = []
    for line in lines:
        with suppress(SkippedLineError):
            for part in reader.parts(line):
                with suppress(SkippedLineError):
                    events += reader.feed(part)
    events += reader.finish()
    sessions = {session.prepared().id for session in reader.take_sessions(final=True)}
    runs = {run.prepared().id for run in reader.take_runs(final=True)}
    for event in events:
        assert event.session_id in sessions
        assert event.run_id is None or event.run_id in runs
        event.prepared()


def lines_of(records: list[dict[str, Any]]) -> list[Line]:
    return [Line(number, 1, record) for number, record in enumerate(records, start=1)]


@pytest.mark.parametrize("reader_class", LOGS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_odd_records_are_read_or_counted(
    reader_class: type[LogReader], data: st.DataObject
) -> None:
    records = st.lists(odd_records(RECORDS[reader_class]), min_size=1, max_size=8)
    feed(reader_class(Tally()), lines_of(RECORDS[reader_class][:1] + data.draw(records)))


@pytest.mark.parametrize("reader_class", DOCUMENTS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_odd_documents_are_read_or_counted(
    reader_class: type[LogReader], data: st.DataObject
) -> None:
    documents = st.lists(odd_records(DOCUMENTS[reader_class], 5), min_size=1, max_size=3)
    feed(reader_class(Tally()), lines_of(data.draw(documents)))


@pytest.mark.parametrize("reader_class", [ClaudeCodeReader, CodexReader])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_to_its_end(
    reader_class: type[LogReader], data: st.DataObject, tmp_path_factory: Any
) -> None:
    content = "\n".join(data.draw(st.sampled_from(LOGS[reader_class])).lines).encode()
    path = damaged(content, data, tmp_path_factory)
    for event in read_as(reader_class, path)[1]:
        try:
            event.prepared()
        except ValidationError:
            assert "original" in event.metadata


@pytest.mark.parametrize("make", [leak, knots, voyage, logbook])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_document_is_read_or_refused(
    make: Any, data: st.DataObject, tmp_path_factory: Any
) -> None:
    path = damaged(json.dumps(make(), indent=1).encode(), data, tmp_path_factory)
    with suppress(UnreadableFileError):
        log = detect(path, "auto")
        reader = log.reader_class(Tally())
        feed(reader, log.lines(reader))


def damaged(content: bytes, data: st.DataObject, tmp_path_factory: Any) -> Path:
    """A file with a few other bytes in it."""
    start = data.draw(st.integers(1, len(content)))
    damage = data.draw(st.binary(max_size=20).filter(lambda part: b"\0" not in part))
    path: Path = tmp_path_factory.mktemp("damaged") / "log.jsonl"
    path.write_bytes(content[:start] + damage + content[start + len(damage) :])
    return path


@pytest.mark.django_db(transaction=True)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_odd_documents_are_imported_whole_or_not_at_all(
    data: st.DataObject, tmp_path_factory: Any
) -> None:
    """On one database: what was stored is stored once, and stays as it is."""
    document = data.draw(odd_records([leak(), knots(), voyage(), logbook()], 4))
    path = write(document, tmp_path_factory.mktemp("odd") / "log.json")
    first = import_paths([path], using="default").total
    before = stored("default")
    again = import_paths([path], using="default").total
    assert again.events.new == 0
    assert stored("default") == before
    assert first.events.new <= len(before["events"])
