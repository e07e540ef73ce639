"""What a token costs: counts, linear rates, and the tables in which a project writes rates down."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from operator import mul
from typing import Any, NamedTuple, Self, TypeGuard

from .exceptions import ValidationError

REQUIRED_RATES = ("input", "output")
CACHE_RATES = ("cache_read", "cache_creation")
COUNTS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens", "total_tokens",
)  # fmt: skip


class TokenCounts(NamedTuple):
    """The counts of a run, or of the sum of many. `input` has no cached tokens in it."""

    input: int | Fraction = 0
    output: int | Fraction = 0
    cache_read: int | Fraction = 0
    cache_creation: int | Fraction = 0
    total: int | Fraction = 0

    @classmethod
    def of(cls, token_usage: Mapping[str, Any]) -> Self:
        """The counts in a run's `token_usage`; what is no finite number >= 0 counts as 0."""
        return cls(*(_count(token_usage.get(name)) for name in COUNTS))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was used: that costs nothing, whatever the model."""
        return not any(self)

    @property
    def is_unsplit(self) -> bool:
        """Whether only the total is known, which has no price."""
        return self.total > 0 and not any(self[:4])

    @property
    def all_input(self) -> int | Fraction:
        """The input with what went to and came from the cache."""
        return self.input + self.cache_read + self.cache_creation


@dataclass(frozen=True)
class Rates:
    """USD per token. They are linear: the cost of a sum of counts is the sum of their costs."""

    input: Fraction
    output: Fraction
    cache_read: Fraction
    cache_creation: Fraction

    def cost(self, counts: TokenCounts, at: datetime | None = None) -> float | None:
        """USD, at any time the same; None when the counts have no price."""
        return None if counts.is_unsplit else as_usd(self.exact(counts))

    def exact(self, counts: TokenCounts) -> Fraction:
        """The same, not rounded."""
        rates, denominator = self._whole_numbers
        return Fraction(sum(map(mul, counts, rates)), denominator)

    @cached_property
    def _whole_numbers(self) -> tuple[list[int], int]:
        """The rates over one denominator: to price with fractions takes five times as long."""
        rates = (self.input, self.output, self.cache_read, self.cache_creation)
        denominator = math.lcm(*(rate.denominator for rate in rates))
        return [int(rate * denominator) for rate in rates], denominator


@dataclass(frozen=True, slots=True)
class ProviderRates:
    """The rates of a provider's models by name, and those of all its others."""

    models: Mapping[str, Rates]
    default: Rates | None = None

    @classmethod
    def parse(cls, value: object, name: str) -> Self:
        entries = _mapping(value, name, {"default", "models"})
        models = _mapping(entries.get("models", {}), f"{name}['models']")
        default = entries.get("default")
        return cls(
            {
                model: _rates(rates, f"{name}['models'][{model!a}]")
                for model, rates in models.items()
            },
            None if default is None else _rates(default, f"{name}['default']"),
        )

    def find(self, model: str | None) -> Rates | None:
        """Of the model; else of the longest name that it begins with; else the default."""
        names = [name for name in self.models if model is not None and model.startswith(name)]
        return self.models[max(names, key=len)] if names else self.default


@dataclass(frozen=True, slots=True)
class PricingTable:
    """`{provider: {"default": rates, "models": {name: rates}}}`, checked."""

    providers: Mapping[str, ProviderRates] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: object, name: str) -> Self:
        """The table in `value`, a mapping; `ValidationError`, which begins with `name`, if none."""
        entries = _mapping(value, name).items()
        return cls({key: ProviderRates.parse(entry, f"{name}[{key!a}]") for key, entry in entries})

    def find(self, provider: str | None, model: str | None) -> Rates | None:
        rates = None if provider is None else self.providers.get(provider)
        return None if rates is None else rates.find(model)


def as_usd(cost: Fraction) -> float | None:
    """`cost` as a column holds it; None when no float is so large."""
    try:
        return float(cost)
    except OverflowError:
        return None


def _count(value: object) -> int | Fraction:
    if not _is_amount(value):
        return 0
    return int(value) if isinstance(value, int) else Fraction(value)


def _is_amount(value: object) -> TypeGuard[int | float | Decimal]:
    """Whether it is a finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return False
    if isinstance(value, Decimal):
        return value.is_finite() and value >= 0
    return 0 <= value < math.inf


def _rates(value: object, name: str) -> Rates:
    entries = _mapping(value, name, {*REQUIRED_RATES, *CACHE_RATES})
    if missing := [kind for kind in REQUIRED_RATES if kind not in entries]:
        raise ValidationError(f"{name} has no {missing[0]!r}.")
    amounts = {kind: _price(amount, f"{name}[{kind!r}]") for kind, amount in entries.items()}
    return Rates(**dict.fromkeys(CACHE_RATES, amounts["input"]) | amounts)


def _price(value: object, name: str) -> Fraction:
    if not _is_amount(value):
        raise ValidationError(f"{name} must be a finite number >= 0, in USD per token.")
    # As it is written: 3e-06 is three millionths, though the float is a little less.
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _mapping(value: object, name: str, known: Collection[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValidationError(f"{name} must be a mapping.")
    for key in value:
        if not isinstance(key, str) or not key:
            raise ValidationError(f"{name}: its keys must be names.")
        if known is not None and key not in known:
            raise ValidationError(f"{name} has an unknown {key!a}; known are {sorted(known)}.")
    return value
