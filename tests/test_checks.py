"""Each system check: when it speaks, when it does not, and that its hint leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings

from asm_store.checks import check_listen_aliases
from tests.cases import require
from tests.databases import vendor_of

DOCUMENTED = Path(__file__).parents[1] / "docs" / "checks.md"
MEMORY = {"BACKEND": "asm_store.backends.memory.InMemorySessionStore"}


def on(using: str) -> dict[str, Any]:
    """`ASM_STORES` with one store, on this database."""
    backend = "asm_store.backends.database.DatabaseSessionStore"
    return {"default": {"BACKEND": backend, "OPTIONS": {"using": using}}}


def found(**options: Any) -> list[checks.CheckMessage]:
    """This package's messages; each must have a hint that leads to its documentation."""
    # No database by default: Django's own checks of models would ask all of them.
    messages = [
        message
        for message in checks.run_checks(**{"databases": [], **options})
        if str(message.id).startswith("asm_store.")
    ]
    for message in messages:
        anchor = str(message.id).replace(".", "").lower()
        assert str(message.hint).endswith(f"See docs/checks.md#{anchor}.")
        assert isinstance(message, checks.Error if ".E" in str(message.id) else checks.Warning)
    return messages


def ids(*, deploy: bool = False) -> list[str]:
    messages = found(include_deployment_checks=deploy)
    return [str(message.id).removeprefix("asm_store.") for message in messages]


def of_database(using: str) -> list[checks.CheckMessage]:
    return found(tags=[checks.Tags.database], databases=[using])


@pytest.fixture
def quiet(settings: Any) -> Any:
    """Settings of which no check has anything to say."""
    settings.ASM_STORES = {"default": MEMORY}
    return settings


def test_good_settings_are_quiet(quiet: Any) -> None:
    assert ids(deploy=True) == []

    quiet.ASM_STORES = {**on("other"), "second": MEMORY}
    quiet.ASM_STORE_MAX_EVENT_BYTES = 100
    quiet.ASM_STORE_RETRY_SECONDS = 0
    quiet.ASM_STORE_REDACTION = True
    quiet.ASM_STORE_EXTRA_EVENT_TYPES = ["plan_revised"]
    quiet.ASM_STORE_PRICING = {"mine": {"default": {"input": 1e-6, "output": 2e-6}}}
    quiet.ASM_STORE_RETENTION = {"max_total_events": 9, "archive_storage": "default"}

    assert ids() == []


def test_every_check_is_documented_and_no_other() -> None:
    headings = re.findall(r"^## (asm_store\.\w+)$", DOCUMENTED.read_text(), re.MULTILINE)
    assert headings == [
        f"asm_store.{id}"
        for id in ("E001", "E002", "E003", "E004", "W001", "W002", "W003", "W004", "W005", "W006")
    ]


class TestE001:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "must be a dict"),
            ([], "must be a dict"),
            ({}, "has no 'default' store"),
            ({"mine": MEMORY}, "has no 'default' store"),
            ({"default": {"BACKEND": "nowhere.Store"}}, r"\['default'\] does not make a store"),
            ({"default": MEMORY, "b": {}}, r"\['b'\] does not make a store"),
            ({"default": {**MEMORY, "OPTIONS": {"x": 1}}}, r"\['default'\] does not make a store"),
            ({"default": {"BACKEND": "builtins.dict"}}, r"\['default'\] does not make a store"),
            (on("nowhere"), r"\['default'\]: The connection 'nowhere' doesn't exist"),
        ],
    )
    def test_bad_stores(self, quiet: Any, value: Any, text: str) -> None:
        quiet.ASM_STORES = value
        [message] = found(include_deployment_checks=True)

        assert message.id == "asm_store.E001"
        assert re.search(text, message.msg)

    def test_every_bad_entry_is_told(self, quiet: Any) -> None:
        quiet.ASM_STORES = {"a": {}, "b": {}, "c": MEMORY}
        assert ids() == ["E001"] * 3  # the two, and the missing default

    def test_the_check_command_fails(self, quiet: Any) -> None:
        quiet.ASM_STORES = {}
        with pytest.raises(CommandError, match=r"\(asm_store\.E001\) ASM_STORES has no"):
            call_command("check", databases=[])


class TestE002:
    def test_naive_times(self, quiet: Any) -> None:
        quiet.USE_TZ = False
        assert ids() == ["E002"]


class TestE003:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ASM_STORE_MAX_EVENT_BYTES", 0),
            ("ASM_STORE_RETRY_SECONDS", "soon"),
            ("ASM_STORE_EXTRA_EVENT_TYPES", "plan_revised"),
            ("ASM_STORE_PRICING", {"mine": {"default": {"input": -1, "output": 1}}}),
            ("ASM_STORE_RETENTION", []),
            ("ASM_STORE_RETENTION", {"hard_delete_after_days": 0}),
            ("ASM_STORE_RETENTION", {"keep": 1}),
            ("ASM_STORE_RETENTION", {"exempt_statuses": ["idle"]}),
            ("ASM_STORE_RETENTION", {"archive_before_prune": True}),
            ("ASM_STORE_RETENTION", {"archive_storage": "nowhere"}),
        ],
    )
    def test_bad_value(self, quiet: Any, name: str, value: Any) -> None:
        setattr(quiet, name, value)
        [message] = found()

        assert message.id == "asm_store.E003"
        assert message.msg.startswith(name)


