"""Each database and the in-memory store side by side, through every method, step by step."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from asm_store.backends.base import BaseSessionStore
from tests.proofs.machine.pair import Tally
from tests.proofs.machine.rules import StoreMachine
from tests.resilience.rounds import rounds

STEPS = 40  # of an example
EXAMPLES, LONG_EXAMPLES = 6, 250
METHODS = {name for name in dir(BaseSessionStore) if name[0] != "_"} - {
    "supports_processes",
    "supports_transactions",
}
TWINS = {name for name in METHODS if name[0] == "a" and name[1:] in METHODS}


def options(is_long: bool) -> settings:
    return settings(
        max_examples=rounds(is_long, EXAMPLES, LONG_EXAMPLES),
        stateful_step_count=STEPS,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )


def test_the_same_is_answered_and_stored(
    using: str, is_long: bool, tell: Callable[[str], None]
) -> None:
    tally: Tally = Counter()

    class OnAlias(StoreMachine):
        def __init__(self) -> None:
            super().__init__(using, tally)

    if not is_long:  # the same steps everywhere, but others on each alias
        seed(zlib.crc32(using.encode()))(OnAlias)
    run_state_machine_as_test(OnAlias, settings=options(is_long))
    methods, errors = ({pair[place] for pair in tally} - {None} for place in (0, 1))
    tell(f"{tally.total()} steps alike, {len(methods)} methods, {len(errors)} classes of errors")


def test_every_public_method_has_a_rule() -> None:
    rules = {rule.function.__name__ for rule in StoreMachine.setup_state().rules}
    assert METHODS - TWINS - rules == set()
