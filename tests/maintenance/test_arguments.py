"""What `execute()` and its steps refuse before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from asm_store.exceptions import MaintenanceError, ValidationError
from asm_store.maintenance import (
    RetentionPolicy,
    execute,
    hard_delete_expired_sessions,
    prune_session_events,
    soft_delete_expired_sessions,
)

STEPS: list[Callable[..., Any]] = [
    execute,
    soft_delete_expired_sessions,
    hard_delete_expired_sessions,
    partial(prune_session_events, "ses_1"),
]
NOWHERE = RetentionPolicy(archive_before_prune=True, archive_storage="nowhere")

pytestmark = pytest.mark.parametrize("step", STEPS)


@pytest.mark.parametrize("policy", [None, {}, RetentionPolicy])
def test_a_policy_is_one(step: Callable[..., Any], policy: Any) -> None:
    with pytest.raises(ValidationError, match="policy: expected a RetentionPolicy"):
        step(policy)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_database_is_there(step: Callable[..., Any], dry_run: bool) -> None:
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        step(RetentionPolicy(), using="nowhere", dry_run=dry_run)


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_archive_is_there(step: Callable[..., Any], dry_run: bool) -> None:
    with pytest.raises(MaintenanceError, match=r"archive_storage: .*nowhere.* Nothing was deleted"):
        step(NOWHERE, dry_run=dry_run)
