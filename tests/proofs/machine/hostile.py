"""What no database takes as it is, and what looks as if: for every column and argument."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, UserDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db import models
from django.db.models import F
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from asm_store import fields
from asm_store.models import Event, Run, Session
from asm_store.test.contract.values import (
    BAD_IDS,
    BAD_TIMES,
    NOON,
    NOT_JSON,
    NOT_STRING_KEYS,
    nested,
)

# How many bytes of JSON a record may have in this test, and the project's own event types.
LIMIT = 5_000
EXTRA_TYPES = ["an odd 'type'", "🙂" * 64, "MESSAGE_SENT"]
TYPES = [*Event.Type.values, *EXTRA_TYPES]
SESSION, RUN = "ses-owner", "run-owner"


class Name(str):
    """Says something else when it is asked to write itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\x00"

    def __repr__(self) -> str:
        return f"Name({str.__str__(self)!r})"


class Colour(str, Enum):  # noqa: UP042  (a StrEnum would say its value)
    RED = "red\x00"


class Level(IntEnum):
    HIGH = 3


class Huge(int):
    """Python refuses to write an integer as long as this one can be."""

    def __repr__(self) -> str:
        return f"Huge(of {self.bit_length()} bits)"


class Real(float):
    """As numpy's: its repr is no JSON."""

    def __repr__(self) -> str:
        return f"Real({float(self)!r})"


class Moment(datetime):
    """As other libraries' times."""


class NoZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> None: ...

    def dst(self, moment: datetime | None) -> None: ...

    def tzname(self, moment: datetime | None) -> None: ...


class Point(NamedTuple):
    x: Any
    y: Any


class Names(dict[str, Any]):
    pass


@dataclass(frozen=True)
class New:
    """A record to be made of columns; without the column `without`, as a deferred one is."""

    kind: type[models.Model]
    columns: dict[str, Any]
    without: str = ""

    def made(self) -> Any:
        record = self.kind(**self.columns)
        vars(record).pop(self.without, None)
        return record

    def but(self, **columns: Any) -> New:
        return New(self.kind, {**self.columns, **columns})


@dataclass(frozen=True)
class Once:
    """Something that can be iterated once."""

    items: list[Any]


@dataclass(frozen=True)
class Call:
    """A method's name, and what it is given."""

    name: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def made(given: Any) -> Any:
    """The arguments of a call, anew for each store where that makes a difference."""
    if isinstance(given, New):
        return given.made()
    if isinstance(given, Once):
        return (made(item) for item in given.items)
    if type(given) in (list, tuple):
        return type(given)(made(item) for item in given)
    return given


# Text

CHARACTERS = st.characters() | st.sampled_from(
    "\0\u2400\ufffd\ud83d\ude42\ud800\udfff\ue000\ufffe\uffff\ufeff\u2028"
    "\x7f\x85\x1f\n\r\t\"'\\/ aé🙂ßİ"
)
PIECES = (
    "\\u0000", "\\ud800", "%s", "%", "{0}", "'; --", "</script>", "\r\n", "\ud83d\ude42",
    "\ude42\ud83d", "e\u0301", "\U0010ffff", "NaN", "null", "\x1a", "a ", "A",
)  # fmt: skip
texts = st.text(CHARACTERS, max_size=12) | st.sampled_from(PIECES)
storable = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
long_texts = st.builds(
    lambda character, length: character * length,
    st.sampled_from(["x", "é", "🙂", "\0", "\ud800", "\ud83d\ude42"]),
    st.sampled_from([63, 64, 65, 127, 128, 254, 255, 256, 300]),
)
odd_texts = texts.map(Name) | st.just(Colour.RED)
any_texts = texts | long_texts | odd_texts
ids = storable | storable | long_texts | odd_texts | st.sampled_from(BAD_IDS)

# Numbers

