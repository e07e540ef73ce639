"""Prices by the project's own tables, and that sums are priced as their runs are."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from asm_store import pricing
from asm_store.exceptions import ValidationError
from asm_store.pricing import calculate_cost, price_for
from asm_store.rates import Rates, TokenCounts

USAGE = {
    "input_tokens": 1_000,
    "output_tokens": 100,
    "cache_read_tokens": 10_000,
    "cache_creation_tokens": 2_000,
}
FULL = {"input": 3e-6, "output": 15e-6, "cache_read": 3e-7, "cache_creation": 3.75e-6}
FULL_COST = 0.003 + 0.0015 + 0.003 + 0.0075


def flat(price: float) -> dict[str, float]:
    """Rates by which a run of one input token costs this."""
    return {"input": price, "output": 0}


def cost_of_one(model: str | None, table: Any, provider: str | None = "mine") -> float | None:
    return calculate_cost({"input_tokens": 1}, provider, model, table)


class TestTables:
    def test_each_kind_of_token_has_its_rate(self) -> None:
        table = {"mine": {"default": FULL}}
        assert calculate_cost(USAGE, "mine", "m", table) == pytest.approx(FULL_COST, rel=1e-15)
        for kind, rate in FULL.items():
            usage = {f"{kind}_tokens": 1_000_000}
            expected = round(rate * 1_000_000, 6)
            assert calculate_cost(usage, "mine", "m", table) == expected

    def test_cached_tokens_cost_as_input_without_rates_of_their_own(self) -> None:
        table = {"mine": {"default": {"input": 3e-6, "output": 15e-6}}}
        expected = 13_000 * 3e-6 + 100 * 15e-6
        assert calculate_cost(USAGE, "mine", "m", table) == pytest.approx(expected, rel=1e-15)

    def test_cached_tokens_may_be_free(self) -> None:
        table = {"mine": {"default": {**FULL, "cache_read": 0, "cache_creation": 0}}}
        assert calculate_cost(USAGE, "mine", "m", table) == pytest.approx(0.0045, rel=1e-15)

    def test_exact_name_then_longest_prefix_then_default(self) -> None:
        models = {"gpt": flat(1), "gpt-5": flat(2), "gpt-5-mini": flat(3), "o": flat(4)}
        table = {"mine": {"default": flat(9), "models": models}}
        costs = {
            "gpt": 1, "gpt-4": 1, "gpt-5": 2, "gpt-5-2026-01-01": 2, "gpt-5-mini": 3,
            "gpt-5-mini-x": 3, "o3": 4, "": 9, "GPT-5": 9, "my-gpt-5": 9, None: 9,
        }  # fmt: skip
        assert {model: cost_of_one(model, table) for model in costs} == costs

    def test_the_name_of_a_model_may_begin_with_its_provider(self) -> None:
        table = {"openai": {"models": {"gpt": flat(2)}}, "agents": {"models": {"x:y": flat(3)}}}
        assert cost_of_one("openai:gpt-5", table, "agents") == 2
        assert cost_of_one("x:y", table, "agents") == 3  # as it is called goes first
        assert cost_of_one("openai:other", table, "agents") is None
        assert cost_of_one("gpt:free", table, "openai") == 2

    def test_without_a_default_other_models_have_no_price(self) -> None:
        table = {"mine": {"models": {"m": flat(1)}}}
        assert [cost_of_one(model, table) for model in ("m-1", "n", None)] == [1, None, None]

    def test_providers_are_compared_exactly(self) -> None:
        table = {"mine": {"default": flat(1)}, "claude": {"default": flat(2)}}
        costs = [cost_of_one("m", table, name) for name in ("mine", "Mine", "min", "", None)]
        assert costs == [1, None, None, None, None]
        assert cost_of_one("no-such-model", table, "anthropic") is None

    def test_the_argument_goes_before_the_setting(self) -> None:
        setting = {"mine": {"default": flat(1)}, "yours": {"default": flat(2)}}
        table = {"mine": {"models": {"m": flat(3)}}}
        with override_settings(ASM_STORE_PRICING=setting):
            assert cost_of_one("m", table) == 3
            assert cost_of_one("n", table) == 1
            assert cost_of_one("m", table, "yours") == 2
            assert cost_of_one("m", None) == cost_of_one("m", {}) == 1

    def test_the_setting_is_read_when_it_is_used(self) -> None:
        for price in (1, 2, 1):
            with override_settings(ASM_STORE_PRICING={"mine": {"default": flat(price)}}):
                assert cost_of_one("m", None) == price
        assert cost_of_one("m", None) is None

    def test_prices_are_what_is_written(self) -> None:
        for price in (3e-6, Decimal("0.000003"), Fraction(3, 10**6).limit_denominator()):
            rates = {"input": float(price) if isinstance(price, Fraction) else price, "output": 0}
            found = price_for("mine", "m", {"mine": {"default": rates}})
            assert isinstance(found, Rates)
            assert found.input == Fraction(3, 1_000_000)


class TestTokenUsage:
    @pytest.mark.parametrize("provider", ["mine", "nobody", None])
    @pytest.mark.parametrize("usage", [{}, {"input_tokens": 0, "total_tokens": 0}, {"other": 5}])
    def test_no_tokens_cost_nothing(self, provider: str | None, usage: Any) -> None:
        assert calculate_cost(usage, provider, None, {"mine": {"default": FULL}}) == 0

    @pytest.mark.parametrize(
        "count", [-1, "7", True, None, [1], {"a": 1}, float("nan"), float("inf"), Decimal("NaN")]
    )
    def test_what_is_no_count_counts_as_0(self, count: Any) -> None:
        table = {"mine": {"default": FULL}}
        usage = {"input_tokens": count, "output_tokens": 100}
        assert calculate_cost(usage, "mine", "m", table) == 0.0015
        assert calculate_cost({"input_tokens": count}, "mine", "m", table) == 0

    @pytest.mark.parametrize("count", [100.0, Decimal(100), Decimal("1E+2")])
    def test_counts_need_not_be_integers(self, count: Any) -> None:
        table = {"mine": {"default": FULL}}
        assert calculate_cost({"output_tokens": count}, "mine", "m", table) == 0.0015

    def test_a_total_alone_has_no_price(self) -> None:
        table = {"mine": {"default": FULL}}
        assert calculate_cost({"total_tokens": 5}, "mine", "m", table) is None
        assert (
            calculate_cost({"total_tokens": 5, "output_tokens": 100}, "mine", "m", table) == 0.0015
        )

    def test_what_no_float_can_hold_has_no_price(self) -> None:
        table = {"mine": {"default": FULL}}
        assert calculate_cost({"input_tokens": 10**400}, "mine", "m", table) is None
        assert calculate_cost({"input_tokens": 10**300}, "mine", "m", table) == 3e294

    @pytest.mark.parametrize("usage", [None, [], "usage", 5])
    def test_it_must_be_a_mapping(self, usage: Any) -> None:
        with pytest.raises(ValidationError, match="token_usage: expected a mapping"):
            calculate_cost(usage, "mine", "m")

    @pytest.mark.parametrize(("provider", "model"), [(5, "m"), (b"mine", None), ("mine", ["m"])])
    def test_names_must_be_strings(self, provider: Any, model: Any) -> None:
        with pytest.raises(ValidationError, match="expected a string"):
            calculate_cost(USAGE, provider, model)

    @pytest.mark.parametrize("at", ["now", 5, datetime(2026, 1, 1), date(2026, 1, 1)])  # noqa: DTZ001
    def test_the_time_must_have_a_zone(self, at: Any) -> None:
        for usage in (USAGE, {}):
            with pytest.raises(ValidationError, match="at: expected a datetime with a zone"):
                calculate_cost(usage, "claude", "m", at=at)


def of_rates(**rates: Any) -> dict[str, Any]:
    return {"p": {"models": {"m": {**flat(1), **rates}}}}


BAD_TABLES: list[tuple[Any, str]] = [
    ([], " must be a mapping"),
    ("table", " must be a mapping"),
    ({1: {}}, ": its keys must be names"),
    ({"": {}}, ": its keys must be names"),
    ({"p": None}, "['p'] must be a mapping"),
    ({"p": flat(1)}, "['p'] has an unknown 'input'; known are ['default', 'models']"),
    ({"p": {"default": 1}}, "['p']['default'] must be a mapping"),
    ({"p": {"default": {"input": 1}}}, "['p']['default'] has no 'output'"),
    ({"p": {"default": {"output": 1}}}, "['p']['default'] has no 'input'"),
    ({"p": {"models": [flat(1)]}}, "['p']['models'] must be a mapping"),
    ({"p": {"models": {"": flat(1)}}}, "['p']['models']: its keys must be names"),
    ({"p": {"models": {"m": None}}}, "['p']['models']['m'] must be a mapping"),
    (of_rates(cache_write=1), "['p']['models']['m'] has an unknown 'cache_write'"),
    *(
        (of_rates(**{kind: price}), f"['p']['models']['m']['{kind}'] must be a finite number >= 0")
        for kind in ("input", "output", "cache_read", "cache_creation")
        for price in (-1, -1e-9, "1", None, True, [1], math.nan, math.inf, Decimal("-1"))
    ),
    (of_rates(input=Decimal("sNaN")), "['p']['models']['m']['input'] must be a finite number"),
    (of_rates(input=Decimal("Infinity")), "['p']['models']['m']['input'] must be a finite number"),
]


class TestBadTables:
    @pytest.mark.parametrize(("table", "message"), BAD_TABLES)
    def test_as_an_argument(self, table: Any, message: str) -> None:
        for usage in (USAGE, {}):
            with pytest.raises(ValidationError) as caught:
                calculate_cost(usage, "other", "m", table)
            assert str(caught.value).startswith(f"pricing_table{message}")

    @pytest.mark.parametrize(("table", "message"), [*BAD_TABLES, (None, " must be a mapping")])
    def test_as_the_setting(self, table: Any, message: str) -> None:
        for _ in range(2):
            with override_settings(ASM_STORE_PRICING=table):
                with pytest.raises(ImproperlyConfigured) as caught:
                    calculate_cost(USAGE, "other", "m")
                assert str(caught.value).startswith(f"ASM_STORE_PRICING{message}")

    def test_a_table_that_was_checked_is_taken_as_it_is(self) -> None:
        table = pricing.parse_pricing_table({"mine": {"default": flat(2)}})
        assert pricing.parse_pricing_table(table) is table
        assert cost_of_one("m", table) == 2


amounts = st.integers(0, 10**12) | st.floats(0, 1e12) | st.decimals(0, 10**12)
prices = st.floats(0, 1) | st.integers(0, 5) | st.decimals(0, 1)
rates = st.fixed_dictionaries(
    {"input": prices, "output": prices}, optional={"cache_read": prices, "cache_creation": prices}
)
counts = st.builds(TokenCounts, *[st.integers(0, 10**12)] * 4, total=st.just(0))


@given(rates, st.lists(counts, max_size=20))
def test_the_cost_of_a_sum_is_the_sum_of_the_costs(given: Any, runs: list[TokenCounts]) -> None:
    found = price_for("mine", "m", {"mine": {"default": given}})
    assert isinstance(found, Rates)
    total = TokenCounts(*map(sum, zip(*runs, strict=True)))
    assert found.exact(total) == sum(map(found.exact, runs))
    costs = [found.cost(run) for run in runs]
    assert None not in costs
    assert found.cost(total) == pytest.approx(math.fsum(filter(None, costs)), rel=1e-14)


@given(rates, st.fixed_dictionaries({}, optional=dict.fromkeys(USAGE, amounts)))
def test_the_cost_is_four_products(given: Any, usage: Any) -> None:
    expected = sum(
        Fraction(count) * Fraction(str(given.get(kind.removesuffix("_tokens"), given["input"])))
        for kind, count in usage.items()
    )
    assert calculate_cost(usage, "mine", "m", {"mine": {"default": given}}) == float(expected)
