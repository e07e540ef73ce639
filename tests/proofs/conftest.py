"""What every proof says in the end: how much it has tried, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import PROOF


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether `--long` was given: a proof then takes the time it needs."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Call it with what was proved, in figures: it stands under "proofs" after the run."""
    told: list[str] = []
    start = time.monotonic()
    yield told.append
    seconds = time.monotonic() - start
    findings = [f"{request.node.name}: {text} ({seconds:.1f} s)" for text in told]
    request.node.user_properties += [(PROOF, finding) for finding in findings]
