from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import Permission, User
from django.test import override_settings

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Session
from asm_store.test import make_session
from tests.cases import EMPTIED_APPS, require

VIEW = ("view_session", "view_event")
VIEW_ALL = (*VIEW, "view_event_payload")
MakeUser = Callable[..., User]
APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]


def with_users(alias: str) -> object:
    """A parameter whose test may use, with real commits, this database and that of the users."""
    access = pytest.mark.django_db(
        transaction=True,
        databases=[*dict.fromkeys(["default", alias])],
        available_apps=[*APPS, *EMPTIED_APPS],
    )
    return pytest.param(alias, marks=[access])


@pytest.fixture(params=map(with_users, ["default", "postgresql", "mysql"]))
def using(request: pytest.FixtureRequest) -> str:
    """A database of each vendor, with that of the users."""
    return require(request.param)


@pytest.fixture
def database_store(using: str) -> DatabaseSessionStore:
    return DatabaseSessionStore(using)


@pytest.fixture
def session(database_store: DatabaseSessionStore) -> Session:
    return database_store.save_session(make_session(status="active"))


@pytest.fixture(autouse=True)
def urls() -> Iterator[None]:
    with override_settings(ROOT_URLCONF="tests.live.urls"):
        yield


@pytest.fixture
def make_user() -> MakeUser:
    def make(*permissions: str, name: str = "ada") -> User:
        user = User.objects.create_user(name)
        found = Permission.objects.filter(
            content_type__app_label="asm_store", codename__in=permissions
        )
        user.user_permissions.set(found)
        return user

    return make