EXTREMES = (
    2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**100, 10**101,
    10**4299, Huge(10**4300 - 1), Huge(10**4300), Huge(-(10**4300)), Huge(1 << 20_000),
)  # fmt: skip
integers = st.integers() | st.integers(-2, 3) | st.sampled_from(EXTREMES)
FLOATS = (
    0.0, -0.0, 1e15, 9999999999999998.0, 1e16, -1e16, 1e22, 1e23, 1.5e300, 5e-324, 1e-7, 0.1 + 0.2,
    sys.float_info.max, sys.float_info.min, float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
floats = st.floats() | st.sampled_from(FLOATS)
numbers = (
    integers | floats | floats.map(Real) | st.booleans() | st.just(Level.HIGH)
    | st.sampled_from([Decimal("1.5"), Decimal("NaN"), Fraction(1, 3), 1j])
)  # fmt: skip

# JSON

scalars = st.none() | st.booleans() | integers | floats | any_texts | st.just(Level.HIGH)
KEYS = (
    "\0", "\u2400", "\ud800", "\udfff", "\ufffd", "\ud83d\ude42", "🙂", "", "a", "_sanitized",
    "input_tokens", "output_tokens", "total_tokens",
)  # fmt: skip
keys = texts | st.sampled_from(KEYS) | odd_texts
odd_keys = keys | st.sampled_from(NOT_STRING_KEYS)


def _containers(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    mappings = st.dictionaries(keys, inner, max_size=4)
    return (
        lists | mappings | lists.map(tuple) | st.builds(Point, inner, inner)
        | st.dictionaries(odd_keys, inner, max_size=2)
        | mappings.map(OrderedDict) | mappings.map(MappingProxyType) | mappings.map(UserDict)
        | mappings.map(lambda items: defaultdict(list, items)) | mappings.map(Names)
    )  # fmt: skip


# One that is used up by the first store would be another one for the next.
not_json = st.sampled_from([value for value in NOT_JSON if not isinstance(value, Iterator)])
values = st.recursive(
    st.sampled_from([scalars] * 30 + [not_json]).flatmap(lambda kind: kind),
    _containers,
    max_leaves=12,
)
deep = st.integers(95, 102).map(lambda levels: {"deep": nested(levels)})
# Beside them a record has 0 to 16 bytes of JSON in its other columns.
large = st.builds(
    lambda character, spare: {"t": character * ((LIMIT - 8 - spare) // len(character.encode()))},
    st.sampled_from(["x", "é", "🙂", "\u2400"]),
    st.integers(-3, 20),
)
endless: list[Any] = []
endless.append(endless)
mappings = (
    st.dictionaries(keys, values, max_size=4) | st.dictionaries(keys, values, max_size=4)
    | st.dictionaries(odd_keys, values, max_size=3).map(MappingProxyType) | deep | large
    | st.just(Counter("aab")) | st.just({"endless": endless})
)  # fmt: skip
any_mappings = mappings | mappings | values
tags = st.lists(any_texts, max_size=4) | st.lists(any_texts).map(tuple) | values

# Times

ZONES = (
    UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=23, minutes=59)),
    timezone(timedelta(microseconds=1)), NoZone(), None,
)  # fmt: skip
zoned = st.datetimes(timezones=st.sampled_from(ZONES))
times = (
    zoned | zoned | st.datetimes(timezones=st.timezones(), allow_imaginary=True)
    | zoned.map(lambda at: Moment.combine(at.date(), at.timetz()))
    | st.sampled_from(BAD_TIMES)
)  # fmt: skip

# Anything at all

anything = (
    values | ids | numbers | times
    | st.sampled_from([F("id"), models.Value("x"), Session, Session.Status.ACTIVE, Event.Type])
)  # fmt: skip


def statuses(known: list[str]) -> SearchStrategy[Any]:
    """A status or an event type, or nearly."""
    one = st.sampled_from(known)
    return one | one | one.map(Name) | one.map(str.upper) | one.map("{} ".format) | any_texts


def _of_field(column: models.Field[Any, Any]) -> SearchStrategy[Any]:
    """What its kind of column makes hostile."""
    found: list[tuple[type[models.Field[Any, Any]], SearchStrategy[Any]]] = [
        (fields.IdField, ids),
        (fields.ReferenceField, ids),
        (fields.StatusField, statuses([value for value, _label in column.flatchoices])),
        (fields.EventTypeField, statuses(TYPES)),
        (fields.TextField, any_texts),
        (fields.TimestampField, times),
        (fields.MappingField, any_mappings),
        (fields.TagsField, tags),
        (fields.PayloadField, values | mappings),
    ]
    own = next((strategy for kind, strategy in found if isinstance(column, kind)), numbers)
    return st.sampled_from([own] * 6 + [anything]).flatmap(lambda chosen: chosen)


NEEDED: dict[type[models.Model], dict[str, Any]] = {
    Session: {"id": SESSION, "agent_id": "assistant"},
    Run: {"id": RUN, "session_id": SESSION},
    Event: {"id": "evt-new", "type": "message_sent", "session_id": SESSION},
}
COLUMNS = {
    kind: {
        column.attname: _of_field(column)
        for column in kind._meta.concrete_fields
        if not column.generated
    }
    for kind in NEEDED
}
# Those whose default is the real clock.
CLOCKS = {
    kind: {
        column.attname: NOON
        for column in kind._meta.concrete_fields
        if isinstance(column, fields.TimestampField) and not column.null
    }
    for kind in NEEDED
}


def plain(kind: type[models.Model]) -> New:
    """With nothing hostile in it."""
    return New(kind, {**CLOCKS[kind], **NEEDED[kind]})


def records(kind: type[models.Model]) -> SearchStrategy[Any]:
    """A record with a few hostile columns, hardly ever without one, or no such record."""
    columns = st.lists(st.sampled_from(sorted(COLUMNS[kind])), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: COLUMNS[kind][name] for name in names})
    )
    new = columns.map(lambda found: plain(kind).but(**found))
    lacking = st.sampled_from(sorted(COLUMNS[kind])).map(
        lambda name: New(kind, plain(kind).columns, without=name)
    )
    others = st.sampled_from([plain(other) for other in NEEDED if other is not kind])
    return st.sampled_from([new] * 12 + [lacking, others, anything]).flatmap(lambda chosen: chosen)


