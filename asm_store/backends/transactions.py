"""Runs work against a database: in a transaction, again when that may help, with one error door."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DriverError
from django.db import IntegrityError, connections, transaction
from django.utils.connection import ConnectionDoesNotExist

from .. import conf, signals
from ..db import Failure, NoFunction, get_operations
from ..exceptions import MigrationRequired, StorageError

T = TypeVar("T")

FIRST_DELAY = 0.005
MOST_DOUBLINGS = 10
# Who has met others on one row would find it taken for ever, were his pauses to grow much longer
# than what they do there; a server that is away is not to be stormed when it is back.
LONGEST_DELAY = {Failure.BUSY: 0.05, Failure.CONNECTION: 1.0}
# A unique violation that is met again and again is no race that was lost.
MAX_COLLISIONS = 5


def read(using: str, body: Callable[[], T]) -> T:
    """`body()` without a transaction of its own; again when a connection broke."""
    return _attempt(using, lambda _collided, _joined: body())


def write(
    using: str,
    body: Callable[[], T],
    after_collision: Callable[[], T] | None = None,
    alone: Callable[[], T | None] | None = None,
) -> T:
    """`body()` in a transaction of the database `using`.

    Within the caller's `atomic()` block it is a savepoint, and what fails, fails: only the
    caller can repeat his transaction. Otherwise a deadlock, a serialization failure, a lost wait
    for a lock and a lost connection are tried again, for ASM_STORE_RETRY_SECONDS. A unique
    violation is tried again in both cases: another writer stored the same id meanwhile. From then
    on `after_collision` runs instead, when given: under REPEATABLE READ a plain read in the
    caller's block goes on not seeing that row. So `body` may run several times.

    `alone` is an append of one event, tried first and without a transaction, where there is none
    of the caller's and it is one statement; `body` is not needed when it gives more than None.
    """

    def attempt(collided: bool, joined: bool) -> T:
        operations = get_operations(using)
        if alone is not None and operations.appends_alone and not (joined or collided):
            done = alone()
            if done is not None:
                return done
        with transaction.atomic(using=using):
            operations.begin_write()
            return after_collision() if collided and after_collision else body()

    return _attempt(using, attempt)


def _attempt(using: str, attempt: Callable[[bool, bool], T]) -> T:
    retries = _Retries(using)
    while True:
        joined = is_joined(using)
        try:
            return attempt(retries.collisions > 0, joined)
        except NoFunction:
            continue
        except IntegrityError as error:
            if not retries.collide(error):
                raise _translated(using, error) from (error.__cause__ or error)
        # Django lets the driver's own error through where it closes a cursor; a write that joined
        # this one has translated it already.
        except (DriverError, connections[using].Database.Error, StorageError) as error:  # type: ignore[attr-defined]
            failure = get_operations(using).classify(error)
            if failure is Failure.CONNECTION and not joined:
                connections[using].close()
            if joined or not retries.pause(failure, error):
                if isinstance(error, StorageError):
                    raise
                raise _translated(using, error) from (error.__cause__ or error)


class _Retries:
    """How often a work has failed, and how long it may go on."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._failures = self.collisions = 0
        self._end: float | None = None

    def collide(self, error: Exception) -> bool:
        """Another writer was first: whether to try again."""
        self.collisions += 1
        if self.collisions > MAX_COLLISIONS:
            return False
        self._tell("collision", 0.0, error)
        return True

    def pause(self, failure: Failure, error: Exception) -> bool:
        """Wait, longer each time and with jitter, so that those who met do not meet again; False
        when that does not help, or time is up.
        """
        if self._end is None:
            self._end = time.monotonic() + conf.retry_seconds()
        left = self._end - time.monotonic()
        if failure not in LONGEST_DELAY or left <= 0:
            return False
        doublings = min(self._failures, MOST_DOUBLINGS)
        longest = min(FIRST_DELAY * 2**doublings, LONGEST_DELAY[failure])
        delay = min(random.uniform(0, longest), left)  # noqa: S311
        self._tell(failure.value, delay, error)
        time.sleep(delay)
        return True

    def _tell(self, failure: str, delay: float, error: Exception) -> None:
        self._failures += 1
        signals.retrying.send_robust(
            sender=None,
            using=self._using,
            failure=failure,
            attempt=self._failures,
            delay=delay,
            error=error,
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


def _translated(using: str, error: Exception) -> StorageError:
    if get_operations(using).classify(error) is Failure.NO_TABLE:
        return MigrationRequired(
            f"The tables of asm_store are missing from the database {using!r}: "
            f"run `manage.py migrate asm_store --database {using}`."
        )
    return StorageError(f"The database {using!r} failed: {error}")
