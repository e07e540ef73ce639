"""Hostile input through the public doors beside the store's: one verdict on every database.

The store's own are tried in tests/proofs/test_hostile_payloads.py.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from asm_store import queries
from asm_store.formats import export_sessions
from asm_store.live import SessionEventsView, SessionStreamView
from tests.proofs.machine.corpus import TEXTS, TIMES, VALUES
from tests.resilience import doors
from tests.resilience.cases import AVAILABLE, on_all, try_all
from tests.resilience.doors import Bench

# Queries and their cursors

FILTERS = (
    "session_id", "session_ids", "run_ids", "agent_id", "status", "provider", "providers", "tags",
    "types", "since", "until", "created_after", "created_before", "started_after",
    "started_before", "min_tokens", "correlation_id", "order_by", "limit", "cursor",
    "include_deleted", "include_total", "pricing_table", "step", "most_runs", "nonsense",
)  # fmt: skip
NAMES = (
    "search_sessions", "search_runs", "search_events", "count_events", "get_usage_summary",
    "get_cost_summary", "get_totals", "get_agent_usage", "get_cost_entries", "get_latest_failures",
    "get_overview", "get_run_durations", "get_top_sessions", "get_trend",
)  # fmt: skip
OF_ONE = ("get_session_stats", "export_session")
GOOD: tuple[Any, ...] = (
    "child", "GONE", "run", "failed", ["failed", "active"], ("x",), 1, 0, True, None, [], "b",
    "created_at_asc", "sequence_asc", "timestamp_desc", "token_usage_desc", "message_sent",
    "cost_desc", "hour", "day",
)  # fmt: skip
given_values = st.sampled_from([*GOOD, *VALUES, *TEXTS, *TIMES]) | st.text(max_size=9)
options = st.dictionaries(
    st.sampled_from(FILTERS), given_values | st.lists(given_values), max_size=3
)
asked = st.tuples(st.sampled_from(NAMES), options) | st.tuples(
    st.sampled_from(OF_ONE), given_values.map(lambda value: {"session_id": value})
)
ASKED: list[tuple[str, dict[str, Any]]] = [
    (name, {option: value})
    for name, option in (("search_sessions", "agent_id"), ("search_events", "correlation_id"))
    for value in TEXTS
]


@on_all
def test_queries(bench: Bench, is_long: bool, tell: Callable[[str], None]) -> None:
    def judge(case: tuple[str, dict[str, Any]]) -> None:
        bench.ask(partial(doors.query, *case))

    try_all(judge, asked, ASKED, is_long)
    tell(str(bench))


def test_every_query_is_asked() -> None:
    functions = {name for name in queries.__all__ if inspect.isfunction(getattr(queries, name))}
    twins = {name for name in functions if name[0] == "a" and name[1:] in functions}
    assert functions - twins == {*NAMES, *OF_ONE}


@on_all
def test_cursors(bench: Bench, is_long: bool, tell: Callable[[str], None]) -> None:
    """What a page gave out, with something changed: refused, or it is the same cursor."""
    pages: dict[str, Any] = {
        "search_sessions": queries.search_sessions(limit=1, using=AVAILABLE[0]),
        "search_runs": queries.search_runs(limit=1, using=AVAILABLE[0]),
        "search_events": queries.search_events(limit=1, using=AVAILABLE[0]),
    }
    cursors = [str(page.cursor) for page in pages.values()]
    place = st.integers(0, max(map(len, cursors)))
    changed = st.builds(
        lambda cursor, at, text, cut: cursor[:at] + text + cursor[at + cut :],
        st.sampled_from(cursors),
        place,
        st.sampled_from(TEXTS) | st.text("AZaz09-_:.=é\0", max_size=4),
        st.integers(0, 3),
    )

    def judge(case: tuple[str, Any]) -> None:
        name, cursor = case
        answer = bench.ask(partial(doors.query, name, {"cursor": cursor, "limit": 1}))
        assert answer[0] == ("returned" if cursor == pages[name].cursor else "InvalidCursor")

    corpus: list[tuple[str, Any]] = [(name, cursor) for name in pages for cursor in cursors]
    try_all(judge, st.tuples(st.sampled_from([*pages]), changed), corpus, is_long)
    tell(str(bench))


# Commands

words = st.sampled_from(
    [
        "child", "GONE", "nobody", "-1", "0", "1", "1e9", "99999999999999999999", "NaN", "inf", "",
        " ", "é", "\udcff", "%s", "'; --", "../../etc/passwd", "2026-03-02", "2026-13-45", "--all",
        "--json", "--full", "--last", "--after", "--type", "--run", "--status", "--tag", "-v", "9",
        "--agent-id", "--created-after", "--include-deleted", "--include-artifacts", "--format",
        "--max-session-age-days", "--batch-size", "--health-check", "--session", "--max-seconds",
        "message_sent", "failed", "--nonsense", "x" * 300, "\x1b[2J", "\n",
    ]
)  # fmt: skip
COMMANDS = (
    ["asm_tail", "--no-follow", "--verbosity=0", "--json"],
    ["asm_export", "--dry-run"],
    ["asm_export"],
    ["asm_stats"],
    ["asm_stats", "--json"],
    ["asm_maintenance", "--dry-run"],
    ["asm_maintenance", "--noinput", "--json"],
    ["asm_maintenance", "--health-check", "--json"],
    ["asm_maintenance", "--repair", "--noinput"],
    ["asm_import", "--json"],
    ["asm_import", "--dry-run", "--strict"],
)
commands = st.builds(
    lambda command, more: [*command, *more], st.sampled_from(COMMANDS), st.lists(words, max_size=3)
)
COMMAND_LINES = [
    [*command, word]
    for command in COMMANDS
    for word in ("child", "\udcff", "-1", "99999999999999999999", "x" * 300)
]


@on_all
def test_commands(bench: Bench, is_long: bool, tell: Callable[[str], None]) -> None:
    def judge(case: list[str]) -> None:
        bench.ask(partial(doors.command, case))

    try_all(judge, commands, COMMAND_LINES, is_long)
    tell(str(bench))


# The web

parameters = st.sampled_from(
    ["after", "limit", "wait", "type", "run_id", "nonsense", "after[]", "\0", "ä"]
)
said = st.sampled_from([*TEXTS, "", "0", "1", "-1", "1.5", "1e3", "٣", "9" * 19, "9" * 20, "NaN"])
pairs = st.lists(st.tuples(parameters, said), max_size=3)
query_strings = pairs.map(
    lambda found: "&".join(
        f"{quote(name)}={quote(value, errors='surrogatepass')}" for name, value in found
    )
) | st.sampled_from(["%", "%00", "%ff%fe", "a=%ZZ", "&&&=;", "after=1&after=2", "=" * 500])
session_ids = st.sampled_from(["child", "GONE", "CHILD", "child ", *TEXTS])
numbers = st.sampled_from(["", "1", "-1", "x", "9" * 30, "1\r\nX: y", "é", "\0"])
PAGES: list[tuple[str, str, str]] = [
    ("child", "after=1", ""),
    ("child", "wait=0&limit=1001", ""),
    ("\0", "", ""),
    ("child", "", "x"),
]


@on_all
@pytest.mark.parametrize("view", [SessionEventsView, SessionStreamView])
def test_web(view: Any, bench: Bench, is_long: bool, tell: Callable[[str], None]) -> None:
    def judge(case: tuple[str, str, str]) -> None:
        session_id, query, number = case
        headers = {"last-event-id": number} if number else {}
        answer = bench.ask(partial(doors.page, view, session_id, query, headers))
        assert answer[0] in {200, 204, 400, 404}, answer

    try_all(judge, st.tuples(session_ids, query_strings, numbers), PAGES, is_long)
    tell(str(bench))


# Imported files


@on_all
def test_imports(bench: Bench, is_long: bool, tmp_path: Path, tell: Callable[[str], None]) -> None:
    """The package's own format, the only one that keeps numbers: each value may be any other."""
    sound = b"".join(export_sessions(using=AVAILABLE[0], include_artifacts=True)).splitlines()
    records = [json.loads(line) for line in sound]
    odd: SearchStrategy[Any] = st.sampled_from(
        [*TEXTS, None, True, 0, -1, 1.5, 1e300, 2**63 - 1, 2**63, 10**400, [], {}, [[]], {"a": {}}]
    )

    @st.composite
    def files(draw: st.DrawFn) -> bytes:
        lines = list(sound)
        for _ in range(draw(st.integers(1, 3))):
            at = draw(st.integers(0, len(lines) - 1))
            record = dict(records[at])
            record[draw(st.sampled_from([*record, "nonsense"]))] = draw(odd)
            lines[at] = json.dumps(record).encode()
        order = (
            draw(st.permutations(range(len(lines)))) if draw(st.booleans()) else range(len(lines))
        )
        return b"\n".join(lines[at] for at in order)

    def judge(content: bytes) -> None:
        bench.ask(partial(doors.imported, content, "log.jsonl", tmp_path))

    whole = b"\n".join(sound)
    corpus = [
        whole, whole[:-9], whole.replace(b"child", b"\xff\xfe"), b"", b"\n\n", b"\0" * 100,
        b"[" * 100_000, b'{"a":' * 5_000, b"1" * 10_000, b'{"type": NaN}', whole + b"\n" + whole,
    ]  # fmt: skip
    try_all(judge, files(), corpus, is_long)
    tell(str(bench))
