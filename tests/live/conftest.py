from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from _pytest.mark.structures import ParameterSet
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management.sql import emit_post_migrate_signal
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session
from asm_store.test import make_event, make_run, make_session
from tests.cases import EMPTIED_APPS, require
from tests.live.browsers import Browser

VIEW = ("view_session", "view_event")
VIEW_ALL = (*VIEW, "view_event_payload")
MakeUser = Callable[..., User]
APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]


def with_users(alias: str) -> ParameterSet:
    """A parameter whose test may use, with real commits, this database and that of the users."""
    access = pytest.mark.django_db(
        transaction=True,
        databases=[*dict.fromkeys(["default", alias])],
        available_apps=[*APPS, *EMPTIED_APPS],
    )
    return pytest.param(alias, marks=[access] if alias in settings.DATABASES else [])


@pytest.fixture(params=map(with_users, ["default", "postgresql", "mysql"]))
def using(request: pytest.FixtureRequest) -> str:
    """A database of each vendor, with that of the users."""
    return require(request.param)


on_default = pytest.mark.parametrize("using", [with_users("default")], indirect=True)
on_postgresql = pytest.mark.parametrize("using", [with_users("postgresql")], indirect=True)


@pytest.fixture
def session(database_store: DatabaseSessionStore) -> Session:
    return database_store.save_session(make_session(status="active"))


@pytest.fixture(scope="module", autouse=True)
def permissions_as_before(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Each test empties their table too; tests of other modules count on them, where users are."""
    yield
    with django_db_blocker.unblock():
        emit_post_migrate_signal(verbosity=0, interactive=False, db="default")


@pytest.fixture(autouse=True)
def urls() -> Iterator[None]:
    with override_settings(ROOT_URLCONF="tests.live.urls"):
        yield


@pytest.fixture
def make_user(using: str) -> MakeUser:
    """Makes users with permissions; `using` is asked first whether its server is there."""

    def make(*permissions: str, name: str = "ada") -> User:
        user = User.objects.create_user(name)
        found = Permission.objects.filter(
            content_type__app_label="asm_store", codename__in=permissions
        )
        user.user_permissions.set(found)
        return user

    return make


@pytest.fixture
def user(make_user: MakeUser) -> User:
    return make_user(*VIEW_ALL)


@pytest.fixture
def browser(using: str, user: User) -> Browser:
    return Browser(using, user)


@pytest.fixture
def events(database_store: DatabaseSessionStore, session: Session) -> list[Event]:
    """Those of a session that has ended, in two runs."""
    runs = [database_store.save_run(make_run(session)).pk for _ in range(2)]
    stored = database_store.append_events(
        make_event(
            session, run_id=runs[number % 2], type=("message_sent", "turn_completed")[number // 4]
        )
        for number in range(8)
    )
    database_store.update_session(session.pk, status="completed")
    return stored
