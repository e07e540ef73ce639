"""Tests with really committed data, on one database each, seen by threads and processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar

import pytest
from _pytest.mark.structures import ParameterSet
from django.conf import settings
from django.test import TransactionTestCase

from tests.databases import vendor_of
from tests.servers import ServerUnavailableError, obtain

T = TypeVar("T")

# Only these apps' tables are emptied after a test, which is quicker than all of them.
EMPTIED_APPS = ["asm_store"]


def require(alias: str) -> str:
    """The alias, when its server is there; else a skip, which is a failure where it must be."""
    if alias not in settings.DATABASES:
        skip(f"{alias}: {obtain().missing[vendor_of(alias)]}")
    return alias


def with_access(alias: str) -> ParameterSet:
    """A parameter whose test may use, with real commits, this database and no other."""
    access = pytest.mark.django_db(transaction=True, databases=[alias], available_apps=EMPTIED_APPS)
    return pytest.param(alias, marks=[access] if alias in settings.DATABASES else [])


def only_on(alias: str) -> pytest.MarkDecorator:
    """For a test whose `using` is this alias alone."""
    return pytest.mark.parametrize("using", [with_access(alias)], indirect=True)


def skip(reason: str) -> NoReturn:
    """A skip for want of a server, which is a failure where there must be one."""
    if _servers_are_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def started(start: Callable[[], T]) -> T:
    """What `start()` gives; a skip, or that failure, when this machine has not what it needs."""
    try:
        return start()
    except (ServerUnavailableError, FileNotFoundError) as error:
        skip(str(error))


def _servers_are_required() -> bool:
    """`ASM_TEST_REQUIRE_SERVERS` says it (1 or 0); without it, CI requires them."""
    said = os.environ.get("ASM_TEST_REQUIRE_SERVERS")
    return said != "0" if said else os.environ.get("CI", "").lower() in {"1", "true"}


class CommittedTestCase(TransactionTestCase):
    """The fixture `using` for a class: set `using` to an alias; other aliases are forbidden."""

    using: ClassVar[str]
    available_apps = EMPTIED_APPS

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "using" in vars(cls):
            cls.databases = {cls.using}

    @classmethod
    def setUpClass(cls) -> None:
        require(cls.using)
        super().setUpClass()
