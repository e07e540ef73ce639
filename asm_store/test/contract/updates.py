"""update_session: what others have written meanwhile stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.test import override_settings
from django.utils import timezone

from ...exceptions import InvalidStatus, ValidationError
from .base import ContractCase
from .values import BAD_STATUSES, NOON, NOT_JSON


class Updates(ContractCase):
    def test_only_what_is_given_changes(self) -> None:
        session = self.add_session(
            status="active", tags=["a"], metadata={"b": 1}, context={"c": 2}, updated_at=NOON
        )
        updated = self.store.update_session(session.pk, status="paused")
        session.status, session.updated_at = "paused", updated.updated_at
        self.assert_same(updated, session)
        self.assert_same(self.store.get_session(session.pk), session)

    def test_updated_at_becomes_now(self) -> None:
        future = timezone.now() + timedelta(days=1)
        for given in (NOON, future):
            session = self.add_session(updated_at=given)
            before = timezone.now()
            updated = self.store.update_session(session.pk, metadata={"a": 1})
            self.assertTrue(before <= updated.updated_at <= timezone.now())

    def test_tags_are_added_once_and_removed(self) -> None:
        session = self.add_session(tags=["a", "b"])
        updated = self.store.update_session(session.pk, add_tags=["c", "a", "c"])
        self.assertEqual(updated.tags, ["a", "b", "c"])
        updated = self.store.update_session(session.pk, remove_tags=("b", "never"))
        self.assertEqual(updated.tags, ["a", "c"])
        self.assertEqual(self.store.get_session(session.pk).tags, ["a", "c"])

    def test_a_tag_that_is_added_and_removed_is_gone(self) -> None:
        session = self.add_session()
        updated = self.store.update_session(session.pk, add_tags=["a", "b"], remove_tags=["a"])
        self.assertEqual(updated.tags, ["b"])

    def test_tags_compare_exactly(self) -> None:
        session = self.add_session(tags=["a", "É"])
        updated = self.store.update_session(session.pk, add_tags=["A"], remove_tags=["é", "a "])
        self.assertEqual(updated.tags, ["a", "É", "A"])

    def test_metadata_is_merged_by_its_keys(self) -> None:
        session = self.add_session(metadata={"a": 1, "b": {"x": 1}})
        self.store.update_session(session.pk, metadata={"b": {"y": 2}, "c": None})
        self.assertEqual(
            self.store.get_session(session.pk).metadata, {"a": 1, "b": {"y": 2}, "c": None}
        )

    def test_an_update_is_made_of_what_is_stored_now(self) -> None:
        stale = self.add_session(metadata={"a": 1})
        self.store.update_session(stale.pk, status="active", add_tags=["t"], metadata={"b": 2})
        updated = self.store.update_session(stale.pk, add_tags=["u"], metadata={"c": 3})
        self.assertEqual((updated.status, updated.tags), ("active", ["t", "u"]))
        self.assertEqual(updated.metadata, {"a": 1, "b": 2, "c": 3})

    def test_what_is_merged_is_cleaned_and_counted(self) -> None:
        session = self.add_session()
        updated = self.store.update_session(
            session.pk, add_tags=["a\x00"], metadata={"k\x00": "\ud800", "n": 1e16}
        )
        self.assertEqual(updated.tags, ["a\u2400"])
        self.assertEqual(
            updated.metadata,
            {"k\u2400": "\ufffd", "n": 10**16, "_sanitized": {"nul": 2, "surrogate": 1}},
        )
        self.assert_same(self.store.get_session(session.pk), updated)

    def test_bad_values_are_refused_and_nothing_changes(self) -> None:
        session = self.add_session(tags=["a"], metadata={"b": 1})
        bad: list[dict[str, Any]] = [
            {"add_tags": "abc"},
            {"remove_tags": "abc"},
            {"add_tags": [1]},
            {"add_tags": None},
            {"add_tags": 5},
            {"remove_tags": [None]},
            {"metadata": []},
            {"metadata": "text"},
            {"metadata": {1: 2}},
            {"metadata": {"a\x00": 1, "a\u2400": 2}},
            *({"metadata": {"deep": [value]}} for value in NOT_JSON),
        ]
        with self.no_trace(session):
            for arguments in bad:
                with self.subTest(**arguments), self.refused(ValidationError):
                    self.store.update_session(session.pk, **arguments)
            for status in (*BAD_STATUSES, "running"):
                with self.subTest(status=status), self.refused(InvalidStatus):
                    self.store.update_session(session.pk, status=status, add_tags=["new"])

    def test_the_merged_record_keeps_the_size_limit(self) -> None:
        session = self.add_session(metadata={"a": "x" * 300})
        with (
            override_settings(ASM_STORE_MAX_EVENT_BYTES=500),
            self.no_trace(session),
            self.assertRaises(ValidationError),
        ):
            self.store.update_session(session.pk, metadata={"b": "x" * 300})

    def test_an_update_keeps_runs_events_and_numbers(self) -> None:
        session = self.add_session()
        event = self.append(session)
        self.store.update_session(session.pk, status="completed")
        self.assert_same(self.store.get_events(session.pk)[0], event)
        self.assertEqual(self.append(session).sequence_number, 2)
