"""The cost of a run in a database: what other writers have stored, and that it takes no query."""

from __future__ import annotations

from django.db import connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Run
from asm_store.test.factories import make_run, make_session
from tests.threads import run_threads

PRICES = {"mine": {"default": {"input": 1e-6, "output": 2e-6}}}


def stored_run(store: DatabaseSessionStore) -> Run:
    """A running one, which costs a dollar when it ends."""
    session = store.save_session(make_session())
    usage = {"input_tokens": 1_000_000}
    run = make_run(session, status="running", provider="mine", token_usage=usage)
    return store.save_run(run)


@override_settings(ASM_STORE_PRICING=PRICES)
def test_a_cost_that_a_blocks_snapshot_does_not_hold_is_kept(server: str) -> None:
    store = DatabaseSessionStore(server)
    run = stored_run(store)

    def store_cost() -> None:
        store.save_run(run.copied().update_status("failed"))
        Run.objects.using(server).update(cost_usd=0.25)

    with transaction.atomic(using=server):
        # Under REPEATABLE READ all plain reads of the block are of this moment.
        assert store.get_run(run.pk).cost_usd is None
        run_threads([store_cost])
        saved = store.save_run(run.update_status("completed"))

    assert saved.cost_usd == store.get_run(run.pk).cost_usd == 0.25


@override_settings(ASM_STORE_PRICING=PRICES)
def test_a_cost_takes_no_query(using: str) -> None:
    store = DatabaseSessionStore(using)
    run = stored_run(store)
    counts = set()
    for status in ("running", "completed", "completed"):
        with CaptureQueriesContext(connections[using]) as queries:
            run = store.save_run(run.update_status(status))
        counts.add(len(queries))

    assert run.cost_usd == 1
    assert len(counts) == 1
