"""The library of prices: what is asked of it, what it says, and life without it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import assume, given
from hypothesis import strategies as st

from asm_store import pricing
from asm_store.pricing import VaryingPrice, calculate_cost, price_for
from asm_store.rates import Rates, TokenCounts
from tests.test_pricing import FULL_COST, USAGE, cost_of_one, flat

DOCUMENTED = Path(__file__).parents[1] / "docs" / "costs.md"
JANUARY = datetime(2026, 1, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def library() -> Any:
    """The module of the price library that this package uses."""
    return pytest.importorskip("genai_prices.data_snapshot", reason="genai-prices is missing")


@pytest.fixture
def own_models(library: Any) -> Iterator[Any]:
    """A function that makes the library know models of the provider `anthropic`, and no others."""
    types = sys.modules["genai_prices.types"]

    def know(**models: Any) -> Any:
        infos = [
            types.ModelInfo(id=name, match=types.ClauseEquals(name), prices=prices)
            for name, prices in models.items()
        ]
        provider = types.Provider("anthropic", "Anthropic", "https://api", models=infos)
        library.set_custom_snapshot(library.DataSnapshot([provider], from_auto_update=False))
        return types

    yield know
    library.set_custom_snapshot(None)


def million(**rates: Any) -> dict[str, Any]:
    return {f"{kind}_mtok": Decimal(rate) for kind, rate in rates.items()}


class TestLibrary:
    def test_a_known_model_has_a_price(self, library: Any) -> None:
        # 3, 15, 0.3 and 3.75 dollars a million: the price of this old model does not change.
        for name in ("anthropic", "claude", "Claude"):
            cost = calculate_cost(USAGE, name, "claude-3-5-sonnet-20241022")
            assert cost == pytest.approx(FULL_COST, rel=1e-15)

    @pytest.mark.parametrize(
        ("provider", "model"),
        [
            ("codex", "gpt-4o"),
            ("gpt", "gpt-4o"),
            ("openai", "gpt-4o"),
            ("gemini", "gemini-2.0-flash"),
        ],
    )
    def test_providers_may_have_the_names_of_their_agents(
        self, library: Any, provider: str, model: str
    ) -> None:
        assert price_for(provider, model) is not None

    @pytest.mark.parametrize(
        ("provider", "model"),
        [
            ("claude", "no-such-model"), ("nobody", "gpt-4o"), (None, "gpt-4o"), ("", "gpt-4o"),
            ("openai", None), ("openai", ""), ("openai", "whisper-1"), ("\ud800", "\ud800"),
        ],
    )  # fmt: skip
    def test_what_it_does_not_know_is_not_guessed(
        self, library: Any, provider: str | None, model: str | None
    ) -> None:
        assert price_for(provider, model) is None
        assert calculate_cost(USAGE, provider, model) is None
        assert calculate_cost({}, provider, model) == 0

    def test_a_table_goes_before_it(self, library: Any) -> None:
        table = {"claude": {"models": {"claude-3-5": flat(7)}}}
        assert cost_of_one("claude-3-5-sonnet", table, "claude") == 7
        with override_settings(ASM_STORE_PRICING=table):
            assert cost_of_one("claude-3-5-sonnet", None, "claude") == 7
            assert price_for("claude", "claude-3-opus") is not None
            assert price_for("anthropic", "claude-3-5-sonnet") != price_for("claude", "claude-3-5")

    def test_its_input_includes_cached_tokens(self, own_models: Any) -> None:
        """The library's own calculation, of what Anthropic would have counted as 1,000 input."""
        types = own_models()
        prices = types.ModelPrice(
            **million(input=3, output=15, cache_read="0.3", cache_write="3.75")
        )
        own_models(m=prices)
        usage = types.Usage(
            input_tokens=13_000,
            output_tokens=100,
            cache_read_tokens=10_000,
            cache_write_tokens=2_000,
        )
        expected = prices.calc_price(usage)["total_price"]
        assert calculate_cost(USAGE, "claude", "m") == float(expected) == FULL_COST

    def test_linear_prices_are_rates(self, own_models: Any) -> None:
        types = own_models()
        own_models(
            full=types.ModelPrice(**million(input=3, output=15, cache_read=0, cache_write=4)),
            partial=types.ModelPrice(**million(input=3, output=15)),
            embedding=types.ModelPrice(**million(input=3)),
            free=types.ModelPrice(),
        )
        expected = {"full": (3, 15, 0, 4), "partial": (3, 15, 3, 3), "embedding": (3, 0, 3, 3)}
        for model, dollars in {**expected, "free": (0, 0, 0, 0)}.items():
            fractions = (Fraction(amount, 1_000_000) for amount in dollars)
            assert price_for("claude", model) == Rates(*fractions)

    def test_tiers_go_by_all_input(self, own_models: Any) -> None:
        types = own_models()
        tiers = {
            kind: types.TieredPrices(base=Decimal(low), tiers=[types.Tier(200_000, Decimal(high))])
            for kind, low, high in (("input_mtok", 3, 6), ("output_mtok", 15, 30))
        }
        own_models(m=types.ModelPrice(**tiers, cache_read_mtok=Decimal(1)))
        price = price_for("claude", "m")
        assert isinstance(price, VaryingPrice)
        low = {"input_tokens": 100_000, "output_tokens": 10_000, "cache_read_tokens": 100_000}
        high = {**low, "cache_creation_tokens": 1}
        assert calculate_cost(low, "claude", "m") == 0.55
        assert calculate_cost(high, "claude", "m") == pytest.approx(0.6 + 0.3 + 0.1 + 6e-6)

    def test_prices_are_of_the_time_of_the_run(self, own_models: Any) -> None:
        types = own_models()
        cheap, dear = (types.ModelPrice(**million(input=n, output=n)) for n in (1, 2))
        change = types.StartDateConstraint(JANUARY.date())
        own_models(
            m=[
                types.ConditionalPrice(prices=cheap),
                types.ConditionalPrice(constraint=change, prices=dear),
            ]
        )
        assert isinstance(price_for("claude", "m"), VaryingPrice)
        usage = {"output_tokens": 1_000_000}
        for at, cost in ((JANUARY - timedelta(seconds=1), 1), (JANUARY, 2), (None, 2)):
            assert calculate_cost(usage, "claude", "m", at=at) == cost

    def test_a_fee_for_each_request_is_counted_once_a_run(self, own_models: Any) -> None:
        types = own_models()
        fee = {"requests_kcount": Decimal(5)}
        own_models(m=types.ModelPrice(**million(input=1, output=1), **fee))
        assert isinstance(price_for("claude", "m"), VaryingPrice)
        assert calculate_cost({"input_tokens": 1_000_000}, "claude", "m") == 1.005
        assert calculate_cost({"total_tokens": 5}, "claude", "m") is None
        assert calculate_cost({}, "claude", "m") == 0

    def test_prices_that_were_updated_count_at_once(self, own_models: Any) -> None:
        types = own_models()
        for price in (1, 2):
            own_models(m=types.ModelPrice(**million(input=price, output=1)))
            assert calculate_cost({"input_tokens": 1_000_000}, "claude", "m") == price

    @given(data=st.data())
    def test_every_model_costs_what_the_library_says(
        self, library: Any, data: st.DataObject
    ) -> None:
        usage_type = sys.modules["genai_prices.types"].Usage
        providers = library.get_snapshot().providers
        known = [(provider, model) for provider in providers for model in provider.models]
        provider, model = known[data.draw(st.integers(0, len(known) - 1), "number of the model")]
        sizes = [st.sampled_from([0, 1, 999, 128_000, 200_000, 200_001, 272_001, 10**7])] * 4
        used = data.draw(st.builds(TokenCounts, *sizes, total=st.just(0)), "counts")
        times = st.datetimes(datetime(2023, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
        at = data.draw(times, "at")
        price = pricing._price_of(model)
        assume(price is not None)
        usage = usage_type(
            input_tokens=used.all_input,
            output_tokens=used.output,
            cache_read_tokens=used.cache_read,
            cache_write_tokens=used.cache_creation,
        )
        theirs = model.calc_price(usage, provider, genai_request_timestamp=at).total_price
        assert price is not None
        assert price.cost(used, at) == pytest.approx(float(theirs), rel=1e-12)


def test_the_documented_examples_are_right(library: Any) -> None:
    names: dict[str, Any] = {}
    examples = re.findall(r"```python\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)
    priced = [example for example in examples if "cost = " in example]
    assert len(priced) == 2
    for example in priced:
        exec(example, names)
        assert names["cost"] == float(re.findall(r"# ([\d.]+)$", example, re.MULTILINE)[-1])


class TestWithoutLibrary:
    @pytest.fixture(autouse=True)
    def nothing_installed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setitem(sys.modules, "genai_prices", None)
        pricing._library.cache_clear()
        yield
        pricing._library.cache_clear()

    def test_models_have_no_price(self) -> None:
        assert price_for("claude", "claude-3-5-sonnet-20241022") is None
        assert calculate_cost(USAGE, "claude", "claude-3-5-sonnet-20241022") is None
        assert calculate_cost({}, "claude", "claude-3-5-sonnet-20241022") == 0

    def test_own_tables_work(self) -> None:
        assert cost_of_one("m", {"mine": {"default": flat(2)}}) == 2


def test_the_library_is_not_imported_before_a_run_needs_it() -> None:
    program = """
import sys
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["asm_store"], USE_TZ=True)
django.setup()
from django.core import checks
from asm_store.backends.memory import InMemorySessionStore
from asm_store.test.factories import make_run, make_session
checks.run_checks()
store = InMemorySessionStore()
session = store.save_session(make_session())
store.save_run(make_run(session, status="completed"))
print([name for name in sys.modules if name.startswith(("genai_prices", "pydantic"))])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
