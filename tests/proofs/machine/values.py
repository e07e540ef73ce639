"""What the state machine gives to stores: small pools, so that ids meet again, and bad values."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from django.db import models
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from asm_store.fields import TimestampField
from asm_store.models import Artifact, Run, Session
from asm_store.test.contract.streams import BAD_SECONDS
from asm_store.test.contract.values import (
    BAD_COUNTS,
    BAD_IDS,
    BAD_POSITIONS,
    BAD_STATUSES,
    BAD_TIMES,
    HUGE,
    MICROSECOND,
    NOON,
)

USUAL = 60  # good values for one bad

# Alike for a database that folds case or pads with spaces, and not in any locale's order.
SESSION_NAMES = ("s1", "S1", "s1 ", "é")
RUN_NAMES = ("r1", "R1", "r2")
EVENT_NAMES = tuple(f"e{number}" for number in range(30))
AGENTS = ("assistant", "Assistant", "a\x00", "\ud83d\ude00")
TYPES = ("message_sent", "message_received", "error_occurred")
MOMENTS = (NOON, NOON + MICROSECOND, NOON - MICROSECOND)

# More bytes of JSON than a record may have under the lower one of the machine's limits.
LIMITS = (8 * 1024 * 1024, 100)
PAYLOADS: tuple[dict[str, Any], ...] = (
    {}, {"a": 1}, {"a": 1.0, "b": [True, None]}, {"nul\x00": "\ud800", "b": {"c": "\x00"}},
    {"big": [1e23, -0.0, 2**70, 5e-324]}, {"text": "x" * 60}, {"_sanitized": {"nul": 1}},
    {"_sanitized": "text"}, {"\ud83d\ude00": "\U0001f600 é"},
)  # fmt: skip
BAD_PAYLOADS: tuple[Any, ...] = (
    None, [1], "text", {"n": float("nan")}, {1: 2}, {"a": {1, 2}}, {"\x00": 1, "\u2400": 2},
)  # fmt: skip


def mostly(usual: SearchStrategy[Any], bad: tuple[Any, ...]) -> SearchStrategy[Any]:
    """Something of `usual`, and now and then one of the `bad` values."""
    bad_one = st.sampled_from(bad).map(deepcopy)
    return st.sampled_from([usual] * USUAL + [bad_one]).flatmap(lambda chosen: chosen)


def one_or_some(values: tuple[str, ...], bad: tuple[Any, ...]) -> SearchStrategy[Any]:
    """As a filter by status or type is given."""
    one = st.sampled_from(values)
    return mostly(st.none() | one | st.lists(one, max_size=3), (*bad, ["unknown"]))


names = mostly(st.sampled_from(SESSION_NAMES), BAD_IDS)
run_names = mostly(st.sampled_from(RUN_NAMES), BAD_IDS)
event_names = mostly(st.sampled_from(EVENT_NAMES), BAD_IDS)
agents = mostly(st.sampled_from(AGENTS), ("", None, 5, "x" * 256))
session_statuses = mostly(st.sampled_from(Session.Status.values), BAD_STATUSES)
run_statuses = mostly(st.sampled_from(Run.Status.values), BAD_STATUSES)
types = mostly(st.sampled_from(TYPES), BAD_STATUSES)
times = mostly(st.sampled_from(MOMENTS), BAD_TIMES)
payloads = mostly(st.sampled_from(PAYLOADS).map(deepcopy), BAD_PAYLOADS)
anything = st.none() | payloads.map(lambda payload: [payload]) | st.sampled_from([False, 0, "\x00"])
tags = mostly(st.lists(st.sampled_from(["a", "b", "\x00"]), max_size=3), ("abc", [1], None, 5))
providers = st.none() | agents

counts = st.none() | mostly(st.integers(0, 4) | st.just(HUGE), BAD_COUNTS)
positions = st.none() | mostly(st.integers(-1, 15) | st.just(HUGE), BAD_POSITIONS)
starts = mostly(st.integers(-1, 15), (*BAD_POSITIONS, None))
flags = mostly(st.booleans(), (0, None, "yes"))
some_sessions = one_or_some(tuple(Session.Status.values), BAD_STATUSES)
some_runs = one_or_some(tuple(Run.Status.values), BAD_STATUSES)
some_types = one_or_some(TYPES, BAD_STATUSES)
no_time = mostly(st.just(0), BAD_SECONDS)

SESSION: dict[str, SearchStrategy[Any]] = {
    "status": session_statuses,
    "parent_session_id": st.none() | names,
    "metadata": payloads,
    "context": payloads,
    "tags": tags,
    "updated_at": times,
    "deleted_at": st.none() | times,
}
RUN: dict[str, SearchStrategy[Any]] = {
    "status": run_statuses,
    "input": anything,
    "output": anything,
    "error": anything,
    "metadata": payloads,
    "turn_count": mostly(st.integers(0, 2**31 - 1), (*BAD_COUNTS, 2**31)),
    "token_usage": payloads,
    "started_at": times,
    "ended_at": st.none() | times,
    "provider": providers,
    "provider_metadata": payloads,
    "cost_usd": st.none() | mostly(st.sampled_from([0, 0.1, 1e23]), (float("nan"), -1, "1")),
}
EVENT: dict[str, SearchStrategy[Any]] = {
    "timestamp": times,
    "run_id": st.none() | run_names,
    "sequence_number": st.none() | mostly(st.integers(1, 99), (0, True, 2**63)),
    "metadata": payloads,
    "schema_version": mostly(st.integers(1, 3), (0, True)),
    "provider": providers,
    "correlation_id": providers,
}


# What belongs together in the beginning, and what does not: sessions and their runs.
HOMES = tuple(zip(SESSION_NAMES, (*RUN_NAMES, None), strict=True))
STRANGERS = ((SESSION_NAMES[0], RUN_NAMES[1]), (SESSION_NAMES[1], "r3"), ("s9", None))
# What is no record of the kind that is asked for.
NO_RECORDS: tuple[Any, ...] = (None, "s1", ("s1",), Session, Artifact())

Columns = dict[str, Any]


def some(
    optional: dict[str, SearchStrategy[Any]], **required: SearchStrategy[Any]
) -> SearchStrategy[Columns]:
    """The required columns and a few of the others."""
    return st.lists(st.sampled_from(sorted(optional)), max_size=3, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries(
            {**required, **{name: optional[name] for name in chosen}}
        )
    )


homes = mostly(st.sampled_from(HOMES), STRANGERS)
session_changes = some({"agent_id": agents, **SESSION})
run_changes = some({"session_id": names, **RUN})


def of_home(home: tuple[Any, Any]) -> SearchStrategy[Columns]:
    session, run = home
    return some(EVENT, id=event_names, type=types, data=payloads, session_id=st.just(session)).map(
        lambda columns: {"run_id": run, **columns}
    )


sessions = mostly(some(SESSION, id=names, agent_id=agents, created_at=times), NO_RECORDS)
runs = mostly(some(RUN, id=run_names, session_id=names), NO_RECORDS)
events = mostly(homes.flatmap(of_home), NO_RECORDS)
batch = st.lists(some(EVENT, id=event_names), max_size=4)
# Of one session mostly, else of two.
batches = mostly(
    st.lists(homes, min_size=1, max_size=2).flatmap(
        lambda some_homes: st.lists(
            mostly(st.sampled_from(some_homes).flatmap(of_home), NO_RECORDS), max_size=5
        )
    ),
    (None, "events", {}, 5),
)


def record(kind: type[models.Model], given: Any) -> Any:
    """A new record of the columns, with no time that is the real clock's."""
    if type(given) is not dict:
        return given
    times_of = (f.attname for f in kind._meta.concrete_fields if isinstance(f, TimestampField))
    fixed = {name: None if kind._meta.get_field(name).null else NOON for name in times_of}
    return kind(**{**fixed, **given})


BAD_EXPECTED: tuple[Any, ...] = (HUGE, *BAD_COUNTS)
BAD_WRITERS: tuple[Columns, ...] = (
    *({"max_events": bad} for bad in (0, *BAD_COUNTS)),
    *({"max_delay": bad} for bad in BAD_SECONDS),
)
