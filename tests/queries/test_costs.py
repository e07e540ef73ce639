"""get_cost_summary: the sum of what each run costs, on every database."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store import default_store
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import QueryError, ValidationError
from asm_store.models import Run, Session
from asm_store.pricing import calculate_cost
from asm_store.queries import CostSummary, aget_cost_summary, costs, get_cost_summary
from asm_store.test import make_run, make_session
from tests.queries.usage import HOSTILE, counts

START = datetime(2026, 3, 1, tzinfo=UTC)
AGENTS = {"ses_1": "assistant", "SES_1": "Assistant", "ses_deleted": "x"}
TABLE = {
    "claude": {
        "models": {
            "sonnet": {"input": 3e-6, "output": 15e-6, "cache_read": 0.3e-6},
            "sonnet-5": {"input": 2e-6, "output": 10e-6},
        },
        "default": {"input": 1e-6, "output": 1e-6, "cache_creation": 0},
    },
    "Claude": {"models": {"Sonnet": {"input": Decimal("0.1"), "output": 0}}},
}
PROVIDERS = ["claude", "Claude", "claude ", "unknown", "", None]
MODELS = ["sonnet", "sonnet-5-eu", "Sonnet", "sonnet ", "söñ😀\\\"'", "unknown", "", None, 5, ["x"]]
USAGE = [usage for usage in HOSTILE if max(counts(usage).values()) < 2**60]
Filters = dict[str, Any]


@pytest.fixture(autouse=True)
def no_prices_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's prices change from version to version."""
    monkeypatch.setattr("asm_store.pricing._library", lambda: None)


