"""`stores` and `default_store`: from the settings to a store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from asm_store import DEFAULT_STORE_ALIAS, default_store, stores
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import SessionNotFound
from asm_store.handler import InvalidStoreError
from asm_store.test import make_session
from tests.threads import run_threads

DATABASE = "asm_store.backends.database.DatabaseSessionStore"
MEMORY = "asm_store.backends.memory.InMemorySessionStore"


class TestDefault:
    def test_is_on_the_default_database(self) -> None:
        store = stores[DEFAULT_STORE_ALIAS]

        assert isinstance(store, DatabaseSessionStore)
        assert (store.using, store.alias) == ("default", "default")
        assert list(stores) == ["default"]

    def test_the_shortcut_is_the_same_store(self) -> None:
        assert default_store == stores["default"]
        assert default_store.alias == "default"

    def test_a_thread_keeps_its_store(self) -> None:
        assert stores["default"] is stores["default"]

    def test_is_shown_with_its_database(self) -> None:
        assert repr(stores["default"]) == "DatabaseSessionStore(using='default')"


class TestSettings:
    def test_are_followed_and_left_again(self) -> None:
        before = stores["default"]
        with override_settings(ASM_STORES={"default": {"BACKEND": MEMORY}}):
            assert isinstance(stores["default"], InMemorySessionStore)
            assert isinstance(default_store.get_session, type(stores["default"].get_session))
            with pytest.raises(SessionNotFound):
                default_store.get_session("ses_of_nobody")

        assert isinstance(stores["default"], DatabaseSessionStore)
        assert isinstance(before, DatabaseSessionStore)

    def test_options_are_the_keyword_arguments(self) -> None:
        options = {"second": {"BACKEND": DATABASE, "OPTIONS": {"using": "other"}}}
        with override_settings(ASM_STORES=options):
            store = stores["second"]

            assert isinstance(store, DatabaseSessionStore)
            assert (store.using, store.alias) == ("other", "second")

    def test_other_settings_leave_the_stores_alone(self) -> None:
        store = stores["default"]
        with override_settings(ASM_STORE_RETRY_SECONDS=1):
            assert stores["default"] is store


class TestMistakes:
    @pytest.mark.parametrize("alias", ["nowhere", ""])
    def test_an_unknown_alias_is_named(self, alias: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=f"'{alias}' doesn't exist"):
            stores[alias]

    def test_the_default_may_be_missing_only_until_it_is_used(self) -> None:
        with override_settings(ASM_STORES={"mine": {"BACKEND": MEMORY}}):
            assert isinstance(stores["mine"], InMemorySessionStore)
            with pytest.raises(InvalidStoreError, match="'default' doesn't exist"):
                default_store.get_session("ses_1")

    @pytest.mark.parametrize(
        "entry",
        [
            {"BACKEND": "nowhere.Store"},
            {"BACKEND": "asm_store.backends.memory.Nothing"},
            {"BACKEND": "NoDots"},
            {"BACKEND": None},
            {},
            None,
            "asm_store.backends.memory.InMemorySessionStore",
            {"BACKEND": DATABASE, "OPTIONS": {"usin": "default"}},
            {"BACKEND": DATABASE, "OPTIONS": {"alias": "mine"}},
            {"BACKEND": DATABASE, "OPTIONS": ["default"]},
            {"BACKEND": DATABASE, "OPTIONS": None},
            {"BACKEND": DATABASE, "OPTION": {"using": "other"}},
            {"BACKEND": "asm_store.conf"},
            {"BACKEND": "builtins.dict"},
            {"BACKEND": "asm_store.backends.base.BaseSessionStore"},
        ],
    )
    def test_an_entry_that_makes_no_store_is_named(self, entry: Any) -> None:
        with (
            override_settings(ASM_STORES={"broken": entry}),
            pytest.raises(InvalidStoreError, match=r"ASM_STORES\['broken'\] does not make a store"),
        ):
            stores["broken"]

    @pytest.mark.parametrize(
        "value", [None, [], "default", [("default", {})], {1: {"BACKEND": MEMORY}}]
    )
    def test_the_setting_is_a_dict(self, value: Any) -> None:
        with (
            override_settings(ASM_STORES=value),
            pytest.raises(InvalidStoreError, match="ASM_STORES must be a dict of aliases"),
        ):
            stores["default"]


class TestMemory:
    def test_threads_share_the_data_of_an_alias(self, request: pytest.FixtureRequest) -> None:
        alias = request.node.nodeid  # data of this test's own
        with override_settings(ASM_STORES={alias: {"BACKEND": MEMORY}, "b": {"BACKEND": MEMORY}}):

            def add() -> str:
                return str(stores[alias].save_session(make_session()).pk)

            added = run_threads([add] * 4)

            found = [session.pk for session in stores[alias].list_sessions()]
            assert sorted(found) == sorted(added)
            with pytest.raises(SessionNotFound):
                stores["b"].get_session(added[0])

    def test_each_thread_has_a_store_of_its_own(self) -> None:
        with override_settings(ASM_STORES={"default": {"BACKEND": MEMORY}}):
            found = run_threads([lambda: stores["default"]] * 2)

        assert found[0] is not found[1]

    def test_without_an_alias_nothing_is_shared(self) -> None:
        first, second = InMemorySessionStore(), InMemorySessionStore()
        session = first.save_session(make_session())

        assert second.list_sessions() == []
        assert first.get_session(session.pk) == session


def test_asm_store_can_be_imported_before_django_is_set_up() -> None:
    script = """
import sys
import asm_store
assert "asm_store.models" not in sys.modules
try:
    asm_store.default_store.alias
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {n: v for n, v in os.environ.items() if n != "DJANGO_SETTINGS_MODULE"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("ImproperlyConfigured Requested setting ASM_STORES, but settings")
