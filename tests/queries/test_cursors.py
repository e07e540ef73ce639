"""Cursors: what they hold comes back, and nothing is taken for one that was not given out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core import signing
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from asm_store import cursors
from asm_store.cursors import Listing
from asm_store.exceptions import InvalidCursor, StoreError

NOON = datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
FILTERS: dict[str, Any] = {"agent_id": "a", "created_after": NOON, "status": ("active", "paused")}
LISTING = Listing("sessions", "created_at_asc", FILTERS)

values = st.one_of(
    st.text(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.just(UTC)),
)


@given(st.lists(values, max_size=3).map(tuple))
def test_a_position_comes_back_exactly(position: tuple[Any, ...]) -> None:
    back = LISTING.position(LISTING.cursor(position))
    assert back == position
    assert [type(value) for value in back] == [type(value) for value in position]


def test_it_is_opaque_and_fit_for_a_url() -> None:
    cursor = LISTING.cursor((NOON, "ses_1"))
    assert "ses_1" not in cursor
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:")


def test_the_longest_position_fits() -> None:
    position = (NOON, "\U0001f600" * 255)
    assert LISTING.position(LISTING.cursor(position)) == position


@pytest.mark.parametrize(
    "other",
    [
        Listing("runs", "created_at_asc", FILTERS),
        Listing("sessions", "created_at_desc", FILTERS),
        Listing("sessions", "created_at_asc", {}),
        Listing("sessions", "created_at_asc", {**FILTERS, "agent_id": "b"}),
        Listing("sessions", "created_at_asc", {**FILTERS, "agent_id": "A"}),
        Listing("sessions", "created_at_asc", {**FILTERS, "provider": ()}),
        Listing("sessions", "created_at_asc", {**FILTERS, "include_deleted": True}),
        Listing("sessions", "created_at_asc", {**FILTERS, "status": ("active",)}),
        Listing("sessions", "created_at_asc", {**FILTERS, "created_after": NOON.replace(hour=1)}),
    ],
)
def test_it_is_bound_to_resource_order_and_filters(other: Listing) -> None:
    with pytest.raises(InvalidCursor, match="another query"):
        other.position(LISTING.cursor((NOON, "ses_1")))


def test_equal_filters_may_be_written_differently() -> None:
    written: dict[str, Any] = {
        "status": ["paused", "active", "paused"],
        "created_after": NOON,
        "agent_id": "a",
        "tags": None,
    }
    same = Listing("sessions", "created_at_asc", written)
    assert same.position(LISTING.cursor(("x",))) == ("x",)


def test_every_changed_character_is_noticed() -> None:
    cursor = LISTING.cursor((NOON, "ses_1"))
    for place, character in enumerate(cursor):
        changed = f"{cursor[:place]}{'A' if character != 'A' else 'B'}{cursor[place + 1 :]}"
        with pytest.raises(InvalidCursor):
            LISTING.position(changed)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        ":",
        "x",
        "x:y",
        "é",
        "\ud800",
        "a\0b",
        "x" * 100_000,
        ".eJw:x",
        5,
        True,
        b"x",
        ["x"],
        {},
        NOON,
        # Its text has the time in it: the name of a test must be the same in every process.
        pytest.param(signing.dumps([1, "", ["x"]]), id="signed with a time"),
        signing.Signer().sign_object([1, "", ["x"]]),
    ],
)
def test_anything_else_is_refused(cursor: Any) -> None:
    with pytest.raises(InvalidCursor) as caught:
        LISTING.position(cursor)
    assert isinstance(caught.value, StoreError)
    assert caught.value.code == "invalid_cursor"


@pytest.mark.parametrize(
    "content", [5, None, "x", {}, {"version": 2}, [], [1], [1, "x", [], 5], [2, {"a": 1}]]
)
def test_what_another_version_has_signed_is_refused(content: Any) -> None:
    digest = LISTING._digest()
    for signed in (content, [1, digest], [1, digest, "x"], [1, digest, ["x"], content]):
        cursor = signing.Signer(salt=cursors.SALT).sign_object(signed)
        with pytest.raises(InvalidCursor, match="another query"):
            LISTING.position(cursor)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cursor = LISTING.cursor(("x",))
    monkeypatch.setattr(cursors, "VERSION", 2)
    with pytest.raises(InvalidCursor):
        LISTING.position(cursor)


def test_the_key_can_be_rotated() -> None:
    with override_settings(SECRET_KEY="before"):
        cursor = LISTING.cursor(("x",))
    with override_settings(SECRET_KEY="after", SECRET_KEY_FALLBACKS=["before"]):
        assert LISTING.position(cursor) == ("x",)
    with override_settings(SECRET_KEY="after"), pytest.raises(InvalidCursor):
        LISTING.position(cursor)
