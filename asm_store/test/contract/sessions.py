"""Sessions: saving, reading, listing, soft and hard deletion."""

from __future__ import annotations

from datetime import timedelta, timezone

from django.utils import timezone as django_timezone

from ...exceptions import (
    InvalidStatus,
    RunNotFound,
    SessionDeleted,
    SessionNotFound,
    ValidationError,
)
from ...models import Artifact, Session
from ..factories import make_event, make_run, make_session
from .base import ContractCase, ids, state
from .values import BAD_COUNTS, BAD_STATUSES, HUGE, NOON, SECOND


class Sessions(ContractCase):
    def test_a_saved_session_comes_back_with_every_column(self) -> None:
        parent = self.add_session()
        session = make_session(
            id="ses-full",
            agent_id="assistant",
            status="active",
            parent_session_id=parent.pk,
            metadata={"owner": {"name": "Ada"}},
            context={"system": "Be brief."},
            tags=["b", "a"],
            created_at=NOON,
            updated_at=NOON + SECOND,
            deleted_at=NOON + 2 * SECOND,
        )
        self.store.save_session(session)
        self.assert_same(self.store.get_session("ses-full"), session)

    def test_a_session_with_defaults_is_complete(self) -> None:
        before = django_timezone.now()
        stored = self.store.get_session(self.add_session().pk)
        self.assertEqual(
            (stored.status, stored.parent_session_id, stored.deleted_at), ("pending", None, None)
        )
        self.assertEqual((stored.metadata, stored.context, stored.tags), ({}, {}, []))
        self.assertTrue(before <= stored.created_at <= django_timezone.now())
        self.assertIsNotNone(stored.updated_at.utcoffset())

    def test_save_session_returns_the_stored_record(self) -> None:
        saved = self.add_session(tags=("a", "b"), metadata={"n": 1e16})
        self.assert_same(saved, self.store.get_session(saved.pk))

    def test_save_session_leaves_the_callers_object_alone(self) -> None:
        session = make_session(tags=("a",), metadata={"text": "a\x00b", "pair": (1, 2)})
        before = dict(session.__dict__)
        saved = self.store.save_session(session)
        self.assertIsNot(saved, session)
        self.assertEqual(session.__dict__, before)
        self.assertEqual(session.metadata, {"text": "a\x00b", "pair": (1, 2)})

    def test_changing_saved_or_returned_sessions_changes_nothing_stored(self) -> None:
        session = make_session(metadata={"list": [1]}, tags=["a"])
        saved = self.store.save_session(session)
        for record in (session, saved, self.store.get_session(session.pk)):
            record.metadata["list"].append(2)
            record.tags.append("b")
            record.agent_id = "other"
        for record in self.store.list_sessions():
            record.context["changed"] = True
        stored = self.store.get_session(session.pk)
        self.assertEqual((stored.metadata, stored.tags), ({"list": [1]}, ["a"]))
        self.assertEqual((stored.agent_id, stored.context), ("assistant", {}))

    def test_saving_again_replaces_every_column(self) -> None:
        parent = self.add_session()
        first = self.add_session(metadata={"a": 1}, context={"b": 2}, tags=["c"], created_at=NOON)
        second = make_session(
            id=first.pk,
            agent_id="other",
            status="failed",
            parent_session_id=parent.pk,
            created_at=NOON - SECOND,
            updated_at=NOON - SECOND,
        )
        self.store.save_session(second)
        self.assert_same(self.store.get_session(first.pk), second)
        self.assertEqual(len(self.store.list_sessions()), 2)

    def test_updated_at_is_stored_as_given(self) -> None:
        session = self.add_session(updated_at=NOON)
        session.status = "active"
        self.assertEqual(self.store.save_session(session).updated_at, NOON)
        self.assertEqual(self.store.get_session(session.pk).updated_at, NOON)

    def test_times_keep_their_instant_and_come_back_aware(self) -> None:
        elsewhere = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
        saved = self.add_session(created_at=elsewhere)
        for record in (saved, self.store.get_session(saved.pk)):
            self.assertEqual(record.created_at, NOON)
            self.assertEqual(record.created_at.utcoffset(), timedelta(0))

    def test_saving_again_keeps_runs_events_and_numbers(self) -> None:
        session = self.add_session()
        run = self.add_run(session)
        event = self.append(session, run_id=run.pk)
        self.store.save_session(session)
        self.assert_same(self.store.get_events(session.pk)[0], event)
        self.assert_same(self.store.get_run(run.pk), run)
        self.assertEqual(self.append(session).sequence_number, 2)

    def test_an_unknown_session_is_not_found(self) -> None:
        for call in (
            self.store.get_session,
            self.store.update_session,
            self.store.soft_delete_session,
            self.store.restore_session,
        ):
            with self.subTest(call=call.__name__), self.assertRaises(SessionNotFound):
                call("ses-missing")

    def test_an_unknown_parent_is_not_found_and_nothing_is_stored(self) -> None:
        orphan = make_session(parent_session_id="ses-missing")
        with self.assertRaises(SessionNotFound):
            self.store.save_session(orphan)
        with self.assertRaises(SessionNotFound):
            self.store.get_session(orphan.pk)
        self.assertEqual(self.store.list_sessions(include_deleted=True), [])

    def test_a_stored_session_cannot_move_under_an_unknown_parent(self) -> None:
        session = self.add_session()
        changed = make_session(id=session.pk, agent_id="new", parent_session_id="ses-missing")
        with self.no_trace(session), self.assertRaises(SessionNotFound):
            self.store.save_session(changed)

    # Soft deletion

    def test_soft_delete_sets_deleted_at_and_reads_go_on(self) -> None:
        session = self.add_session()
        event = self.append(session)
        before = django_timezone.now()
        deleted = self.store.soft_delete_session(session.pk)
        assert deleted.deleted_at is not None
        self.assertTrue(before <= deleted.deleted_at <= django_timezone.now())
        self.assert_same(self.store.get_session(session.pk), deleted)
        self.assert_same(self.store.get_events(session.pk)[0], event)
        self.assertEqual(self.store.get_latest_sequence(session.pk), 1)

    def test_soft_delete_keeps_the_first_time(self) -> None:
        session = self.add_session()
        first = self.store.soft_delete_session(session.pk)
        second = self.store.soft_delete_session(session.pk)
        self.assertEqual(second.deleted_at, first.deleted_at)

    def test_a_stale_save_does_not_undelete(self) -> None:
        stale = self.add_session()
        deleted = self.store.soft_delete_session(stale.pk)
        stale.status = "active"
        saved = self.store.save_session(stale)
        self.assertEqual((saved.status, saved.deleted_at), ("active", deleted.deleted_at))
        self.assert_same(self.store.get_session(stale.pk), saved)

    def test_a_save_can_soft_delete(self) -> None:
        session = self.add_session()
        session.deleted_at = NOON
        self.assertEqual(self.store.save_session(session).deleted_at, NOON)
        with self.assertRaises(SessionDeleted):
            self.append(session)

    def test_restore_clears_deleted_at_and_appends_go_on(self) -> None:
        session = self.add_session(updated_at=NOON)
        self.append(session)
        self.store.soft_delete_session(session.pk)
        before = django_timezone.now()
        restored = self.store.restore_session(session.pk)
        self.assertIsNone(restored.deleted_at)
        self.assertTrue(before <= restored.updated_at <= django_timezone.now())
        self.assert_same(self.store.get_session(session.pk), restored)
        self.assertEqual(self.append(session).sequence_number, 2)

    def test_restore_of_a_live_session_returns_it(self) -> None:
        self.assertIsNone(self.store.restore_session(self.add_session().pk).deleted_at)

    # Hard deletion

    def test_delete_session_removes_everything_of_it(self) -> None:
        session, other = self.add_session(), self.add_session()
        run, other_run = self.add_run(session), self.add_run(other)
        self.append(session, run_id=run.pk)
        kept = self.append(other, run_id=other_run.pk)
        returned = self.store.delete_session(session.pk)  # type: ignore[func-returns-value]
        self.assertIsNone(returned)
        with self.assertRaises(SessionNotFound):
            self.store.get_session(session.pk)
        with self.assertRaises(RunNotFound):
            self.store.get_run(run.pk)
        self.assertEqual(self.store.list_runs(session.pk), [])
        self.assertEqual(self.store.get_events(session.pk), [])
        self.assertEqual(self.store.get_latest_sequence(session.pk), 0)
        self.assertEqual(self.count_orphans(), 0)
        self.assert_same(self.store.get_events(other.pk)[0], kept)
        self.assert_same(self.store.get_run(other_run.pk), other_run)

    def test_delete_session_removes_its_artifact_rows(self) -> None:
        if self.database is None:
            self.skipTest("the store keeps no artifact rows")
        session = self.add_session()
        for key, owner in (("a", session.pk), ("b", None)):
            Artifact.objects.using(self.database).create(
                key=key,
                session_id=owner,
                byte_size=1,
                checksum_sha256="0" * 64,
                storage_backend="default",
                storage_ref=key,
            )
        self.store.delete_session(session.pk)
        left = Artifact.objects.using(self.database).values_list("key", flat=True)
        self.assertEqual(list(left), ["b"])

    def test_delete_session_frees_its_children(self) -> None:
        parent = self.add_session()
        child = self.add_session(parent_session_id=parent.pk, updated_at=NOON)
        deleted_child = self.add_session(parent_session_id=parent.pk, deleted_at=NOON)
        self.store.delete_session(parent.pk)
        for session in (child, deleted_child):
            self.assertIsNone(self.store.get_session(session.pk).parent_session_id)

    def test_deleting_an_absent_session_is_no_error(self) -> None:
        self.store.delete_session("ses-missing")
        self.assertEqual(self.store.list_sessions(include_deleted=True), [])

    def test_a_soft_deleted_session_can_be_deleted(self) -> None:
        session = self.add_session(deleted_at=NOON)
        self.store.delete_session(session.pk)
        with self.assertRaises(SessionNotFound):
            self.store.get_session(session.pk)

    def test_a_deleted_id_starts_again_from_one(self) -> None:
        session = self.add_session()
        event = self.append(session)
        self.store.delete_session(session.pk)
        self.store.save_session(session)
        stored = self.append(session, id=event.pk)
        self.assertEqual(stored.sequence_number, 1)
        self.assert_log(session, [stored])

    def test_a_stale_save_after_delete_makes_a_new_session(self) -> None:
        session = self.add_session()
        self.append(session)
        self.store.delete_session(session.pk)
        self.store.save_session(session)
        self.assertEqual(self.store.get_events(session.pk), [])
        self.assertEqual(self.store.get_latest_sequence(session.pk), 0)

    # Listing

    def test_sessions_are_listed_newest_first(self) -> None:
        for name, age in (("b", 2), ("c", 0), ("a", 1)):
            self.add_session(id=name, created_at=NOON - age * SECOND)
        self.assertEqual(ids(self.store.list_sessions()), ["c", "a", "b"])

    def test_listed_sessions_are_whole_records(self) -> None:
        session = self.add_session(metadata={"a": [1]}, tags=["t"])
        self.assert_same(self.store.list_sessions()[0], self.store.get_session(session.pk))

    def test_sessions_are_filtered_by_one_status_or_many(self) -> None:
        for status in Session.Status.values:
            self.add_session(id=status, status=status)
        for wanted in (["active"], ["active", "failed"], ["failed", "failed"], []):
            with self.subTest(status=wanted):
                self.assertEqual(set(ids(self.store.list_sessions(status=wanted))), set(wanted))
        self.assertEqual(ids(self.store.list_sessions(status="paused")), ["paused"])
        self.assertEqual(ids(self.store.list_sessions(status=("paused",))), ["paused"])
        member = Session.Status("completed")
        self.assertEqual(ids(self.store.list_sessions(status=member)), ["completed"])

    def test_sessions_are_filtered_by_agent(self) -> None:
        mine = self.add_session(agent_id="mine", status="active")
        self.add_session(agent_id="other", status="active")
        self.add_session(agent_id="mine", status="failed")
        self.assertEqual(len(self.store.list_sessions(agent_id="mine")), 2)
        found = self.store.list_sessions(agent_id="mine", status="active")
        self.assertEqual(ids(found), [mine.pk])
        self.assertEqual(self.store.list_sessions(agent_id="nobody"), [])

    def test_soft_deleted_sessions_are_listed_on_demand(self) -> None:
        live, deleted = self.add_session(), self.add_session(deleted_at=NOON)
        self.assertEqual(ids(self.store.list_sessions()), [live.pk])
        everything = self.store.list_sessions(include_deleted=True)
        self.assertEqual(set(ids(everything)), {live.pk, deleted.pk})

    def test_limit_and_offset_cut_the_list(self) -> None:
        for number in range(5):
            self.add_session(id=f"s{number}", created_at=NOON - number * SECOND)
        expected = [f"s{number}" for number in range(5)]
        for limit in (None, 0, 1, 3, 5, 6, HUGE):
            for offset in (None, 0, 1, 4, 5, HUGE):
                with self.subTest(limit=limit, offset=offset):
                    start = offset or 0
                    end = None if limit is None else start + limit
                    found = self.store.list_sessions(limit=limit, offset=offset)
                    self.assertEqual(ids(found), expected[start:end])

    def test_limits_and_offsets_that_are_no_counts_are_refused(self) -> None:
        for value in BAD_COUNTS:
            with self.subTest(limit=value), self.refused(ValidationError):
                self.store.list_sessions(limit=value)
            with self.subTest(offset=value), self.refused(ValidationError):
                self.store.list_sessions(offset=value)

    def test_unknown_statuses_in_filters_are_refused(self) -> None:
        for value in BAD_STATUSES:
            with self.subTest(status=value), self.refused(InvalidStatus):
                self.store.list_sessions(status=value)
            with self.subTest(status=[value]), self.refused(InvalidStatus):
                self.store.list_sessions(status=["active", value])
        with self.refused(InvalidStatus):
            self.store.list_sessions(status="running")  # a run's

    def test_unknown_statuses_are_not_stored(self) -> None:
        session = self.add_session()
        for value in (*BAD_STATUSES, "running", None, []):
            with self.subTest(status=value), self.refused(InvalidStatus):
                self.store.save_session(make_session(id=session.pk, status=value))
        self.assertEqual(state(self.store.get_session(session.pk)), state(session))

    def test_only_sessions_are_saved_as_sessions(self) -> None:
        session = make_session()
        for value in (
            None,
            {},
            session.pk,
            session.to_dict(),
            Session,
            make_run(session),
            make_event(session),
            [session],
            object(),
        ):
            with self.subTest(value=type(value).__name__), self.refused(ValidationError):
                self.store.save_session(value)  # type: ignore[arg-type]
