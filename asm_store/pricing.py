"""What runs cost, in USD: by a project's own rates, then by a maintained library of prices.

docs/costs.md says which price a run gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from typing import Any

from . import conf
from .exceptions import ValidationError
from .rates import PricingTable, Rates, TokenCounts, as_usd

__all__ = ["VaryingPrice", "calculate_cost", "parse_pricing_table", "price_for"]

# What the library calls the providers that agents' logs call otherwise.
_LIBRARY_NAMES = {"claude": "anthropic", "codex": "openai", "gpt": "openai", "gemini": "google"}
_LIBRARY_RATES = ("input", "output", "cache_read", "cache_write")


def calculate_cost(
    token_usage: Mapping[str, Any],
    provider: str | None,
    model: str | None,
    pricing_table: Mapping[str, Any] | PricingTable | None = None,
    *,
    at: datetime | None = None,
) -> float | None:
    """What a run of `model` with this `token_usage` costs, in USD; None when nobody knows.

    Counts are read from `input_tokens` (without cached ones), `output_tokens`, `cache_read_tokens`
    and `cache_creation_tokens`; what is no finite number >= 0 counts as 0. No tokens cost 0.
    `at`, an aware time, says of when the library's prices are: None is now. Another argument that
    is none of these: `ValidationError`; a bad ASM_STORE_PRICING: `ImproperlyConfigured`.
    """
    if not isinstance(token_usage, Mapping):
        raise ValidationError(f"token_usage: expected a mapping, not {type(token_usage).__name__}.")
    if at is not None and not _has_zone(at):
        raise ValidationError("at: expected a datetime with a zone.")
    counts = TokenCounts.of(token_usage)
    price = price_for(provider, model, pricing_table)
    if counts.is_empty:
        return 0.0
    return None if price is None else price.cost(counts, at)


def _has_zone(value: object) -> bool:
    return isinstance(value, datetime) and value.utcoffset() is not None


def price_for(
    provider: str | None,
    model: str | None,
    pricing_table: Mapping[str, Any] | PricingTable | None = None,
) -> Rates | VaryingPrice | None:
    """The price of the provider's model; None when it has none.

    `Rates` are linear: they can be applied to the sums of many runs. A `VaryingPrice` cannot: each
    run has to be priced by itself, at its own time. Raises as `calculate_cost()`.
    """
    for name, value in (("provider", provider), ("model", model)):
        if value is not None and not isinstance(value, str):
            raise ValidationError(f"{name}: expected a string, not {type(value).__name__}.")
    if (rates := own_rates(provider, model, pricing_table)) is not None:
        return rates
    prices = (_library_price(*source) for source in _sources(provider, model))
    return next((price for price in prices if price is not None), None)


def own_rates(
    provider: str | None,
    model: str | None,
    pricing_table: Mapping[str, Any] | PricingTable | None = None,
) -> Rates | None:
    """The rates in `pricing_table` and ASM_STORE_PRICING, which go before any other price."""
    for table in (parse_pricing_table(pricing_table), conf.pricing()):
        for source in _sources(provider, model):
            if (rates := table.find(*source)) is not None:
                return rates
    return None


def _sources(provider: str | None, model: str | None) -> Iterator[tuple[str | None, str | None]]:
    """Where a price may be: frameworks call a model of somebody else's `openai:gpt-5`."""
    yield provider, model
    if model is not None and ":" in model:
        maker, _, name = model.partition(":")
        yield maker, name


def parse_pricing_table(value: Mapping[str, Any] | PricingTable | None) -> PricingTable:
    """`value` checked, once for many calls; None is an empty table."""
    if isinstance(value, PricingTable):
        return value
    return PricingTable.parse({} if value is None else value, "pricing_table")


