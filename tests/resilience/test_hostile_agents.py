"""What agents may give: files, and what providers yield. One verdict on every database."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from django.test import override_settings
from hypothesis import strategies as st

from asm_store.artifacts import ArtifactStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Artifact, Event, Run, Session
from asm_store.session_manager import SessionManager
from asm_store.test import ScriptedProvider
from tests.artifacts.places import MEMORY
from tests.proofs.machine import hostile
from tests.proofs.machine.corpus import TEXTS, VALUES
from tests.proofs.machine.hostile import made
from tests.proofs.machine.outcomes import Clock, Outcome, columns, empty
from tests.resilience.cases import on_all, try_all
from tests.resilience.doors import Answer, Bench

# What is made up for each record, and cannot be the same on two databases.
OWN = re.compile(r"(ses|run|evt|art)_[0-9a-f]{32}")
MADE_UP = {"id", "session_id", "run_id", "storage_ref", "created_at", "updated_at", "timestamp"}


def told(outcome: Outcome) -> Answer:
    error = outcome.error
    return ("returned",) if error is None else (type(error).__name__, OWN.sub("ID", str(error)))


def without_ids(record: Any) -> dict[str, Any]:
    found = {name: value for name, value in columns(record).items() if name not in MADE_UP}
    return {name: OWN.sub("ID", str(value)) for name, value in found.items()}


# Files

KEYS = (
    *TEXTS, "k", "K", "k ", "../../etc/passwd", "/etc/passwd", "a/b", "C:\\x", ".", "..", "",
    "k" * 512, "k" * 513, "\ud83d\ude42" * 512, None, 3, b"k", ["k"],
)  # fmt: skip
OWNERS = ("child", "GONE", "run", "CHILD", "child ", "nobody", *TEXTS, None, "", 3, Session)
TYPES = ("text/plain", "a/b\r\nX: y", "", "a/" + "b" * 254, b"a/b", "\ud800/x", None, *TEXTS)
CONTENTS: tuple[Any, ...] = (b"", b"content", "text", "\ud800", None, 3, [b"x"], bytearray(b"x"))
columns_of_files = st.fixed_dictionaries(
    {},
    optional={
        "session_id": st.sampled_from(OWNERS),
        "run_id": st.sampled_from(OWNERS),
        "content_type": st.sampled_from(TYPES),
        "metadata": st.sampled_from(VALUES) | hostile.any_mappings,
    },
)
File = tuple[Any, Any, dict[str, Any]]


def put(case: File, alias: str) -> Answer:
    """What each method says of the key; and the row, which is deleted then."""
    key, content, given = case
    store = ArtifactStore(using=alias)
    with Clock().installed():
        answers = [told(Outcome.of(lambda: store.put(key, content, **given)))]
        for method in (store.stat, store.get, store.delete):
            answers.append(told(Outcome.of(partial(method, key))))
        session_id: Any = given.get("session_id")
        answers.append(told(Outcome.of(partial(store.list_by_session, session_id))))
    rows = Artifact._base_manager.using(alias).exclude(id__in=["art_1", "art_2", "art_3", "ART_1"])
    stored = [without_ids(row) for row in rows]
    rows.delete()
    return f"put {answers[0][0]}", answers, stored


@on_all
@override_settings(STORAGES={"default": {"BACKEND": MEMORY}})
def test_artifacts(bench: Bench, is_long: bool, tell: Callable[[str], None]) -> None:
    def judge(case: File) -> None:
        bench.ask(partial(put, case))

    corpus: list[File] = [
        *((key, b"content", {}) for key in KEYS),
        *(("k", b"content", {"session_id": owner}) for owner in OWNERS),
        *(("k", b"content", {"metadata": {"a": value}}) for value in VALUES[:20]),
    ]
    cases = st.tuples(st.sampled_from(KEYS), st.sampled_from(CONTENTS), columns_of_files)
    try_all(judge, cases, corpus, is_long)
    tell(str(bench))


# What a provider yields

ENDS = ("returned", "ProviderError", "RunTimeout", "RunCancelled")

YIELDED = ("type", "data", "metadata", "timestamp", "provider", "correlation_id", "schema_version")
mappings = st.fixed_dictionaries(
    {},
    optional={
        **{name: hostile.COLUMNS[Event][name] for name in YIELDED},
        "session_id": st.sampled_from(OWNERS),
        "run_id": st.sampled_from(OWNERS),
        "sequence_number": hostile.anything,
        "nonsense": hostile.anything,
    },
)
known_types = st.sampled_from([*Event.Type.values])
KEYS_OF_DATA = (
    "content", "role", "input_tokens", "output_tokens", "tool_calls", "error_message", "error_code",
    "status", "output", "provider_session_id", "model", "turn", "cost_usd",
)  # fmt: skip
odd_data = hostile.mappings | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(KEYS_OF_DATA, hostile.values)
)
outputs = st.lists(
    mappings
    | st.builds(lambda kind, data: {"type": kind, "data": data}, known_types, odd_data)
    | hostile.anything
    | st.just(ValueError("no\0")),
    max_size=3,
)


def ran(script: list[Any], alias: str) -> Answer:
    """A run whose provider yields this: its end, and all that is stored of it."""
    empty(alias)
    with Clock().installed():
        manager = SessionManager(DatabaseSessionStore(alias), ScriptedProvider(map(made, script)))
        outcome = Outcome.of(lambda: manager.run_once("begin"))
    stored = [
        [without_ids(row) for row in kind._base_manager.using(alias).order_by("id")]
        for kind in (Session, Run)
    ]
    events = Event._base_manager.using(alias).order_by("session_id", "sequence_number")
    return (*told(outcome), stored, [without_ids(event) for event in events])


@on_all
def test_what_providers_yield(bench: Bench, is_long: bool, tell: Callable[[str], None]) -> None:
    def judge(script: list[Any]) -> None:
        answer = bench.ask(partial(ran, script))
        assert answer[0] in ENDS, answer[:2]

    corpus: list[list[Any]] = [
        [{"type": "message_received", "data": {"role": "assistant", "content": value}}]
        for value in VALUES
    ]
    corpus += [[{"type": kind, "data": {"value": "\0"}}] for kind in Event.Type.values]
    try_all(judge, outputs, corpus, is_long)
    tell(str(bench))