@pytest.fixture
def tiered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The price library, in which `tiered` costs twice as much above 1,000 tokens of input, as
    every `tuned-...` does, and `dated` twice as much from the fifth day on.
    """
    library = pytest.importorskip("genai_prices.data_snapshot", reason="genai-prices is missing")
    types = pytest.importorskip("genai_prices.types")
    monkeypatch.setattr("asm_store.pricing._library", lambda: library)

    def priced(mtok: int) -> Any:
        return types.ModelPrice(input_mtok=Decimal(mtok), output_mtok=Decimal(mtok))

    steps = types.TieredPrices(base=Decimal(1), tiers=[types.Tier(1_000, Decimal(2))])
    later = types.StartDateConstraint((START + timedelta(days=4)).date())
    dated = [
        types.ConditionalPrice(prices=priced(3)),
        types.ConditionalPrice(constraint=later, prices=priced(6)),
    ]
    prices = {
        "tiered": types.ModelPrice(input_mtok=steps, output_mtok=steps),
        "dated": dated,
        "flat": priced(5),
    }
    models = [
        types.ModelInfo(id=name, match=types.ClauseEquals(name), prices=prices[name])
        for name in prices
    ]
    tuned = types.ClauseStartsWith("tuned-")
    models.append(types.ModelInfo(id="tuned", match=tuned, prices=prices["tiered"]))
    provider = types.Provider("openai", "OpenAI", "https://api", models=models)
    library.set_custom_snapshot(library.DataSnapshot([provider], from_auto_update=False))
    yield
    library.set_custom_snapshot(None)


def some_runs(
    size: int, providers: list[Any], models: list[Any], usage: Callable[[random.Random], Any]
) -> list[Run]:
    chance = random.Random(11)
    return [
        make_run(
            chance.choice(list(AGENTS)),
            provider=chance.choice(providers),
            provider_metadata=chance.choice([{"model": chance.choice(models)}, {}, {"x": 1}]),
            started_at=START + timedelta(days=chance.randrange(9)),
            token_usage=usage(chance),
            cost_usd=chance.choice([None, None, None, 0.0, 1.25]),
        )
        for _ in range(size)
    ]


def save(using: str, runs: list[Run]) -> None:
    sessions = [make_session(id=pk, agent_id=AGENTS[pk]) for pk in AGENTS]
    sessions[-1].deleted_at = START
    Session.objects.using(using).bulk_create(sessions)
    Run.objects.using(using).bulk_create(runs)


def model_of(run: Run) -> str | None:
    model = run.provider_metadata.get("model")
    return model if isinstance(model, str) else None


def cost_of(run: Run, table: Any) -> float | None:
    if run.cost_usd is not None:
        return float(run.cost_usd)
    return calculate_cost(run.token_usage, run.provider, model_of(run), table, at=run.started_at)


def expected(runs: list[Run], table: Any = None) -> CostSummary:
    """Run by run, in Python."""
    priced = [(run, cost) for run in runs if (cost := cost_of(run, table)) is not None]
    providers: dict[str, Any] = {}
    models: dict[str, Any] = {}
    for run, cost in priced:
        used = counts(run.token_usage)
        provider = providers.setdefault(run.provider or "unknown", {"cost_usd": 0, "run_count": 0})
        names = ("cost_usd", "run_count", "input_tokens", "output_tokens")
        model = models.setdefault(model_of(run) or "unknown", dict.fromkeys(names, 0))
        for entry in (provider, model):
            entry["cost_usd"] += cost
            entry["run_count"] += 1
        model["input_tokens"] += used["input_tokens"]
        model["output_tokens"] += used["output_tokens"]
    total = math.fsum(cost for _, cost in priced)
    return CostSummary(total, len(runs), providers, models, len(runs) - len(priced))


def assert_same(found: CostSummary, wanted: CostSummary, about: object = None) -> None:
    assert (found.run_count, found.unmapped_runs) == (wanted.run_count, wanted.unmapped_runs), about
    assert found.total_cost_usd == pytest.approx(wanted.total_cost_usd, rel=1e-9), about
    pairs = ((found.by_provider, wanted.by_provider), (found.by_model, wanted.by_model))
    for mine, theirs in pairs:
        assert list(mine) == sorted(theirs), about
        for name in mine:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-9), (about, name)


def test_a_summary_is_the_sum_of_its_runs(using: str) -> None:
    runs = some_runs(400, PROVIDERS, MODELS, lambda chance: chance.choice(USAGE))
    save(using, runs)
    every: list[tuple[Filters, Callable[[Run], bool]]] = [
        ({}, lambda run: True),
        ({"session_id": "ses_1"}, lambda run: run.session_id == "ses_1"),
        ({"agent_id": "assistant"}, lambda run: AGENTS[run.session_id] == "assistant"),
        ({"provider": ["claude", ""]}, lambda run: run.provider in {"claude", ""}),
        ({"provider": []}, lambda run: False),
        ({"since": runs[0].started_at}, lambda run: run.started_at >= runs[0].started_at),
        ({"until": runs[1].started_at}, lambda run: run.started_at <= runs[1].started_at),
    ]
    for filters, matches in every:
        chosen = [run for run in runs if matches(run)]
        found = get_cost_summary(using=using, pricing_table=TABLE, **filters)
        assert_same(found, expected(chosen, TABLE), filters)
    assert_same(get_cost_summary(using=using), expected(runs))
    with override_settings(ASM_STORE_PRICING=TABLE):
        assert_same(get_cost_summary(using=using), expected(runs, TABLE))


def test_models_with_tiers_and_dates_are_priced_run_by_run(
    using: str, tiered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "PAGE", 50)
    runs = some_runs(
        400,
        ["openai", "codex", "gpt", None],
        ["tiered", "dated", "flat", "no-such-model", None],
        lambda chance: {
            "input_tokens": chance.randrange(2_000),
            "output_tokens": chance.randrange(100),
        },
    )
    save(using, runs)
    wanted = expected(runs)
    flat = {"openai": {"models": {"tiered": {"input": 1e-6, "output": 1e-6}}}}
    assert wanted.total_cost_usd != pytest.approx(expected(runs, flat).total_cost_usd)
    with CaptureQueriesContext(connections[using]) as captured:
        found = get_cost_summary(using=using)
    assert_same(found, wanted)
    varying = [
        run
        for run in runs
        if model_of(run) in {"tiered", "dated"} and run.cost_usd is None and run.provider
    ]
    # The sums, and the pages with the empty one that ends them; never by OFFSET.
    assert len(captured) == 1 + -(-len(varying) // 50) + 1
    assert all("OFFSET" not in statement["sql"] for statement in captured)
    assert_same(get_cost_summary(using=using, pricing_table=flat), expected(runs, flat))


def test_any_number_of_models_with_tiers_is_priced(using: str, tiered: None) -> None:
    """Fine-tuned models have names of their own, and no statement takes any number of them."""
    names = [f"tuned-{number}" for number in range(1_100)]
    usage = {"input_tokens": 1_500, "output_tokens": 1}
    runs = [
        make_run("ses_1", provider=provider, provider_metadata={"model": name}, token_usage=usage)
        for name in names
        for provider in ("codex", "openai")
    ]
    save(using, runs)
    found = get_cost_summary(using=using)
    assert (found.run_count, found.unmapped_runs) == (2_200, 0)
    assert found.total_cost_usd == pytest.approx(2_200 * 1_501 * 2e-6)
    assert list(found.by_model) == sorted(names)


def test_absurd_costs_break_no_sum(using: str) -> None:
    absurd = [make_run("ses_1", cost_usd=1.7e308) for _ in range(3)]
    save(using, [*absurd, make_run("ses_1", provider="claude", cost_usd=1.25)])
    found = get_cost_summary(using=using)
    assert found.total_cost_usd == pytest.approx(3e100)
    assert found.by_provider["claude"] == {"cost_usd": 1.25, "run_count": 1}
    assert (found.run_count, found.unmapped_runs) == (4, 0)


def test_the_database_adds_linear_prices_up(using: str) -> None:
    save(using, some_runs(100, PROVIDERS, MODELS, lambda chance: chance.choice(USAGE)))
    with CaptureQueriesContext(connections[using]) as captured:
        get_cost_summary(using=using, pricing_table=TABLE)
    [statement] = captured
    assert "GROUP BY" in statement["sql"]


def test_no_runs_cost_nothing(using: str) -> None:
    assert get_cost_summary(using=using) == CostSummary(0.0, 0, {}, {}, 0)


def test_what_the_store_has_priced_is_in_the_summary(using: str) -> None:
    store = DatabaseSessionStore(using)
    session = store.save_session(make_session())
    ended = make_run(
        session,
        status="completed",
        provider="claude",
        provider_metadata={"model": "sonnet"},
        token_usage={"input_tokens": 1_000_000, "output_tokens": 10},
    )
    with override_settings(ASM_STORE_PRICING=TABLE):
        stored = store.save_run(ended)
    found = get_cost_summary(using=using, pricing_table={"claude": {"default": dict(TOO_DEAR)}})
    assert found.total_cost_usd == stored.cost_usd == pytest.approx(3.00015)
    assert found.by_model["sonnet"] == {
        "cost_usd": stored.cost_usd,
        "run_count": 1,
        "input_tokens": 1_000_000,
        "output_tokens": 10,
    }
    assert repr(found.by_model["sonnet"]["input_tokens"]) == "1000000"


TOO_DEAR = {"input": 1, "output": 1}


@pytest.mark.parametrize(
    "table",
    [
        5,
        [],
        {"claude": 5},
        {"claude": {"default": {"input": -1, "output": 0}}},
        {"claude": {"default": {"input": "1", "output": 0}}},
        {"claude": {"default": {"input": math.nan, "output": 0}}},
        {"claude": {"default": {"input": math.inf, "output": 0}}},
        {"claude": {"default": {"input": True, "output": 0}}},
        {"claude": {"default": {"output": 0}}},
        {"claude": {"prices": {}}},
    ],
)
def test_a_table_that_is_none_is_refused_before_any_sql(table: Any) -> None:
    with pytest.raises(ValidationError, match="pricing_table"):
        get_cost_summary(pricing_table=table)


@pytest.mark.parametrize("filters", [{"since": "now"}, {"model": "x"}, {"include_deleted": True}])
def test_bad_filters_are_refused_before_any_sql(filters: Filters) -> None:
    with pytest.raises(QueryError):
        get_cost_summary(**filters)


def test_the_async_twin_is_the_same_call(using: str) -> None:
    save(using, some_runs(20, PROVIDERS, MODELS, lambda chance: chance.choice(USAGE)))
    found = async_to_sync(aget_cost_summary)(using=using, pricing_table=TABLE)
    assert found == get_cost_summary(using=using, pricing_table=TABLE)


@pytest.mark.django_db
def test_the_documented_example_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "costs.md"
    [example] = re.findall(r"```python\n([^`]*get_cost_summary.*?)```", page.read_text(), re.DOTALL)
    session = default_store.save_session(make_session(agent_id="assistant"))
    run = make_run(
        session,
        provider="claude",
        provider_metadata={"model": "claude-sonnet-4-5"},
        token_usage={"output_tokens": 7},
        cost_usd=12.5,
    )
    default_store.save_run(run)
    names: dict[str, Any] = {"monday": START}
    exec(example, names)
    assert names["summary"].total_cost_usd == 12.5
    assert eval("summary.by_model['claude-sonnet-4-5']['output_tokens']", names) == 7
