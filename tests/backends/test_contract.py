"""The contract suite on every backend: memory, and each database alias."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from django.test import SimpleTestCase

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.test import SessionStoreContract
from tests.cases import CommittedTestCase


class MemoryTests(SessionStoreContract, SimpleTestCase):
    def make_store(self) -> InMemorySessionStore:
        return InMemorySessionStore(alias=self.id())  # data of this test's own


class OnDatabase(SessionStoreContract):
    """The class's alias is the store's; tests.cases forbids the others."""

    using: ClassVar[str]

    def make_store(self) -> BaseSessionStore:
        return DatabaseSessionStore(using=self.using)


class DefaultTests(OnDatabase, CommittedTestCase):
    using = "default"
    make_store_path = "tests.backends.stores:default"


class OtherTests(OnDatabase, CommittedTestCase):
    using = "other"
    make_store_path = "tests.backends.stores:other"


class PostgresqlTests(OnDatabase, CommittedTestCase):
    using = "postgresql"
    make_store_path = "tests.backends.stores:postgresql"


class PostgresqlOtherTests(OnDatabase, CommittedTestCase):
    using = "postgresql_other"
    make_store_path = "tests.backends.stores:postgresql_other"


class MysqlTests(OnDatabase, CommittedTestCase):
    using = "mysql"
    make_store_path = "tests.backends.stores:mysql"


class MysqlOtherTests(OnDatabase, CommittedTestCase):
    using = "mysql_other"
    make_store_path = "tests.backends.stores:mysql_other"


def test_no_part_of_the_contract_hides_a_name_of_another() -> None:
    """With two tests of the same name one would silently not run; helpers would be mixed up."""
    names = Counter(
        name
        for part in SessionStoreContract.__mro__[:-1]
        for name in vars(part)
        if name[:2] != "__"
    )
    assert [name for name, count in names.items() if count > 1] == []
