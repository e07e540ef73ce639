"""Runs: saving, reading, listing, the active one."""

from __future__ import annotations

from typing import Any

from ...exceptions import (
    InvalidStatus,
    RunNotFound,
    SessionDeleted,
    SessionNotFound,
    ValidationError,
)
from ...models import Run
from ..factories import make_event, make_run, make_session
from .base import ContractCase, ids, state
from .values import BAD_COUNTS, BAD_STATUSES, HUGE, NOON, SECOND


class Runs(ContractCase):
    def full_run(self, session_id: str, **columns: Any) -> Run:
        return make_run(
            session_id,
            **{
                "id": "run-full",
                "status": "completed",
                "input": {"messages": [{"role": "user", "content": "Hi"}]},
                "output": {"content": "Hello"},
                "error": {"message": "none"},
                "metadata": {"a": 1},
                "turn_count": 3,
                "token_usage": {"input_tokens": 10, "output_tokens": 20},
                "started_at": NOON,
                "ended_at": NOON + SECOND,
                "provider": "anthropic",
                "provider_metadata": {"model": "some-model"},
                "cost_usd": 0.125,
                **columns,
            },
        )

    def test_a_saved_run_comes_back_with_every_column(self) -> None:
        run = self.full_run(self.add_session().pk)
        self.store.save_run(run)
        self.assert_same(self.store.get_run("run-full"), run)

    def test_a_run_with_defaults_is_complete(self) -> None:
        run = self.store.get_run(self.add_run(self.add_session()).pk)
        self.assertEqual((run.status, run.turn_count, run.metadata), ("pending", 0, {}))
        self.assertEqual((run.input, run.output, run.error), (None, None, None))
        self.assertEqual((run.token_usage, run.provider_metadata), ({}, {}))
        self.assertEqual((run.ended_at, run.provider, run.cost_usd), (None, None, None))

    def test_save_run_returns_the_stored_record(self) -> None:
        saved = self.add_run(self.add_session(), token_usage={"n": -0.0}, cost_usd=1)
        self.assert_same(saved, self.store.get_run(saved.pk))

    def test_save_run_leaves_the_callers_object_alone(self) -> None:
        run = make_run(self.add_session(), metadata={"text": "a\x00b", "pair": (1, 2)})
        before = dict(run.__dict__)
        self.assertIsNot(self.store.save_run(run), run)
        self.assertEqual(run.__dict__, before)
        self.assertEqual(run.metadata, {"text": "a\x00b", "pair": (1, 2)})

    def test_changing_saved_or_returned_runs_changes_nothing_stored(self) -> None:
        session = self.add_session()
        run = make_run(session, input={"list": [1]}, status="running")
        saved = self.store.save_run(run)
        active = self.store.get_active_run(session.pk)
        assert active is not None
        listed = self.store.list_runs(session.pk)
        for record in (run, saved, self.store.get_run(run.pk), active, *listed):
            record.input["list"].append(2)
            record.turn_count = 9
        stored = self.store.get_run(run.pk)
        self.assertEqual((stored.input, stored.turn_count), ({"list": [1]}, 0))

    def test_saving_a_run_again_replaces_every_column(self) -> None:
        session = self.add_session()
        self.store.save_run(self.full_run(session.pk))
        second = make_run(session, id="run-full", started_at=NOON - SECOND, cost_usd=0.5)
        self.store.save_run(second)
        self.assert_same(self.store.get_run("run-full"), second)
        self.assertEqual(ids(self.store.list_runs(session.pk)), ["run-full"])

    def test_input_output_and_error_take_any_json(self) -> None:
        session = self.add_session()
        for value in ("text", ["a", {"b": None}], 7, True, 1.5):
            with self.subTest(value=value):
                run = self.add_run(session, input=value, output=value, error=value)
                self.assert_same(self.store.get_run(run.pk), run)
                self.assertEqual(run.input, value)

    def test_a_run_of_an_unknown_session_is_not_stored(self) -> None:
        run = make_run("ses-missing")
        with self.assertRaises(SessionNotFound):
            self.store.save_run(run)
        with self.assertRaises(RunNotFound):
            self.store.get_run(run.pk)
        self.assertEqual(self.count_orphans(), 0)

    def test_a_new_run_on_a_soft_deleted_session_is_refused(self) -> None:
        session = self.add_session(deleted_at=NOON)
        run = make_run(session)
        with self.assertRaises(SessionDeleted):
            self.store.save_run(run)
        with self.assertRaises(RunNotFound):
            self.store.get_run(run.pk)

    def test_a_stored_run_can_end_on_a_soft_deleted_session(self) -> None:
        session = self.add_session()
        run = self.add_run(session, status="running", cost_usd=0.5)
        self.store.soft_delete_session(session.pk)
        run.update_status("cancelled")
        self.assert_same(self.store.save_run(run), run)
        self.assertEqual(self.store.get_run(run.pk).status, "cancelled")

    def test_a_run_stays_in_its_session(self) -> None:
        session, other = self.add_session(), self.add_session()
        run = self.add_run(session)
        moved = make_run(other, id=run.pk)
        with self.no_trace(session, other), self.assertRaises(ValidationError):
            self.store.save_run(moved)
        self.assert_same(self.store.get_run(run.pk), run)

    def test_an_unknown_run_is_not_found(self) -> None:
        with self.assertRaises(RunNotFound):
            self.store.get_run("run-missing")

    # Listing

    def test_runs_are_listed_oldest_first(self) -> None:
        session = self.add_session()
        for name, age in (("b", 2), ("c", 0), ("a", 1)):
            self.add_run(session, id=name, started_at=NOON - age * SECOND)
        self.add_run(self.add_session())
        self.assertEqual(ids(self.store.list_runs(session.pk)), ["b", "a", "c"])

    def test_runs_are_filtered_by_one_status_or_many(self) -> None:
        session = self.add_session()
        for status in Run.Status.values:
            self.add_run(session, id=status, status=status)
        for wanted in (["running"], ["running", "timeout"], ["failed", "failed"], []):
            with self.subTest(status=wanted):
                found = self.store.list_runs(session.pk, status=wanted)
                self.assertEqual(set(ids(found)), set(wanted))
        self.assertEqual(ids(self.store.list_runs(session.pk, status="failed")), ["failed"])

    def test_the_limit_cuts_the_list(self) -> None:
        session = self.add_session()
        for number in range(3):
            self.add_run(session, id=f"r{number}", started_at=NOON + number * SECOND)
        for limit in (None, 0, 1, 3, 4, HUGE):
            with self.subTest(limit=limit):
                found = self.store.list_runs(session.pk, limit=limit)
                self.assertEqual(ids(found), ["r0", "r1", "r2"][:limit])

    def test_limits_that_are_no_counts_are_refused(self) -> None:
        for value in BAD_COUNTS:
            with self.subTest(limit=value), self.refused(ValidationError):
                self.store.list_runs("ses-any", limit=value)

    def test_unknown_statuses_in_filters_of_runs_are_refused(self) -> None:
        for value in (*BAD_STATUSES, "paused"):
            with self.subTest(status=value), self.refused(InvalidStatus):
                self.store.list_runs("ses-any", status=value)
            with self.subTest(status=[value]), self.refused(InvalidStatus):
                self.store.list_runs("ses-any", status=[value])

    def test_an_unknown_session_has_no_runs(self) -> None:
        self.assertEqual(self.store.list_runs("ses-missing"), [])
        self.assertIsNone(self.store.get_active_run("ses-missing"))

    def test_the_active_run_is_the_latest_started_that_runs(self) -> None:
        session = self.add_session()
        self.assertIsNone(self.store.get_active_run(session.pk))
        for status in Run.Status.values:
            if status != "running":
                self.add_run(session, status=status, started_at=NOON + 9 * SECOND)
        self.assertIsNone(self.store.get_active_run(session.pk))
        for name, age in (("b", 1), ("c", 0), ("a", 2)):
            self.add_run(session, id=name, status="running", started_at=NOON - age * SECOND)
        self.add_run(self.add_session(), status="running", started_at=NOON + SECOND)
        active = self.store.get_active_run(session.pk)
        assert active is not None
        self.assert_same(active, self.store.get_run("c"))

    # Bad records

    def test_runs_of_unknown_status_are_not_stored(self) -> None:
        run = self.add_run(self.add_session())
        for value in (*BAD_STATUSES, "paused", None):
            with self.subTest(status=value), self.refused(InvalidStatus):
                self.store.save_run(make_run(run.session_id, id=run.pk, status=value))
        self.assertEqual(state(self.store.get_run(run.pk)), state(run))

    def test_columns_of_the_wrong_type_are_refused(self) -> None:
        session = self.add_session()
        bad: dict[str, tuple[Any, ...]] = {
            "turn_count": ("x", "3", None, True, 1.5, -1, 2**63, HUGE),
            "cost_usd": ("x", "1.5", True, [], float("nan"), float("inf"), 10**400),
            "input": ({1}, b"x", float("nan"), {"a": object()}),
            "output": ({1}, b"x", float("inf"), [object()]),
            "error": ({1}, b"x", float("nan"), [{2: 3}]),
        }
        for column, values in bad.items():
            for value in values:
                with self.subTest(column=column, value=value), self.refused(ValidationError):
                    self.store.save_run(make_run(session, **{column: value}))
        self.assertEqual(self.store.list_runs(session.pk), [])

    def test_only_runs_are_saved_as_runs(self) -> None:
        session = make_session()
        run = make_run(session)
        for value in (None, {}, run.pk, run.to_dict(), Run, session, make_event(session), [run]):
            with self.subTest(value=type(value).__name__), self.refused(ValidationError):
                self.store.save_run(value)  # type: ignore[arg-type]
