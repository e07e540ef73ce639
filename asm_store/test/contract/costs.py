"""Costs: a run is priced when it ends, once; what the caller says goes before."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from ... import signals
from ...models import Run, Session
from ..factories import make_event, make_run, make_session
from .base import ContractCase
from .signals import heard

PRICED: dict[str, Any] = {
    "provider": "contract",
    "provider_metadata": {"model": "contract-model-1"},
    "token_usage": {
        "input_tokens": 1_000,
        "output_tokens": 100,
        "cache_read_tokens": 10_000,
        "cache_creation_tokens": 2_000,
    },
}
RATES = {"input": 3e-6, "output": 15e-6, "cache_read": 0.3e-6, "cache_creation": 3.75e-6}
COST = 0.003 + 0.0015 + 0.003 + 0.0075


def priced_at(**rates: float) -> Any:
    """The setting by which PRICED costs COST, or other `rates`."""
    models = {"contract-model": {**RATES, **rates}}
    return override_settings(ASM_STORE_PRICING={"contract": {"models": models}})


class Costs(ContractCase):
    def ended(self, session: Session | None = None, **columns: Any) -> Run:
        """An unsaved run of a stored session, which has ended and can be priced."""
        session = session or self.add_session()
        return make_run(session, **{"status": "completed", **PRICED, **columns})

    def assert_cost(self, run: Run, expected: float | None) -> None:
        """The stored run costs so much."""
        cost = self.store.get_run(run.pk).cost_usd
        if expected is None or cost is None:
            self.assertEqual(cost, expected)
        else:
            self.assertAlmostEqual(cost, expected, delta=1e-12)

    def test_a_run_is_priced_when_it_ends(self) -> None:
        session = self.add_session()
        for status in Run.Status.values:
            with self.subTest(status=status), priced_at():
                saved = self.store.save_run(self.ended(session, status=status))
                has_ended = status in Run.TERMINAL_STATUSES
                self.assert_cost(saved, COST if has_ended else None)
                self.assert_same(saved, self.store.get_run(saved.pk))

    def test_a_stored_run_is_priced_when_it_ends(self) -> None:
        run = self.ended(status="running")
        with priced_at():
            self.store.save_run(run)
            self.assert_cost(run, None)
            saved = self.store.save_run(run.update_status("failed"))
        self.assert_cost(run, COST)
        self.assert_same(saved, self.store.get_run(run.pk))

    def test_the_callers_run_is_not_priced(self) -> None:
        run = self.ended()
        with priced_at():
            self.store.save_run(run)
        self.assertIsNone(run.cost_usd)

    def test_a_flushed_run_is_priced(self) -> None:
        session, stored = make_session(), self.add_session()
        with priced_at():
            for owner in (session, stored):
                run = self.ended(owner)
                self.store.flush(owner, run, [make_event(owner, run_id=run.pk)])
                self.assert_cost(run, COST)

    def test_a_flush_prices_by_the_merged_model(self) -> None:
        session = make_session()
        run = self.ended(session, provider_metadata={"model": "other"})
        with priced_at():
            self.store.flush(session, run, provider_metadata={"model": "contract-model"})
        self.assert_cost(run, COST)

    def test_the_price_is_told(self) -> None:
        run = self.ended()
        with priced_at(), heard(signals.run_saved) as calls:
            saved = self.store.save_run(run)
        [call] = calls
        self.assert_same(call["run"], saved)

    def test_a_stored_cost_is_never_repriced(self) -> None:
        run, session = self.ended(), self.add_session()
        flushed = self.ended(session)
        with priced_at():
            self.store.save_run(run)
            self.store.flush(session, flushed)
        with priced_at(input=1, output=1):
            for status in ("completed", "running", "failed"):
                run.status = flushed.status = status
                saved = self.store.save_run(run)
                self.store.flush(session, flushed)
                self.assert_cost(flushed, COST)
                self.assert_cost(run, COST)
                self.assert_same(saved, self.store.get_run(run.pk))

    def test_a_given_cost_replaces_price_and_stored_cost(self) -> None:
        run = self.ended(cost_usd=0.25)
        with priced_at():
            for cost in (0.25, 0.1 + 0.2, 0):
                run.cost_usd = cost
                self.assertEqual(self.store.save_run(run).cost_usd, cost)
                self.assertEqual(self.store.get_run(run.pk).cost_usd, cost)
            run.cost_usd = None
            self.assertEqual(self.store.save_run(run).cost_usd, 0)

    def test_a_given_cost_stays_until_the_end(self) -> None:
        run = self.ended(status="running", cost_usd=0.25)
        self.store.save_run(run)
        run.cost_usd = None
        with priced_at():
            self.store.save_run(run)
            self.assert_cost(run, 0.25)
            self.store.save_run(run.update_status("completed"))
        self.assert_cost(run, 0.25)

    def test_a_run_that_could_not_be_priced_is_when_it_can(self) -> None:
        run = self.ended()
        self.store.save_run(run)
        self.assert_cost(run, None)
        with priced_at():
            self.store.save_run(run)
        self.assert_cost(run, COST)

    def test_a_run_without_tokens_costs_nothing(self) -> None:
        for usage in ({}, {"input_tokens": 0, "total_tokens": 0}, {"input_tokens": "none"}):
            with self.subTest(usage=usage):
                run = self.ended(token_usage=usage)
                self.assertEqual(self.store.save_run(run).cost_usd, 0)

    def test_what_has_no_price_has_no_cost(self) -> None:
        columns: list[dict[str, Any]] = [
            {"provider": None},
            {"provider": "Contract"},
            {"provider_metadata": {}},
            {"provider_metadata": {"model": None}},
            {"provider_metadata": {"model": ["contract-model"]}},
            {"provider_metadata": {"model": "model"}},
            {"token_usage": {"total_tokens": 5}},
            {"token_usage": {"input_tokens": 10**400}},
        ]
        for changes in columns:
            with self.subTest(**changes), priced_at():
                self.assertIsNone(self.store.save_run(self.ended(**changes)).cost_usd)

    def test_a_bad_setting_is_told_before_anything_is_stored(self) -> None:
        session = self.add_session()
        with priced_at(input=-1), self.no_trace(session):
            run = self.ended(session)
            with self.assertRaisesRegex(ImproperlyConfigured, "^ASM_STORE_PRICING"):
                self.store.save_run(run)
            with self.assertRaises(ImproperlyConfigured):
                self.store.flush(session, run, [make_event(session)])
