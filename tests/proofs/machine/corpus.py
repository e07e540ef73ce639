"""The nastiest cases, tried in every run: lists of calls."""

from __future__ import annotations

import itertools
import sys
from collections import UserDict
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from django.db import models

from asm_store.models import Event, Run, Session
from asm_store.test.contract.values import nested

from .hostile import (
    EXTRA_TYPES,
    LIMIT,
    SESSION,
    Call,
    Colour,
    Huge,
    Level,
    Moment,
    Name,
    Once,
    Point,
    Real,
    endless,
    plain,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXTS = (
    "\x00", "a\x00b\x00", "\ud800", "\udfff\ud800", "\ud83d\ude42", "\ud83d\ud83d\ude42\ude42",
    "\u2400\ufffd", "\\u0000", "\ufffe\uffff\ufeff", "\u2028\x85\r\n", "e\u0301", " padded ",
    "%s %(a)s $1 :a ? {0}", "'; --\\", "\x1a\x08", "\U0010ffff" * 255, "\ud83d\ude42" * 128,
    "x" * 256, Name("name"), Colour.RED, "\\N", "\\.\n\\N\t\\",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    -0.0, 1e16, 1e23, -1.5e300, 5e-324, sys.float_info.max, 9007199254740993.0, Real(1e23),
    2**63, -(2**64), 10**4299, Huge(10**4300 - 1), Huge(10**4300), Huge(1 << 20_000), Level.HIGH,
    True, float("nan"), float("inf"), nested(99), nested(100), endless, Point(1, -0.0),
    {"\x00": 1, "\u2400": 2}, dict.fromkeys(["\ud800", "\udfff"], 1), {"\ud83d\ude42": 1, "🙂": 2},
    {"": {"_sanitized": None}}, {Name("b"): 1, "a": 2}, {Colour.RED: 1}, {1: 2}, {None: 1}, {1, 2},
    b"bytes", UserDict(a=MappingProxyType({"b": ()})), models.F("id"), *TEXTS,
)  # fmt: skip
TIMES: tuple[Any, ...] = (
    Moment(2026, 3, 1, tzinfo=UTC), NOON.replace(fold=1), NOON.replace(year=1000),
    NOON.replace(year=999), datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC),
    NOON.replace(tzinfo=None), NOON.isoformat(), NOON.timestamp(), timedelta(0), True,
)  # fmt: skip
RUNS = (
    plain(Run).but(input=MappingProxyType({})),
    plain(Run).but(provider_metadata=MappingProxyType({"\x00": UserDict()})),
    plain(Run).but(provider_metadata={"\x00": 1, "\u2400": 2}),
)
SPARE = LIMIT - len('{"t":""}{}')

_numbers = itertools.count()


def _event(**columns: Any) -> Call:
    event = plain(Event).but(**{"id": f"evt-{next(_numbers)}", **columns})
    return Call("append_event_with_sequence", (event,))


def _batch(*texts: str) -> Call:
    """Events with these texts, of which PostgreSQL is told by a COPY."""
    calls = (_event(correlation_id=text, provider=text, data={"a": text}) for text in texts)
    return Call("append_events", ([call.arguments[0] for call in calls],))


def _saved(**columns: Any) -> Call:
    return Call("save_session", (plain(Session).but(**columns, id=f"ses-{next(_numbers)}"),))


def _run(**columns: Any) -> Call:
    return Call("save_run", (plain(Run).but(**columns, id=f"run-{next(_numbers)}"),))


def _calls() -> list[Call]:
    return [
        *(_event(data={"value": value}) for value in VALUES),
        *(_event(correlation_id=text, provider=text) for text in TEXTS),
        *(_event(id=text) for text in TEXTS[::2]),
        *(_event(timestamp=time) for time in TIMES),
        *(_event(data={"t": "x" * (SPARE + more)}) for more in (0, 1)),
        *(_event(data={"t": "é" * (SPARE // 2)}, metadata={"\x00": text}) for text in ("", "x")),
        *(_event(type=name) for name in (*EXTRA_TYPES, Name("message_sent"), Event.Type, "a\x00")),
        *(_event(metadata={"\x00": 1, "_sanitized": value}) for value in (None, {"nul": True})),
        *(_event(schema_version=value) for value in (2**31 - 1, 2**31, Level.HIGH, True)),
        *(_saved(metadata={"a": value}, context={"a": value}) for value in VALUES[:8]),
        *(_saved(tags=value) for value in (("\x00", Name("tag")), TEXTS, "tag", [1], endless)),
        *(_saved(agent_id=text) for text in TEXTS),
        *(_saved(created_at=time, deleted_at=time) for time in TIMES),
        *(
            _run(input=value, output=[value], token_usage={"input_tokens": value})
            for value in (*VALUES[:32], None)
        ),
        _run(token_usage={"input_tokens": sys.float_info.max, "output_tokens": 1e308}),
        *(_run(cost_usd=value) for value in (*VALUES[:16], -1, 10**308, Huge(10**309))),
        *(_run(turn_count=value) for value in (-1, 2**31 - 1, 2**31, 1.0, Level.HIGH)),
        _batch(*(text for text in TEXTS if len(text) < 200)),
        Call("append_events", (Once([plain(Event), plain(Event).but(data={"a": b""})]),)),
        *(Call("flush", (plain(Session), run, [plain(Event)], {"\u2400": 1})) for run in RUNS),
        Call("get_events", (Name(SESSION),), {"limit": 10**100, "before": Huge(10**100)}),
        Call("list_sessions", (), {"limit": 2**63, "offset": 2**63, "agent_id": "\U0010ffff"}),
        *(Call("list_sessions", (), {"agent_id": text}) for text in TEXTS),
        *(Call("get_session", (text,)) for text in TEXTS),
    ]


UPDATES = [
    Call("update_session", (SESSION,), {"add_tags": ["\x00", Name("b")]}),
    Call("update_session", (SESSION,), {"remove_tags": ["\u2400"]}),
    Call("update_session", (SESSION,), {"metadata": {"t": "x" * (SPARE - 60)}}),
    Call("update_session", (SESSION,), {"metadata": {"u": "x" * 90}}),
    Call("restore_session", (Name(SESSION),)),
]
_CALLS = _calls()
# Several in a case, so that the stores are not emptied for each.
CORPUS = [UPDATES, *(_CALLS[start : start + 10] for start in range(0, len(_CALLS), 10))]
