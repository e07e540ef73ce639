"""What becomes of text and JSON at the door, whatever they are."""

from __future__ import annotations

import json
import math
from collections import UserDict
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asm_store.events import sanitizing
from asm_store.events.sanitizing import (
    ENCODER,
    MAX_DEPTH,
    Sanitizer,
    clean_number,
    has_unstorable,
    shown,
)
from asm_store.exceptions import ValidationError

MEBIBYTE = 2**20
# Half of all characters are those that need care.
CHARACTERS = st.characters() | st.sampled_from("\0\u2400\ufffd\ud83d\ude42\ud800\udfff\ue000 aé🙂")
TEXTS = st.text(CHARACTERS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


class Point(NamedTuple):
    x: int
    y: int


class Unlike(str):
    """Differs from the text that it is."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Longer(UserDict[str, Any]):
    def __len__(self) -> int:
        return len(self.data) + 1


class Level(IntEnum):
    HIGH = 3


def clean(value: Any, max_bytes: int = MEBIBYTE) -> Any:
    return Sanitizer(max_bytes).json(value)


def refused(value: Any, message: str, max_bytes: int = MEBIBYTE) -> None:
    with pytest.raises(ValidationError, match=message):
        clean(value, max_bytes)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def leaves(value: Any) -> list[Any]:
    """All keys and scalars in a JSON value."""
    if isinstance(value, dict):
        return [leaf for item in value.items() for leaf in leaves(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def may_be_refused(leaf: Any) -> bool:
    """No number, or a text that may have become like another one."""
    if isinstance(leaf, str):
        return has_unstorable(leaf)
    return isinstance(leaf, float) and not math.isfinite(leaf)


class TestText:
    @given(TEXTS)
    def test_becomes_storable_and_stays_as_it_then_is(self, text: str) -> None:
        cleaned = Sanitizer(0).text(text)

        assert not has_unstorable(cleaned)
        cleaned.encode()
        again = Sanitizer(0)
        assert again.text(cleaned) == cleaned
        assert again.replaced == {}

    @given(TEXTS)
    def test_is_left_alone_when_it_is_storable(self, text: str) -> None:
        storable = not ("\0" in text or any("\ud800" <= c <= "\udfff" for c in text))

        assert has_unstorable(text) != storable
        if storable:
            assert Sanitizer(0).text(text) == text

    @given(TEXTS)
    def test_every_replacement_is_counted(self, text: str) -> None:
        sanitizer = Sanitizer(0)
        cleaned = sanitizer.text(text)

        assert sanitizer.nul == text.count("\0")
        assert cleaned.count("\u2400") == text.count("\u2400") + sanitizer.nul
        assert cleaned.count("\ufffd") == text.count("\ufffd") + sanitizer.surrogate

    @pytest.mark.parametrize(
        ("text", "cleaned", "surrogates"),
        [
            ("\ud83d\ude42", "🙂", 0),
            ("\ude42\ud83d", "\ufffd\ufffd", 2),
            ("\ud83d\ud83d\ude42", "\ufffd🙂", 1),
            ("\ud83d\0\ude42", "\ufffd\u2400\ufffd", 2),
            ("\ud800", "\ufffd", 1),
            ("a\udfff", "a\ufffd", 1),
            ("\ud7ff\ue000", "\ud7ff\ue000", 0),
        ],
    )
    def test_a_pair_is_its_character(self, text: str, cleaned: str, surrogates: int) -> None:
        sanitizer = Sanitizer(0)

        assert sanitizer.text(text) == cleaned
        assert sanitizer.surrogate == surrogates

    def test_both_counts_are_given_when_one_is_not_zero(self) -> None:
        sanitizer = Sanitizer(0)
        sanitizer.text("\0\0")

        assert sanitizer.replaced == {"nul": 2, "surrogate": 0}


class TestJson:
    @given(VALUES)
    @example({"\0": 1, "\u2400": 2})
    def test_becomes_storable_or_is_refused(self, value: Any) -> None:
        sanitizer = Sanitizer(MEBIBYTE)
        try:
            cleaned = sanitizer.json(value)
        except ValidationError:
            assert any(map(may_be_refused, leaves(value)))
            return
        assert not any(isinstance(leaf, float) and may_be_refused(leaf) for leaf in leaves(value))
        encoded = ENCODER.encode(cleaned)
        assert not has_unstorable(encoded)
        assert "\\u0000" not in encoded
        assert json.loads(encoded) == cleaned
        assert sanitizer.json_text == encoded
        assert sanitizer.json_bytes == len(encoded.encode())
        again = Sanitizer(MEBIBYTE)
        assert ENCODER.encode(again.json(cleaned)) == encoded
        assert again.replaced == {}

    @given(st.dictionaries(TEXTS, TEXTS))
    def test_keys_and_values_are_counted(self, value: dict[str, str]) -> None:
        sanitizer = Sanitizer(MEBIBYTE)
        try:
            sanitizer.json(value)
        except ValidationError as error:
            assert "two keys become" in str(error)  # noqa: PT017
            return
        assert sanitizer.nul == sum((key + item).count("\0") for key, item in value.items())

    @pytest.mark.parametrize(
        ("value", "cleaned"),
        [
            ((1, (2,)), [1, [2]]),
            (Point(1, 2), [1, 2]),
            (UserDict({"a": UserDict()}), {"a": {}}),
            ([Level.HIGH, True], [3, True]),
            ([-0.0, 0.0], [0.0, 0.0]),
        ],
    )
    def test_becomes_plain(self, value: Any, cleaned: Any) -> None:
        found = clean(value)

        assert repr(found) == repr(cleaned)  # 3 and Level.HIGH, 0.0 and -0.0 are equal

    def test_the_given_value_is_not_changed(self) -> None:
        value = {"a": ["\0", {"b": (1, -0.0)}]}
        before = repr(value)
        clean(value)

        assert repr(value) == before

    @pytest.mark.parametrize(
        "value",
        [
            {1, 2},
            b"bytes",
            bytearray(b"x"),
            Decimal(1),
            datetime(2026, 1, 1, tzinfo=UTC),
            UUID(int=1),
            object(),
            1j,
            iter([]),
            range(3),
        ],
    )
    def test_other_types_are_refused(self, value: Any) -> None:
        refused(value, f"a value of type {type(value).__name__} is not JSON")
        refused({"a": [value]}, f"a value of type {type(value).__name__} is not JSON")

    @pytest.mark.parametrize("key", [1, None, True, 1.5, b"a", (1,)])
    def test_keys_are_strings(self, key: Any) -> None:
        refused({key: 1}, "the key .* is not a string")
        refused([{"a": {key: 1}}], "the key .* is not a string")

    @pytest.mark.parametrize(
        "value",
        [{"\0": 1, "\u2400": 2}, {"\ufffd": 1, "a\ud800"[1:]: 2}, {"🙂": 1, "\ud83d\ude42": 2}],
    )
    def test_keys_that_become_one_are_refused(self, value: Any) -> None:
        refused(value, "two keys become .* when made storable")

    def test_keys_that_are_one_as_plain_text_are_refused(self) -> None:
        refused({"a": 1, Unlike("a"): 2}, "two keys become one when made storable")

    @given(
        st.lists(st.none() | st.booleans() | st.integers() | TEXTS | st.dictionaries(TEXTS, TEXTS))
    )
    def test_a_value_of_just_the_limit_is_taken(self, value: list[Any]) -> None:
        """What is guessed of its size while it is looked at is never too much."""
        try:
            size = len(ENCODER.encode(clean(value)).encode())
        except ValidationError:
            return
        clean(value, size)
        refused(value, "larger than", size - 1)

    def test_a_mapping_may_have_fewer_items_than_its_length(self) -> None:
        """As the headers of HTTP have that are there twice."""
        assert clean({"headers": Longer({"a": 1})}) == {"headers": {"a": 1}}

    def test_large_floats_are_as_large_as_the_integers_that_they_become(self) -> None:
        refused([1e308] * 100, "larger than", 10_000)

    def test_is_written_alike_without_the_encoder_in_c(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json.encoder, "c_make_encoder", None)
        value = {"a": ["\u00e9\n", 1.5, None, {}]}

        assert sanitizing._plain_encoder()(value) == sanitizing.encoded(value)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_what_no_number_is_refused(self, value: float) -> None:
        refused(value, "is not JSON")
        refused({"a": [value]}, "is not JSON")


class TestNumbers:
    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_a_float_keeps_its_value(self, value: float) -> None:
        cleaned = clean_number(value)

        assert float(cleaned) == value
        assert isinstance(cleaned, int) == (abs(value) >= 1e16)
        assert math.copysign(1, cleaned) == (math.copysign(1, value) if value else 1)
        assert clean_number(cleaned) == cleaned

    @pytest.mark.parametrize(
        ("value", "cleaned"), [(1e16, 10**16), (1e23, 10**23), (-1.5e300, -15 * 10**299)]
    )
    def test_a_large_float_is_what_its_shortest_form_says(self, value: float, cleaned: int) -> None:
        assert clean_number(value) == cleaned
        assert type(clean_number(value)) is int

    @pytest.mark.parametrize("sign", [1, -1])
    def test_an_integer_has_at_most_4300_digits(self, sign: int) -> None:
        longest = sign * (10**4300 - 1)
        assert json.loads(ENCODER.encode(clean(longest))) == longest
        refused(longest + sign, "an integer has more than 4300 digits")


class TestLimits:
    def test_a_hundred_levels_pass_and_one_more_does_not(self) -> None:
        assert clean(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
        refused(nested(MAX_DEPTH + 1), "deeper than 100 levels")

    def test_mappings_and_tuples_count_as_levels(self) -> None:
        assert clean({"a": (nested(98),)}) == {"a": [nested(98)]}
        refused({"a": (nested(99),)}, "deeper than 100 levels")

    def test_a_value_that_holds_itself_is_refused(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        refused(endless, "deeper than 100 levels")

    @pytest.mark.parametrize(
        "value", ["x" * 18, "é" * 9, {"key": "0123456789"}, [1234567890123456]]
    )
    def test_the_size_is_that_of_compact_utf8(self, value: Any) -> None:
        size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())

        assert clean(value, max_bytes=size) == value
        refused(value, f"larger than {size - 1} bytes", max_bytes=size - 1)

    def test_all_of_a_record_counts(self) -> None:
        sanitizer = Sanitizer(10)
        sanitizer.json("1234")
        with pytest.raises(ValidationError, match="larger than 10 bytes"):
            sanitizer.json("123")

    @pytest.mark.parametrize("make", [lambda v: [v] * 10, lambda v: dict.fromkeys("abcdefghij", v)])
    def test_what_would_be_huge_is_refused_before_it_is_written(self, make: Any) -> None:
        # 10**90 leaves in 90 small containers: only one that stops early comes back at all.
        value: Any = None  # four bytes, of which one is counted on the way
        for _ in range(90):
            value = make(value)
        refused(value, "larger than", max_bytes=10_000)


class TestShown:
    @given(st.text() | st.integers() | st.floats())
    def test_is_printable(self, value: Any) -> None:
        assert shown(value).isprintable()
        assert shown(value).isascii()

    def test_long_values_are_cut(self) -> None:
        assert shown("x" * 60) == repr("x" * 60)
        assert shown("x" * 10**6) == repr("x" * 57) + "..."
        assert shown(2**64 - 1) == str(2**64 - 1)
        assert shown(-(10**5000)) == "an integer of 16610 bits"

    def test_containers_are_shown_by_their_type(self) -> None:
        assert [shown(value) for value in ({}, [1], None, object())] == [
            "dict", "list", "NoneType", "object",
        ]  # fmt: skip
