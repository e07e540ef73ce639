"""Columns of sessions, runs and events that hold what they cannot hold."""

from __future__ import annotations

from ...exceptions import ValidationError
from .base import ContractCase
from .values import BAD_TIMES, HUGE, NOON

MAPPINGS = (
    ("session", "metadata"), ("session", "context"), ("run", "metadata"), ("run", "token_usage"),
    ("run", "provider_metadata"), ("event", "data"), ("event", "metadata"),
)  # fmt: skip
TEXTS = (
    ("session", "agent_id"), ("run", "provider"), ("event", "provider"),
    ("event", "correlation_id"),
)  # fmt: skip
TIMES = (
    ("session", "created_at"), ("session", "updated_at"), ("session", "deleted_at"),
    ("run", "started_at"), ("run", "ended_at"), ("event", "timestamp"),
)  # fmt: skip
NULLABLE = {"deleted_at", "ended_at", "provider", "correlation_id"}


class Columns(ContractCase):
    def test_mappings_are_mappings(self) -> None:
        self.add_owner()
        for kind, column in MAPPINGS:
            for value in (None, [], ["a"], "text", "", 5, True, {"a"}, b"{}", object(), dict):
                self.assert_not_kept(kind, **{column: value})
        self.assert_nothing_kept()

    def test_tags_are_a_list_of_strings(self) -> None:
        self.add_owner()
        for value in (None, "abc", "", {"a": 1}, {"a"}, [1], ["a", None], [["a"]], [b"a"], 5, True):
            self.assert_not_kept("session", tags=value)
        self.assert_nothing_kept()

    def test_times_have_a_zone(self) -> None:
        self.add_owner()
        for kind, column in TIMES:
            for value in BAD_TIMES:
                self.assert_not_kept(kind, **{column: value})
            if column not in NULLABLE:
                self.assert_not_kept(kind, **{column: None})
        self.assert_nothing_kept()

    def test_times_are_kept_to_the_microsecond_and_to_the_last_year(self) -> None:
        self.add_owner()
        latest = NOON.replace(year=9999, month=12, day=31, hour=23, minute=59, microsecond=999999)
        for kind, column in TIMES:
            for value in (latest, NOON.replace(microsecond=1), NOON.replace(year=1970)):
                with self.subTest(kind=kind, column=column, value=value):
                    record = self.reread(self.keep(kind, **{column: value}))
                    self.assertEqual(getattr(record, column), value)

    def test_texts_are_strings_of_at_most_255_characters(self) -> None:
        self.add_owner()
        for kind, column in TEXTS:
            for value in (5, True, b"text", ["a"], object(), "x" * 256, "\U0001f600" * 256):
                self.assert_not_kept(kind, **{column: value})
            if column not in NULLABLE:
                self.assert_not_kept(kind, **{column: None})
        self.assert_nothing_kept()

    def test_texts_of_255_characters_are_kept(self) -> None:
        self.add_owner()
        for kind, column in TEXTS:
            for value in ("x" * 255, "\U0001f600" * 255, " padded ", "É\u0301\u2028\x1f\x7f\ufffe"):
                with self.subTest(kind=kind, column=column, value=value):
                    saved = self.keep(kind, **{column: value})
                    self.assertEqual(getattr(saved, column), value)
                    self.assert_same(self.reread(saved), saved)

    def test_what_may_be_absent_is_kept_as_none(self) -> None:
        self.add_owner()
        for kind, column in (*TIMES, *TEXTS):
            if column in NULLABLE:
                record = self.reread(self.keep(kind, **{column: None}))
                self.assertIsNone(getattr(record, column))

    def test_schema_versions_are_positive_whole_numbers(self) -> None:
        self.add_owner()
        for value in (0, -1, None, True, 1.0, "1", float("nan"), 2**63, HUGE, [1]):
            self.assert_not_kept("event", schema_version=value)
        self.assert_nothing_kept()

    def test_a_filter_by_agent_is_a_string(self) -> None:
        for value in (5, True, b"assistant", ["assistant"], object()):
            with self.subTest(agent_id=value), self.refused(ValidationError):
                self.store.list_sessions(agent_id=value)  # type: ignore[arg-type]
