"""docs/plans.md says what PostgreSQL does: each question of its tables is asked and explained."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asm_store import queries
from asm_store.filters import EventFilterSet, RunFilterSet, SessionFilterSet, UsageFilterSet
from asm_store.queries.search import EVENT_ORDERS, RUN_ORDERS, SESSION_ORDERS
from tests.cases import only_on
from tests.queries import plans

USING = "postgresql"
PAGE = Path(__file__).parents[2] / "docs" / "plans.md"
NAMES = {"day": datetime(2026, 1, 2, tzinfo=UTC), "hour": timedelta(hours=1)}
# (function, arguments, plan)
DOCUMENTED = re.findall(r"^\| `(\w+)\((.*)\)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
FUNCTIONS = {
    "search_sessions": [*SessionFilterSet.base_filters, *SESSION_ORDERS],
    "search_runs": [*RunFilterSet.base_filters, *RUN_ORDERS],
    "search_events": [*EventFilterSet.base_filters, *EVENT_ORDERS],
    "count_events": [],
    "get_session_stats": [],
    "get_usage_summary": list(UsageFilterSet.base_filters),
    "get_cost_summary": list(UsageFilterSet.base_filters),
    "export_session": [],
}
# How it is known that a session is deleted, beside its runs and events.
DELETED = {"asm_sessions_pkey", "asm_sessions_deleted"}


def call(function: str, arguments: str) -> partial[Any]:
    """The documented call; of a search without a total, unless it is asked for."""
    made: partial[Any] = eval(
        f"partial({function}, {arguments})", vars(queries) | NAMES | globals()
    )
    if function == "search_sessions" and "include_total" not in made.keywords:
        made = partial(made, include_total=False)
    return partial(made, using=USING)


def statements(function: str, arguments: str) -> list[str]:
    """Of the call; of a search, of its second page too."""
    first = call(function, arguments)
    cursor = getattr(first(), "cursor", None)
    pages = [first] + ([partial(first, cursor=cursor)] if cursor else [])
    return [sql for page in pages for sql in plans.sent(USING, page)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_filter_and_order_of_a_query_is_documented(function: str) -> None:
    asked = " ".join(arguments for name, arguments, _ in DOCUMENTED if name == function)
    default = {"updated_at_desc", "started_at_desc", "sequence_asc"}
    assert function in {name for name, _, _ in DOCUMENTED}
    assert [name for name in FUNCTIONS[function] if name not in asked] == [
        name for name in FUNCTIONS[function] if name in default
    ]


@only_on(USING)
def test_the_plans_are_those_of_the_page(using: str) -> None:
    plans.fill(USING)
    for function, arguments, plan in DOCUMENTED:
        sql = statements(function, arguments)
        selects = [statement for statement in sql if statement.startswith("SELECT")]
        used = {name for statement in selects for name in plans.indexes(USING, statement)}
        scanned = {table for statement in selects for table in plans.scanned(USING, statement)}
        named = set(re.findall(r"`(asm_\w+)`", plan))
        whole = set(re.findall(r"Seq Scan `(asm_\w+)`", plan))
        assert scanned <= whole, (function, arguments, plan)
        assert used <= named | DELETED, (function, arguments, plan, used)
        assert named & used or whole, (function, arguments, plan, used)
        assert "OFFSET" not in "".join(sql)
