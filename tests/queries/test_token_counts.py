"""The generated columns of runs: what hostile token usage counts for, alike on every database."""

from __future__ import annotations

import pytest

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Run
from asm_store.test import make_run, make_session
from tests.databases import vendor_of
from tests.queries.usage import COUNTS, DEEP, HOSTILE, count, counts


def stored(using: str) -> dict[str, dict[str, float]]:
    rows = Run.objects.using(using).values("id", *COUNTS)
    return {row.pop("id"): row for row in rows}


def test_hostile_usage_counts_for_what_is_a_count(using: str) -> None:
    store = DatabaseSessionStore(using)
    store.save_session(make_session(id="ses_1"))
    expected = {}
    for usage in HOSTILE:
        run = store.save_run(make_run("ses_1", token_usage=usage))
        expected[run.id] = counts(usage)
        assert store.get_run(run.id).token_usage == run.token_usage
    assert stored(using) == expected


def test_usage_that_is_too_deep_for_mariadb_is_stored_there_too(using: str) -> None:
    store = DatabaseSessionStore(using)
    store.save_session(make_session(id="ses_1"))
    store.save_run(make_run("ses_1", id="run_1", token_usage=DEEP))
    assert store.get_run("run_1").token_usage == DEEP
    known = 0.0 if vendor_of(using) == "mysql" else 7.0
    assert stored(using)["run_1"]["input_tokens"] == known


def test_the_counts_follow_the_usage(using: str) -> None:
    store = DatabaseSessionStore(using)
    store.save_session(make_session(id="ses_1"))
    run = store.save_run(make_run("ses_1", id="run_1", token_usage={"input_tokens": 1}))
    assert run.total_tokens == 1
    again = store.save_run(run.update_token_usage({"input_tokens": 4, "output_tokens": 2}))
    assert (again.input_tokens, again.total_tokens) == (5, 7)
    assert store.get_run("run_1").total_tokens == 7


def test_they_are_no_columns_of_a_record() -> None:
    run = make_run("ses_1", token_usage={"input_tokens": 1})
    assert not set(COUNTS) & set(run.to_dict())
    assert Run.from_dict(run.to_dict()).to_dict() == run.to_dict()


@pytest.mark.parametrize("value", [float("nan"), "5", None, True, -1, [1]])
def test_the_oracle_knows_nonsense(value: object) -> None:
    assert count(value) == 0
