"""Whatever is given to a store: one verdict on every database and in memory, before any SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import Data, InMemorySessionStore
from asm_store.exceptions import StoreError, ValidationError
from asm_store.models import Run, Session
from tests.cases import EMPTIED_APPS
from tests.databases import ALIASES
from tests.proofs.machine import hostile
from tests.proofs.machine.corpus import CORPUS
from tests.proofs.machine.hostile import Call, made
from tests.proofs.machine.outcomes import (
    Clock,
    Outcome,
    acall,
    call,
    canonical,
    database_tables,
    described,
    empty,
    held,
    memory_tables,
)

AVAILABLE = [alias for alias in ALIASES if alias in django_settings.DATABASES]
CASES, LONG_CASES = 60, 5_000


class Court:
    """Every database's store and the one in memory, with the same session and run in each."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.memory = InMemorySessionStore()
        self.databases = [DatabaseSessionStore(using=alias) for alias in AVAILABLE]
        self.verdicts: Counter[str] = Counter()
        self.is_fresh = False

    def begin(self) -> None:
        if self.is_fresh:
            return
        self.memory._data = Data()
        for store in self.databases:
            empty(store.using)
        for each in (self.memory, *self.databases):
            owner, run = (hostile.plain(kind).made() for kind in (Session, Run))
            each.flush(owner, run)
        self.is_fresh = True

    def judge(self, case: list[Call]) -> None:
        """Make the calls, those that have stored something once more, over the first."""
        with self.clock.installed():
            self.begin()
            for one in case:
                if self.has_changed(one):
                    self.has_changed(one)
            for store in self.databases:
                self.check_stored(store)

    def has_changed(self, one: Call) -> bool:
        """Make the call, which must do the same everywhere: whether it has stored something."""
        self.clock.tick()
        before = memory_tables(self.memory)
        expected = answer(self.memory, one)
        error = expected.error
        assert error is None or isinstance(error, StoreError), repr(error)
        for store in self.databases:
            connection = connections[store.using]
            connection.queries_log.clear()  # a full one takes nothing more
            with CaptureQueriesContext(connection) as queries:
                found = answer(store, one)
            assert found.seen == expected.seen, store
            sent = [query["sql"] for query in queries.captured_queries]
            assert may_ask(one, error) or sent == [], store
        self.verdicts["none" if error is None else type(error).__name__] += 1
        has_changed = memory_tables(self.memory) != before
        assert not (has_changed and error)
        self.is_fresh = self.is_fresh and not has_changed
        return has_changed

    def check_stored(self, store: DatabaseSessionStore) -> None:
        """In every table, and as lines."""
        stored = memory_tables(self.memory)
        tables = database_tables(store.using)
        assert {name: tables[name] for name in stored} == stored, store
        for session_id in (name for name, latest in stored["counters"].items() if latest):
            events = self.memory.get_events(session_id)
            lines = list(store.iter_events_json(session_id))
            assert described(lines) == [canonical(event.to_dict()) for event in events], store


def may_ask(one: Call, error: Exception | None) -> bool:
    """Whether a database is needed for this verdict: not for what can never be stored."""
    of_another = " belongs to session " in str(error)
    # What is merged into a stored record may be too large only together with that.
    merged = one.name == "update_session" and str(error).startswith(("metadata: the", "tags: the"))
    return not isinstance(error, ValidationError) or of_another or merged


def answer(store: BaseSessionStore, one: Call) -> Outcome:
    """What the store answers; it must leave what it was given as it was."""
    arguments, options = made(one.arguments), {name: made(o) for name, o in one.options.items()}
    before = held(arguments)
    # The second alias of each vendor is asked by the async twins.
    is_twin = isinstance(store, DatabaseSessionStore) and store.using in ALIASES[1::2]
    ask = acall if is_twin else call
    outcome = Outcome.of(lambda: ask(store, one.name, *arguments, **options))
    assert held(arguments) == before, "a store has changed what it was given"
    return outcome


@pytest.mark.django_db(transaction=True, databases=AVAILABLE, available_apps=EMPTIED_APPS)
@override_settings(
    ASM_STORE_MAX_EVENT_BYTES=hostile.LIMIT, ASM_STORE_EXTRA_EVENT_TYPES=hostile.EXTRA_TYPES
)
def test_the_verdict_is_the_same_everywhere(is_long: bool, tell: Callable[[str], None]) -> None:
    court = Court()

    def judge(case: list[Call]) -> None:
        court.judge(case)

    for nasty in CORPUS:
        judge = example(nasty)(judge)
    options = settings(
        max_examples=LONG_CASES if is_long else CASES,
        derandomize=not is_long,  # what is red, is red everywhere
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    options(given(st.lists(hostile.calls, min_size=1, max_size=3))(judge))()
    verdicts = ", ".join(f"{name} {count}" for name, count in court.verdicts.most_common())
    tell(f"{court.verdicts.total()} calls alike on {len(AVAILABLE)} databases, errors: {verdicts}")
