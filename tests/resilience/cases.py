"""Cases for a door of every database: those of a corpus, and others that hypothesis makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from django.conf import settings as django_settings
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis.strategies import SearchStrategy

from tests.cases import EMPTIED_APPS
from tests.databases import ALIASES
from tests.resilience.rounds import rounds

T = TypeVar("T")
# One of each vendor.
AVAILABLE = [alias for alias in ALIASES[::2] if alias in django_settings.DATABASES]
CASES, LONG_CASES = 40, 3_000

on_all = pytest.mark.django_db(transaction=True, databases=AVAILABLE, available_apps=EMPTIED_APPS)


def try_all(
    judge: Callable[[T], None], cases: SearchStrategy[T], corpus: list[T], is_long: bool
) -> None:
    """Those of the corpus in every run, and as many others as there is time for."""
    for case in corpus:
        judge = example(case)(judge)
    options = settings(
        max_examples=rounds(is_long, CASES, LONG_CASES),
        derandomize=not is_long,  # what is red, is red everywhere
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    options(given(cases)(judge))()