@dataclass(frozen=True, slots=True)
class Period:
    """The rates of a time, by how many tokens go in: each from a number of them on, upwards."""

    constraint: Any  # the library's own; None is always
    fee: Fraction  # of a request; a run counts as one
    steps: tuple[tuple[int, Rates], ...]

    def is_active(self, at: datetime) -> bool:
        return self.constraint is None or self.constraint.active(at)

    def cost(self, counts: TokenCounts) -> Fraction:
        """The highest step that the input exceeds has the rates of all tokens."""
        all_input = counts.all_input
        rates = next(rates for start, rates in reversed(self.steps) if all_input > start)
        return rates.exact(counts) + self.fee


@dataclass(frozen=True, slots=True)
class VaryingPrice:
    """A price with tiers, dates, or a fee for each request beside the tokens."""

    periods: tuple[Period, ...]

    def cost(self, counts: TokenCounts, at: datetime | None = None) -> float | None:
        """USD for one run at the time `at`, None is now; None when the counts have no price."""
        period = self._period_of(at or datetime.now(UTC))
        return None if counts.is_unsplit else as_usd(period.cost(counts))

    def _period_of(self, at: datetime) -> Period:
        """The last that is active, as the library has it; else the first."""
        active = (period for period in reversed(self.periods) if period.is_active(at))
        return next(active, self.periods[0])


# The library: https://github.com/pydantic/genai-prices. Only its data and its matching of names
# are used: pricing a run by its own calculation takes twenty times as long.


@cache
def _library() -> Any:
    """The library's module with the prices of the moment; None when it is not installed.

    Imported when a run is first priced: it takes a quarter of a second.
    """
    try:
        from genai_prices import data_snapshot
    except ImportError:
        return None
    return data_snapshot


def _library_price(provider: str | None, model: str | None) -> Rates | VaryingPrice | None:
    if not provider or not model or (library := _library()) is None:
        return None
    name = _LIBRARY_NAMES.get(provider.lower(), provider)
    try:
        _, found = library.get_snapshot().find_provider_model(model, None, name, None)
    except LookupError:
        return None
    return _price_of(found)


def _price_of(model: Any) -> Rates | VaryingPrice | None:
    """The price of the library's `model`; None when it is not one of tokens."""
    if isinstance(model.prices, list):
        entries = [(entry.constraint, entry.prices) for entry in model.prices]
    else:
        entries = [(None, model.prices)]
    if not entries or not all(_is_of_tokens(prices) for _, prices in entries):
        return None
    periods = tuple(
        Period(constraint, Fraction(prices.requests_kcount or 0) / 1000, _steps(prices))
        for constraint, prices in entries
    )
    [first, *others] = periods
    is_linear = not others and not first.fee and len(first.steps) == 1
    return first.steps[0][1] if is_linear else VaryingPrice(periods)


def _is_of_tokens(prices: Any) -> bool:
    """Not of seconds or pages. Without any price at all a model is free."""
    return prices.input_mtok is not None or all(value is None for value in vars(prices).values())


def _steps(prices: Any) -> tuple[tuple[int, Rates], ...]:
    kinds = [getattr(prices, f"{name}_mtok") for name in _LIBRARY_RATES]
    starts = {tier.start for kind in kinds for tier in getattr(kind, "tiers", ())}
    return tuple((start, _rates(kinds, start)) for start in sorted({-1, *starts}))


def _rates(kinds: list[Any], start: int) -> Rates:
    """The rates of a run with more input than `start`; cached tokens may have none of their own."""
    rates = [None if kind is None else _per_token(kind, start) for kind in kinds]
    uncached = rates[0] or Fraction()
    fallbacks = (Fraction(), Fraction(), uncached, uncached)
    return Rates(*(b if a is None else a for a, b in zip(rates, fallbacks, strict=True)))


def _per_token(kind: Any, start: int) -> Fraction:
    exceeded = [tier.price for tier in getattr(kind, "tiers", ()) if tier.start <= start]
    per_million = exceeded[-1] if exceeded else getattr(kind, "base", kind)
    return Fraction(per_million) / 1_000_000
