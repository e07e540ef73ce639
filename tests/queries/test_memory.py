"""What sums take in memory does not grow with the runs, be they added up or read page by page."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asm_store.models import Run
from asm_store.queries import costs, get_cost_summary, get_usage_summary
from asm_store.test import make_run

FEW, MANY = 300, 3_000


@pytest.fixture
def pages_of_100(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All runs are of one model, whose price is not linear."""
    types = pytest.importorskip("genai_prices.types", reason="genai-prices is missing")
    library = pytest.importorskip("genai_prices.data_snapshot")
    price = types.ModelPrice(input_mtok=1, output_mtok=1, requests_kcount=1)
    model = types.ModelInfo(id="m", match=types.ClauseEquals("m"), prices=price)
    provider = types.Provider("openai", "OpenAI", "https://api", models=[model])
    library.set_custom_snapshot(library.DataSnapshot([provider], from_auto_update=False))
    monkeypatch.setattr(costs, "PAGE", 100)
    yield
    library.set_custom_snapshot(None)


def add_runs(using: str, number: int) -> None:
    usage = {"input_tokens": 5}
    Run.objects.using(using).bulk_create(
        (
            make_run("s", provider="openai", provider_metadata={"model": "m"}, token_usage=usage)
            for _ in range(number)
        ),
        batch_size=1_000,
    )


def peak(call: Callable[..., Any], using: str) -> int:
    """Bytes of Python's objects, while it is called for the second time."""
    call(using=using)
    tracemalloc.start()
    call(using=using)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_runs(using: str, pages_of_100: None) -> None:
    calls = (get_usage_summary, get_cost_summary)
    add_runs(using, FEW)
    few = [peak(call, using) for call in calls]
    add_runs(using, MANY - FEW)
    assert get_cost_summary(using=using).total_cost_usd == pytest.approx(MANY * 0.001005)
    many = [peak(call, using) for call in calls]
    assert all(after < 1.5 * before for before, after in zip(few, many, strict=True)), (few, many)
