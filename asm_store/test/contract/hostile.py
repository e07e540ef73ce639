"""What an agent may say: text and JSON that no database takes as they are."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

from django.test import override_settings

from ...exceptions import ValidationError
from ..factories import make_event
from .base import ContractCase
from .values import NOT_JSON, NOT_STRING_KEYS, nested

JSON_COLUMNS = (
    ("session", "metadata"), ("session", "context"), ("run", "input"), ("run", "output"),
    ("run", "error"), ("run", "metadata"), ("run", "token_usage"), ("run", "provider_metadata"),
    ("event", "data"), ("event", "metadata"),
)  # fmt: skip
SECOND_COLUMNS = {"session": "context", "run": "input", "event": "data"}
KINDS = ("session", "run", "event")


class Hostile(ContractCase):
    """Both halves try every JSON column of a session, a run and an event."""

    def kept(self, kind: str, column: str, value: Any) -> Any:
        """The column after storing `value` in it; what is returned must be what is stored."""
        saved = self.keep(kind, **{column: value})
        self.assert_same(self.reread(saved), saved)
        return getattr(saved, column)

    def assert_kept_everywhere(self, given: Any, expected: Any) -> None:
        self.add_owner()
        for kind, column in JSON_COLUMNS:
            with self.subTest(kind=kind, column=column):
                stored = self.kept(kind, column, {"value": given})["value"]
                self.assertEqual(json.dumps(stored), json.dumps(expected))

    def assert_kept_nowhere(self, value: Any) -> None:
        self.add_owner()
        for kind, column in JSON_COLUMNS:
            self.assert_not_kept(kind, **{column: value})


class HostileText(Hostile):
    def test_nul_and_lone_surrogates_are_replaced_and_counted(self) -> None:
        self.add_owner()
        for kind, column in JSON_COLUMNS:
            with self.subTest(kind=kind, column=column):
                value = {"text": "a\x00b\x00", "list": ["\ud800", {"deep": "x\udfffy\udc00"}]}
                saved = self.keep(kind, **{column: value})
                self.assert_same(self.reread(saved), saved)
                cleaned = dict(getattr(saved, column))
                cleaned.pop("_sanitized", None)
                self.assertEqual(
                    cleaned,
                    {"text": "a\u2400b\u2400", "list": ["\ufffd", {"deep": "x\ufffdy\ufffd"}]},
                )
                self.assertEqual(saved.metadata["_sanitized"], {"nul": 2, "surrogate": 3})

    def test_keys_are_cleaned_too(self) -> None:
        self.add_owner()
        for kind, column in JSON_COLUMNS:
            with self.subTest(kind=kind, column=column):
                saved = self.keep(kind, **{column: {"a\x00": {"b\ud800": 1}}})
                self.assert_same(self.reread(saved), saved)
                self.assertEqual(getattr(saved, column)["a\u2400"], {"b\ufffd": 1})
                self.assertEqual(saved.metadata["_sanitized"], {"nul": 1, "surrogate": 1})

    def test_text_columns_are_cleaned_too(self) -> None:
        self.add_owner()
        for kind, column in (
            ("session", "agent_id"), ("run", "provider"), ("event", "provider"),
            ("event", "correlation_id"),
        ):  # fmt: skip
            with self.subTest(kind=kind, column=column):
                saved = self.keep(kind, **{column: "a\x00b\ud800"})
                self.assert_same(self.reread(saved), saved)
                self.assertEqual(getattr(saved, column), "a\u2400b\ufffd")
                self.assertEqual(saved.metadata, {"_sanitized": {"nul": 1, "surrogate": 1}})

    def test_tags_are_cleaned_too(self) -> None:
        saved = self.add_session(tags=["a\x00", "\udc00"])
        self.assertEqual(saved.tags, ["a\u2400", "\ufffd"])
        self.assertEqual(saved.metadata, {"_sanitized": {"nul": 1, "surrogate": 1}})

    def test_counts_are_the_records_and_both_are_always_there(self) -> None:
        self.add_owner()
        saved = self.keep("event", data={"a": "\x00"}, metadata={"b": "\x00"}, provider="\x00")
        self.assertEqual(saved.metadata, {"b": "\u2400", "_sanitized": {"nul": 3, "surrogate": 0}})
        saved = self.keep("run", input={"a": "\ud800"})
        self.assertEqual(saved.metadata, {"_sanitized": {"nul": 0, "surrogate": 1}})

    def test_batches_are_cleaned_event_by_event(self) -> None:
        session = self.add_session()
        texts = ["a\x00", "plain", "\ud800\ud800"]
        stored = self.store.append_events(make_event(session, data={"t": t}) for t in texts)
        self.assertEqual(
            [event.metadata.get("_sanitized") for event in stored],
            [{"nul": 1, "surrogate": 0}, None, {"nul": 0, "surrogate": 2}],
        )

    def test_nothing_is_counted_when_nothing_was_replaced(self) -> None:
        self.add_owner()
        for kind in KINDS:
            saved = self.keep(kind, metadata={"text": "\u2400 \ufffd \U0001f600"})
            self.assertEqual(saved.metadata, {"text": "\u2400 \ufffd \U0001f600"})

    def test_a_surrogate_pair_becomes_its_character(self) -> None:
        self.add_owner()
        saved = self.keep("event", data={"\ud83d\ude00": "\ud83d\ude00\x00"})
        self.assertEqual(saved.data, {"\U0001f600": "\U0001f600\u2400"})
        self.assertEqual(saved.metadata, {"_sanitized": {"nul": 1, "surrogate": 0}})
        pair_and_lone = self.keep("event", data={"t": "\ud83d\ud83d\ude00\ude00"})
        self.assertEqual(pair_and_lone.data, {"t": "\ufffd\U0001f600\ufffd"})
        self.assertEqual(pair_and_lone.metadata, {"_sanitized": {"nul": 0, "surrogate": 2}})

    def test_keys_that_collide_after_replacing_are_refused(self) -> None:
        for keys in (("a\x00", "a\u2400"), ("\ud800", "\udfff"), ("\ud83d\ude00", "\U0001f600")):
            self.assert_kept_nowhere({"deep": [dict.fromkeys(keys, 1)]})
        self.assert_nothing_kept()

    def test_any_other_text_is_kept_as_it_is(self) -> None:
        self.add_owner()
        every_control = "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f"
        for text in (
            "", " ", "\"'\\/%_?;--", "</script>", every_control, "\u2028\u2029\ufeff\ufffe\uffff",
            "e\u0301 é", "\U0001f469\u200d\U0001f680", "\u05e9\u202e", "\U0010ffff", "\\u0000",
            "$1 %s {0} :name",
        ):  # fmt: skip
            with self.subTest(text=text):
                self.assertEqual(self.kept("event", "data", {text: text}), {text: text})

    def test_long_text_is_kept(self) -> None:
        self.add_owner()
        for text in ("x" * 1_000_000, "\U0001f600\u00e9\n" * 100_000):
            self.assertEqual(self.kept("event", "data", {"text": text}), {"text": text})


class HostileJson(Hostile):
    def test_json_values_keep_value_and_type(self) -> None:
        self.add_owner()
        values: tuple[Any, ...] = (
            None, True, False, 0, 1, -1, 1.0, 0.1 + 0.2, -2.5, 1e15, 9007199254740993.0, 1e-7,
            5e-324, 2**53 + 1, 2**63, -(2**64), 10**100, "1", [], {}, [[]], [{}], [None],
            {"a": {"b": [1, 2.5, {"c": None}]}}, {"": 1}, {"b": 1, "a": 2},
        )  # fmt: skip
        for value in values:
            with self.subTest(value=value):
                stored = self.kept("event", "data", {"value": value})["value"]
                self.assertEqual(
                    json.dumps(stored, sort_keys=True), json.dumps(value, sort_keys=True)
                )

    def test_a_large_float_becomes_the_integer_that_its_digits_say(self) -> None:
        values = (1e16, -1e16, 1e22, 1e23, 1.5e300, sys.float_info.max)
        exact = (10**16, -(10**16), 10**22, 10**23, 15 * 10**299, 17976931348623157 * 10**292)
        self.assert_kept_everywhere(list(values), list(exact))

    def test_a_negative_zero_becomes_zero(self) -> None:
        self.assert_kept_everywhere([-0.0, {"a": -0.0}], [0.0, {"a": 0.0}])

    def test_tuples_become_lists_and_mappings_become_dicts(self) -> None:
        self.add_owner()
        given = (1, (2, ()), MappingProxyType({"a": (3,)}), OrderedDict(b=4))
        self.assert_kept_everywhere(given, [1, [2, []], {"a": [3]}, {"b": 4}])
        saved = self.kept("session", "metadata", MappingProxyType({"a": 1}))
        self.assertIs(type(saved), dict)

    def test_tags_given_as_a_tuple_become_a_list(self) -> None:
        self.add_owner()
        self.assertEqual(self.kept("session", "tags", ("b", "a", "b")), ["b", "a", "b"])

    def test_values_that_are_not_json_are_refused(self) -> None:
        for value in NOT_JSON:
            self.assert_kept_nowhere({"deep": [{"value": value}]})
        self.assert_nothing_kept()

    def test_keys_that_are_not_strings_are_refused(self) -> None:
        for key in NOT_STRING_KEYS:
            self.assert_kept_nowhere({key: 1})
            self.assert_kept_nowhere({"deep": [{key: 1}]})
        self.assert_nothing_kept()

    def test_integers_too_long_to_encode_are_refused(self) -> None:
        for value in (10**4300, -(10**4300), 1 << 100_000):
            self.assert_kept_nowhere({"value": [value]})
        self.assert_kept_everywhere(10**4299, 10**4299)

    def test_a_hundred_levels_pass_and_one_more_does_not(self) -> None:
        self.add_owner()
        # The column's own mapping is the first level.
        self.assert_kept_everywhere(nested(99), nested(99))
        self.assert_kept_nowhere({"value": nested(100)})
        mappings: dict[str, Any] = {}
        for _ in range(99):
            mappings = {"a": mappings}
        self.kept("event", "data", mappings)
        self.assert_kept_nowhere({"a": mappings})

    def test_bottomless_json_is_refused(self) -> None:
        circle: list[Any] = []
        circle.append(circle)
        for value in (nested(100_000), circle, {"a": [circle] * 3}):
            self.assert_kept_nowhere({"value": value})
        self.assert_nothing_kept()

    def test_the_size_limit_is_on_the_encoded_json_of_an_event(self) -> None:
        self.add_owner()
        with override_settings(ASM_STORE_MAX_EVENT_BYTES=1000):
            for character, size in (("x", 1), ("é", 2), ("\U0001f600", 4), ('"', 2)):
                with self.subTest(character=character):
                    # {"t":"..."} and {"m":1} take 8 + 7 bytes beside the characters.
                    fits = (1000 - 15) // size
                    text = character * fits + "x" * ((1000 - 15) % size)
                    self.keep("event", data={"t": text}, metadata={"m": 1})
                    with self.refused(ValidationError):
                        self.keep("event", data={"t": text + "x"}, metadata={"m": 1})

    def test_the_size_limit_is_on_the_whole_record(self) -> None:
        self.add_owner()
        with override_settings(ASM_STORE_MAX_EVENT_BYTES=1000):
            for kind, column in JSON_COLUMNS:
                other = SECOND_COLUMNS[kind] if column == "metadata" else "metadata"
                with self.subTest(kind=kind, column=column):
                    self.keep(kind, **{column: {"t": "x" * 600}})
                    with self.refused(ValidationError):
                        self.keep(kind, **{column: {"t": "x" * 600}, other: {"t": "x" * 600}})
            with self.refused(ValidationError):
                self.keep("session", tags=["x" * 100] * 10)

    def test_a_value_just_under_the_default_limit_is_kept(self) -> None:
        self.add_owner()
        text = "x" * (8 * 1024 * 1024 - 8 - len("{}"))
        self.assertEqual(len(self.kept("event", "data", {"t": text})["t"]), len(text))
        with self.refused(ValidationError):
            self.keep("event", data={"t": text + "x"})
