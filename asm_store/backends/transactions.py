"""Runs work against a database: in a transaction, again when that may help, with one error door."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DriverError
from django.db import IntegrityError, connections, transaction
from django.utils.connection import ConnectionDoesNotExist

from .. import conf, signals
from ..db import Failure, get_operations
from ..exceptions import MigrationRequired, StorageError

T = TypeVar("T")

FIRST_DELAY = 0.005
LONGEST_DELAY = 1.0
# A unique violation that is met again and again is no race that was lost.
MAX_COLLISIONS = 5
COLLISION = "collision"


def read(using: str, body: Callable[[], T]) -> T:
    """`body()` without a transaction of its own; again when a connection broke."""
    return _attempt(using, lambda _collided: body())


def write(using: str, body: Callable[[], T], after_collision: Callable[[], T] | None = None) -> T:
    """`body()` in a transaction of the database `using`.

    Within the caller's `atomic()` block it is a savepoint, and what fails, fails: only the
    caller can repeat his transaction. Otherwise a deadlock, a serialization failure, a lost wait
    for a lock and a lost connection are tried again, for ASM_STORE_RETRY_SECONDS. A unique
    violation is tried again in both cases: another writer stored the same id meanwhile. From then
    on `after_collision` runs instead, when given: under REPEATABLE READ a plain read in the
    caller's block goes on not seeing that row. So `body` may run several times.
    """

    def attempt(collided: bool) -> T:
        with transaction.atomic(using=using):
            get_operations(using).begin_write()
            return after_collision() if collided and after_collision else body()

    return _attempt(using, attempt)


def _attempt(using: str, attempt: Callable[[bool], T]) -> T:
    delays = _delays()
    attempts = itertools.count(1)
    collisions = 0
    while True:
        joined = is_joined(using)
        try:
            return attempt(collisions > 0)
        except IntegrityError as error:
            collisions += 1
            if collisions > MAX_COLLISIONS:
                raise _translated(using, error) from (error.__cause__ or error)
            _tell(using, COLLISION, next(attempts), 0.0, error)
        # Django lets the driver's own error through where it closes a cursor; a write that joined
        # this one has translated it already.
        except (DriverError, connections[using].Database.Error, StorageError) as error:  # type: ignore[attr-defined]
            failure = get_operations(using).classify(error)
            if failure is Failure.CONNECTION and not joined:
                connections[using].close()
            delay = None if joined else next(delays, None)
            if failure not in (Failure.BUSY, Failure.CONNECTION) or delay is None:
                if isinstance(error, StorageError):
                    raise
                raise _translated(using, error) from (error.__cause__ or error)
            _tell(using, failure.value, next(attempts), delay, error)
            time.sleep(delay)


def _tell(using: str, failure: str, attempt: int, delay: float, error: Exception) -> None:
    signals.retrying.send_robust(
        sender=None, using=using, failure=failure, attempt=attempt, delay=delay, error=error
    )


def is_joined(using: str) -> bool:
    """Whether the transaction is the caller's, by atomic() or by set_autocommit(False)."""
    try:
        connection = connections[using]
    except ConnectionDoesNotExist as error:
        known = ", ".join(sorted(connections))
        raise ImproperlyConfigured(f"{error} DATABASES has {known}.") from None
    # AUTOCOMMIT may be off in DATABASES: then it is from the first statement on.
    is_open = connection.connection is not None
    autocommit = connection.autocommit if is_open else connection.settings_dict["AUTOCOMMIT"]
    return connection.in_atomic_block or not autocommit


def _delays() -> Iterator[float]:
    """Growing pauses with jitter, so that those who met do not meet again, until time is up."""
    end = time.monotonic() + conf.retry_seconds()
    longest = FIRST_DELAY
    while time.monotonic() < end:
        yield min(random.uniform(0, longest), max(0.0, end - time.monotonic()))  # noqa: S311
        longest = min(longest * 2, LONGEST_DELAY)


def _translated(using: str, error: Exception) -> StorageError:
    if get_operations(using).classify(error) is Failure.NO_TABLE:
        return MigrationRequired(
            f"The tables of asm_store are missing from the database {using!r}: "
            f"run `manage.py migrate asm_store --database {using}`."
        )
    return StorageError(f"The database {using!r} failed: {error}")
