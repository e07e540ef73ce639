"""Each setting: its default, what it takes, and that it is read when it is used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from asm_store import conf
from asm_store.rates import PricingTable

DOCUMENTED = Path(__file__).parents[1] / "docs" / "settings.md"


class TestStores:
    def test_the_default_is_the_default_database(self) -> None:
        assert conf.stores() == {
            "default": {
                "BACKEND": "asm_store.backends.database.DatabaseSessionStore",
                "OPTIONS": {"using": "default"},
            }
        }

    def test_is_what_the_setting_says(self) -> None:
        with override_settings(ASM_STORES={"mine": {"BACKEND": "x"}}):
            assert conf.stores() == {"mine": {"BACKEND": "x"}}

    def test_the_default_cannot_be_changed_by_accident(self) -> None:
        conf.stores()["default"]["OPTIONS"]["using"] = "elsewhere"
        assert conf.stores()["default"]["OPTIONS"] == {"using": "default"}


class TestMaxEventBytes:
    def test_default(self) -> None:
        assert conf.max_event_bytes() == 8_388_608

    @pytest.mark.parametrize("value", [1, 10**12])
    def test_takes(self, value: int) -> None:
        with override_settings(ASM_STORE_MAX_EVENT_BYTES=value):
            assert conf.max_event_bytes() == value

    @pytest.mark.parametrize("value", [0, -1, 1.5, "8", None, True])
    def test_refuses(self, value: Any) -> None:
        with (
            override_settings(ASM_STORE_MAX_EVENT_BYTES=value),
            pytest.raises(ImproperlyConfigured, match="ASM_STORE_MAX_EVENT_BYTES must be"),
        ):
            conf.max_event_bytes()


class TestRetrySeconds:
    def test_default(self) -> None:
        assert conf.retry_seconds() == 30

    @pytest.mark.parametrize("value", [0, 0.5, 60, 86_399])
    def test_takes(self, value: float) -> None:
        with override_settings(ASM_STORE_RETRY_SECONDS=value):
            assert conf.retry_seconds() == value
            assert isinstance(conf.retry_seconds(), float)

    @pytest.mark.parametrize("value", [-1, 86_401, "30", None, True, float("nan"), float("inf")])
    def test_refuses(self, value: Any) -> None:
        with (
            override_settings(ASM_STORE_RETRY_SECONDS=value),
            pytest.raises(ImproperlyConfigured, match="ASM_STORE_RETRY_SECONDS must be"),
        ):
            conf.retry_seconds()


class TestMaxQueryLimit:
    def test_default(self) -> None:
        assert conf.max_query_limit() == 1_000

    @pytest.mark.parametrize("value", [1, 1_000_000])
    def test_takes(self, value: int) -> None:
        with override_settings(ASM_STORE_MAX_QUERY_LIMIT=value):
            assert conf.max_query_limit() == value

    @pytest.mark.parametrize("value", [0, -1, 1_000_001, 1.5, "8", None, True])
    def test_refuses(self, value: Any) -> None:
        with (
            override_settings(ASM_STORE_MAX_QUERY_LIMIT=value),
            pytest.raises(ImproperlyConfigured, match="ASM_STORE_MAX_QUERY_LIMIT must be"),
        ):
            conf.max_query_limit()


class TestExtraEventTypes:
    def test_default(self) -> None:
        assert conf.extra_event_types() == frozenset()

    @pytest.mark.parametrize("value", [["a", "b"], ("a", "b"), {"a", "b"}])
    def test_takes(self, value: Any) -> None:
        with override_settings(ASM_STORE_EXTRA_EVENT_TYPES=value):
            assert conf.extra_event_types() == {"a", "b"}

    def test_names_have_1_to_64_printable_characters(self) -> None:
        with override_settings(ASM_STORE_EXTRA_EVENT_TYPES=["é", "x" * 64, "my type"]):
            assert len(conf.extra_event_types()) == 3

    @pytest.mark.parametrize(
        "value",
        ["ab", None, 5, b"ab", {"a": 1}, [""], ["x" * 65], [1], [None], ["a\0"], ["\ud800"]],
    )
    def test_refuses(self, value: Any) -> None:
        with (
            override_settings(ASM_STORE_EXTRA_EVENT_TYPES=value),
            pytest.raises(ImproperlyConfigured, match="ASM_STORE_EXTRA_EVENT_TYPES must be"),
        ):
            conf.extra_event_types()


class TestPricing:
    RATES = {"input": 3e-6, "output": 15e-6}

    def test_default(self) -> None:
        assert conf.pricing() == PricingTable()

    @pytest.mark.parametrize("rates", [RATES, {**RATES, "cache_read": 0, "cache_creation": 0}])
    def test_takes(self, rates: Any) -> None:
        value = {"mine": {"default": rates}, "yours": {"models": {"m": rates}}, "theirs": {}}
        with override_settings(ASM_STORE_PRICING=value):
            assert sorted(conf.pricing().providers) == ["mine", "theirs", "yours"]
            assert conf.pricing() is conf.pricing()  # read once, for all runs

    @pytest.mark.parametrize("value", [None, [], {"mine": RATES}, {"mine": {"default": {}}}])
    def test_refuses(self, value: Any) -> None:
        with (
            override_settings(ASM_STORE_PRICING=value),
            pytest.raises(ImproperlyConfigured, match="ASM_STORE_PRICING"),
        ):
            conf.pricing()


class TestRetention:
    def test_default(self) -> None:
        assert conf.retention() == {}

    def test_takes(self) -> None:
        with override_settings(ASM_STORE_RETENTION={"batch_size": 5}):
            assert conf.retention() == {"batch_size": 5}

    @pytest.mark.parametrize("value", [None, [], "x", {1: 2}])
    def test_refuses(self, value: Any) -> None:
        with (
            override_settings(ASM_STORE_RETENTION=value),
            pytest.raises(ImproperlyConfigured, match="ASM_STORE_RETENTION must be"),
        ):
            conf.retention()


def test_every_setting_is_documented_and_no_other() -> None:
    headings = re.findall(r"^## (\w+)$", DOCUMENTED.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(["ASM_STORES", *conf.SCALARS])
