from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer

from asm_store.backends.database import DatabaseSessionStore
from asm_store.formats import import_paths
from example_project.sample_data import write_samples
from tests.browser.browsing import Browsing, find_browser

LogIn = Callable[..., None]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browsing]:
    program = find_browser()
    if program is None or importlib.util.find_spec("playwright") is None:
        reason = "the browser tests need Chromium and playwright"
        if os.environ.get("ASM_TEST_REQUIRE_BROWSER") in {"1", "true"}:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    browsing = Browsing(program)
    yield browsing
    browsing.stop()


@pytest.fixture
def browsing(chromium: Browsing) -> Iterator[Browsing]:
    """A page that complains of nothing."""
    chromium.open()
    yield chromium
    complaints = list(chromium.complaints)
    chromium.close_page()
    assert not complaints


@pytest.fixture(autouse=True)
def strict_policy() -> Iterator[None]:
    middleware = [*settings.MIDDLEWARE, "tests.browser.policy.StrictPolicy"]
    with override_settings(MIDDLEWARE=middleware, TIME_ZONE="UTC"):
        yield


@pytest.fixture
def store(transactional_db: None) -> DatabaseSessionStore:
    return DatabaseSessionStore("default")


@pytest.fixture
def samples(store: DatabaseSessionStore, tmp_path: Path) -> DatabaseSessionStore:
    """The store with the example project's sessions."""
    write_samples(tmp_path)
    import_paths([tmp_path])
    return store


@pytest.fixture
def log_in(browsing: Browsing, live_server: LiveServer) -> LogIn:
    """Log a superuser in, by the form, in a window like this."""
    User.objects.create_superuser("ada", password="secret")

    def log_in(**options: Any) -> None:
        browsing.open(base_url=live_server.url, **options)

        def fill(page: Any) -> None:
            page.goto("/admin/")
            page.fill("#id_username", "ada")
            page.fill("#id_password", "secret")
            page.click("[type=submit]")
            page.wait_for_selector("#user-tools, #logout-form")

        browsing.do(fill)

    return log_in
