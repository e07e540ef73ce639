from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings

from tests.cases import require

STORE = "asm_store.backends.database.DatabaseSessionStore"
VIEW = ("view_session", "view_run", "view_event", "view_artifact")
LogIn = Callable[..., Client]


def with_users(alias: str) -> object:
    """A parameter whose test may use this database, and that of the users."""
    access = pytest.mark.django_db(databases=list(dict.fromkeys(["default", alias])))
    return pytest.param(alias, marks=[access] if alias in settings.DATABASES else [])


@pytest.fixture(params=map(with_users, ["default", "postgresql", "mysql"]))
def using(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of each vendor, which the default store has."""
    alias = require(request.param)
    with override_settings(
        ASM_STORES={"default": {"BACKEND": STORE, "OPTIONS": {"using": alias}}},
    ):
        yield alias


@pytest.fixture
def log_in(client: Client) -> LogIn:
    """Log a member of the staff in, who has these permissions and no other."""

    def log_in(*permissions: str) -> Client:
        user = User.objects.create_user("ada", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="asm_store", codename__in=permissions)
        )
        client.force_login(user)
        return client

    return log_in