# Calls

owner = st.just(SESSION)
some_ids = st.sampled_from([owner] * 3 + [ids]).flatmap(lambda chosen: chosen)
some_runs = st.none() | st.just(RUN) | ids


def one_or_some(known: list[str]) -> SearchStrategy[Any]:
    one = statuses(known)
    return (
        st.none() | one | st.lists(one, max_size=2) | st.lists(one, max_size=2).map(Once) | anything
    )


counts = st.none() | numbers | anything
# Never a wait that is worth the name.
waits = (
    st.just(0) | any_texts
    | numbers.filter(lambda n: type(n) is bool or not isinstance(n, int | float) or not 0 < n < 1e9)
)  # fmt: skip
event_lists = st.lists(records(Event), min_size=1, max_size=3)
batches = event_lists | event_lists.map(tuple) | event_lists.map(Once) | anything


def _call(
    name: str, *arguments: SearchStrategy[Any], **options: SearchStrategy[Any]
) -> SearchStrategy[Call]:
    """A call with some of the options; a stream without its timeout would not end."""
    needed = {option: options.pop(option) for option in ("idle_timeout",) if option in options}
    return st.builds(
        Call, st.just(name), st.tuples(*arguments), st.fixed_dictionaries(needed, optional=options)
    )


session_statuses = one_or_some(list(Session.Status.values))
run_statuses = one_or_some(list(Run.Status.values))
event_types = one_or_some(TYPES)
filters = {
    "run_id": some_runs,
    "type": event_types,
    "after": counts,
    "before": counts,
    "limit": counts,
}
WRITES = (
    _call("save_session", records(Session)),
    _call("save_run", records(Run)),
    _call("append_event_with_sequence", records(Event)),
    _call("append_events", batches, expected_sequence=counts),
    _call("writer", some_ids, records(Event), max_events=counts, max_delay=waits),
    _call("flush", records(Session), records(Run), batches, any_mappings),
    _call(
        "update_session", some_ids, status=session_statuses, add_tags=tags, remove_tags=tags,
        metadata=any_mappings,
    ),
    _call("soft_delete_session", some_ids),
    _call("restore_session", some_ids),
    _call("delete_session", some_ids),
)  # fmt: skip
READS = (
    _call("get_session", some_ids),
    _call(
        "list_sessions", status=session_statuses, agent_id=any_texts | anything,
        include_deleted=st.booleans() | anything, limit=counts, offset=counts,
    ),
    _call("get_run", some_runs),
    _call("list_runs", some_ids, status=run_statuses, limit=counts),
    _call("get_active_run", some_ids),
    _call("get_latest_sequence", some_ids),
    _call("get_events", some_ids, since=times | anything, wait_timeout=waits, **filters),
    _call("iter_events_json", some_ids, **filters),
    _call(
        "stream_events", some_ids, after=counts, run_id=some_runs, type=event_types,
        idle_timeout=waits,
    ),
)  # fmt: skip
calls = st.sampled_from([*WRITES[:7] * 4, *WRITES[7:], *READS]).flatmap(lambda chosen: chosen)