class TestW001:
    def test_sqlite_in_another_mode_than_immediate(self, quiet: Any) -> None:
        quiet.ASM_STORES = on("default")
        [message] = found()

        assert message.id == "asm_store.W001"
        assert "'default'" in message.msg

    def test_not_for_immediate_mode(self, quiet: Any) -> None:
        quiet.ASM_STORES = on("other")
        assert ids() == []

    @pytest.mark.parametrize("using", ["postgresql", "mysql"])
    def test_not_for_a_server(self, quiet: Any, using: str) -> None:
        quiet.ASM_STORES = on(require(using))
        assert ids() == []

    def test_once_for_two_stores_on_a_database(self, quiet: Any) -> None:
        quiet.ASM_STORES = {**on("default"), "second": on("default")["default"]}
        assert ids() == ["W001"]


class TestW002:
    @pytest.mark.parametrize("name", ["ASM_STORE_RETRY_SECOND", "ASM_STORE_", "ASM_STORE_X"])
    def test_an_unknown_name(self, quiet: Any, name: str) -> None:
        setattr(quiet, name, 1)
        [message] = found()

        assert message.id == "asm_store.W002"
        assert message.msg == f"Unknown setting {name}."
        assert "ASM_STORE_RETRY_SECONDS" in str(message.hint)

    def test_not_for_a_name_of_others(self, quiet: Any) -> None:
        quiet.ASM_STORAGE = quiet.MY_ASM_STORE_X = 1
        assert ids() == []


class TestW003:
    def test_only_when_a_deployment_is_checked(self, quiet: Any) -> None:
        quiet.ASM_STORES = on(require("postgresql"))

        assert ids() == []
        [message] = found(include_deployment_checks=True)
        assert message.id == "asm_store.W003"
        assert "'postgresql'" in message.msg

    @pytest.mark.parametrize("using", ["postgresql_other", "other", "mysql"])
    def test_not_where_they_are_on_or_unknown(self, quiet: Any, using: str) -> None:
        quiet.ASM_STORES = on(require(using))
        assert ids(deploy=True) == []

    @pytest.mark.parametrize(
        "options",
        [
            {"prepare_threshold": 5},  # Django's own cursors never prepare
            {"server_side_binding": True},
            {"server_side_binding": True, "prepare_threshold": None},
        ],
    )
    def test_both_options_are_needed(
        self, quiet: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
    ) -> None:
        using = require("postgresql")
        monkeypatch.setitem(connections[using].settings_dict, "OPTIONS", options)
        quiet.ASM_STORES = on(using)
        assert ids(deploy=True) == ["W003"]


class TestW004:
    def test_only_on_mysql_for_events_too_large(self, quiet: Any, using: str) -> None:
        quiet.ASM_STORES = on(using)
        quiet.ASM_STORE_MAX_EVENT_BYTES = 10**12  # more than any max_allowed_packet
        messages = of_database(using)

        assert [str(message.id) for message in messages] == (
            ["asm_store.W004"] if vendor_of(using) == "mysql" else []
        )
        assert all(repr(using) in message.msg for message in messages)

    def test_not_for_events_that_fit(self, quiet: Any, using: str) -> None:
        quiet.ASM_STORES = on(using)
        quiet.ASM_STORE_MAX_EVENT_BYTES = 512
        assert of_database(using) == []

    def test_not_for_a_database_without_a_store(self, quiet: Any, using: str) -> None:
        quiet.ASM_STORE_MAX_EVENT_BYTES = 10**12
        assert of_database(using) == []

    def test_only_when_the_database_is_checked(self, quiet: Any) -> None:
        quiet.ASM_STORES = on(require("mysql"))
        quiet.ASM_STORE_MAX_EVENT_BYTES = 10**12
        assert ids(deploy=True) == []


class TestW006:
    def test_an_alias_of_another_vendor(self, quiet: Any) -> None:
        quiet.ASM_STORE_LISTEN_ALIASES = {"default": "default"}  # SQLite
        [warning] = found()
        assert warning.id == "asm_store.W006"
        assert "'default'" in warning.msg

    def test_an_alias_on_which_listen_fails(
        self, quiet: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        using = require("postgresql")
        quiet.ASM_STORE_LISTEN_ALIASES = {using: using}
        assert check_listen_aliases(databases=[using]) == []
        monkeypatch.setitem(connections.settings[using], "PORT", 1)
        assert found() == []  # it is not asked then
        [warning] = check_listen_aliases(databases=[using])
        assert warning.id == "asm_store.W006"
        assert "connection" in warning.msg

    def test_nobody_is_to_listen(self, quiet: Any) -> None:
        quiet.ASM_STORE_LISTEN_ALIASES = {"default": None}
        assert found() == []


def test_a_check_can_be_silenced() -> None:
    with override_settings(SILENCED_SYSTEM_CHECKS=["asm_store.W001"]):
        assert [message.is_silenced() for message in found()] == [True]
