"""What a policy takes, and what it refuses."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from asm_store.exceptions import InvalidEventType, InvalidStatus, ValidationError
from asm_store.maintenance import PROTECTED_TYPES, RetentionPolicy

NUMBERS = (
    "max_session_age_days",
    "max_completed_session_age_days",
    "max_events_per_session",
    "max_total_events",
    "hard_delete_after_days",
    "max_run_age_hours",
)


def test_defaults() -> None:
    policy = RetentionPolicy()
    assert policy.max_session_age_days is None
    assert policy.max_completed_session_age_days == 90
    assert policy.max_events_per_session is None
    assert policy.max_total_events is None
    assert policy.hard_delete_after_days == 30
    assert policy.archive_before_prune is False
    assert policy.archive_storage is None
    assert policy.exempt_statuses == ("active", "paused")
    assert policy.exempt_tags == ("pinned",)
    assert policy.prune_event_types_first == ("message_streamed", "token_usage_updated")
    assert policy.max_run_age_hours is None


def test_it_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RetentionPolicy().batch_size = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [None, 1, 1_000])
def test_numbers_and_no_limit(name: str, value: Any) -> None:
    assert getattr(RetentionPolicy(**{name: value}), name) == value


@pytest.mark.parametrize("name", [*NUMBERS, "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "30", True, float("nan"), 2**70, []])
def test_refuses_what_is_no_number(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        RetentionPolicy(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("exempt_statuses", ["done"], InvalidStatus),
        ("exempt_statuses", "active", ValidationError),
        ("exempt_statuses", None, ValidationError),
        ("exempt_tags", [1], ValidationError),
        ("exempt_tags", "pinned", ValidationError),
        ("prune_event_types_first", ["nonsense"], InvalidEventType),
        ("prune_event_types_first", [None], InvalidEventType),
        ("archive_before_prune", 1, ValidationError),
        ("archive_before_prune", "yes", ValidationError),
        ("archive_storage", "", ValidationError),
        ("archive_storage", 5, ValidationError),
    ],
)
def test_refuses(name: str, value: Any, error: type[ValidationError]) -> None:
    with pytest.raises(error, match=name):
        RetentionPolicy(**{name: value})


@pytest.mark.parametrize("name", sorted(PROTECTED_TYPES))
def test_what_is_never_pruned_is_not_pruned_first(name: str) -> None:
    with pytest.raises(ValidationError, match="is never pruned"):
        RetentionPolicy(prune_event_types_first=[name])  # type: ignore[arg-type]


def test_an_archive_has_a_place() -> None:
    with pytest.raises(ValidationError, match="archive_storage"):
        RetentionPolicy(archive_before_prune=True)


def test_lists_become_tuples_without_doubles() -> None:
    policy = RetentionPolicy(exempt_tags=["a", "b", "a"])  # type: ignore[arg-type]
    assert policy.exempt_tags == ("a", "b")


def test_own_event_types_can_be_pruned_first() -> None:
    with override_settings(ASM_STORE_EXTRA_EVENT_TYPES=["mine"]):
        assert RetentionPolicy(prune_event_types_first=("mine",)).prune_event_types_first


class TestFromSettings:
    def test_without_the_setting_it_has_its_defaults(self) -> None:
        assert RetentionPolicy.from_settings() == RetentionPolicy()

    def test_changes_come_after_the_setting(self) -> None:
        with override_settings(ASM_STORE_RETENTION={"batch_size": 5, "max_total_events": 9}):
            assert RetentionPolicy.from_settings(batch_size=6) == RetentionPolicy(
                batch_size=6, max_total_events=9
            )

    @pytest.mark.parametrize("value", [{"max_age": 5}, {"batch_size": 0}, {"exempt_tags": "x"}])
    def test_refuses_a_bad_setting(self, value: Any) -> None:
        with (
            override_settings(ASM_STORE_RETENTION=value),
            pytest.raises(ImproperlyConfigured, match="ASM_STORE_RETENTION"),
        ):
            RetentionPolicy.from_settings()

    def test_bad_changes_are_the_callers(self) -> None:
        with pytest.raises(ValidationError, match="batch_size"):
            RetentionPolicy.from_settings(batch_size=0)
