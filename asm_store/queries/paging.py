"""Pages of rows by keyset: each begins after the last row of the one before, never by OFFSET."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Model, QuerySet

from .. import conf
from ..backends import transactions
from ..cursors import Listing
from ..db import get_operations
from ..events.sanitizing import shown
from ..exceptions import QueryError, ValidationError
from ..expressions import Beyond
from ..fields import clean_id, clean_whole_number
from ..filters import StrictFilterSet
from ..handler import default_store
from ..models import Session

P = ParamSpec("P")
R = TypeVar("R")
Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Order:
    """By these columns, of which the last, or all together, make every row unique."""

    columns: tuple[str, ...]
    descending: bool = False

    def of(self, rows: QuerySet[Row]) -> QuerySet[Row]:
        sign = "-" if self.descending else ""
        return rows.order_by(*(f"{sign}{column}" for column in self.columns))

    def after(self, rows: QuerySet[Row], position: tuple[Any, ...]) -> QuerySet[Row]:
        """The rows beyond the one with that position, in no order."""
        beyond = Beyond.of(rows.model, self.columns, position, descending=self.descending)
        return rows.filter(beyond)

    def position(self, row: Any) -> tuple[Any, ...]:
        return tuple(getattr(row, column) for column in self.columns)


@dataclass(frozen=True, slots=True)
class Search(Generic[Row]):
    """A checked question for a page of rows."""

    rows: QuerySet[Row]
    order: Order
    listing: Listing
    limit: int
    position: tuple[Any, ...] | None

    def page(self) -> tuple[list[Row], str | None]:
        """The page's rows, and the cursor for the next page if there is one."""
        found = list(self.query())
        if len(found) <= self.limit:
            return found, None
        found.pop()
        return found, self.listing.cursor(self.order.position(found[-1]))

    def query(self) -> QuerySet[Row]:
        """The page's rows, and one more, which says that there is a next page."""
        rows = self.order.of(self.rows)
        if self.position is not None:
            rows = self.order.after(rows, self.position)
        return rows[: self.limit + 1]


def search(
    kind: type[StrictFilterSet],
    filters: Mapping[str, Any],
    orders: Mapping[str, Order],
    *,
    order_by: str,
    limit: int,
    cursor: str | None,
    using: str,
) -> Search[Any]:
    """The search that a caller asks for; his arguments are checked before any SQL.

    `QueryError` for a filter, an order or a limit that is not acceptable (`InvalidStatus`,
    `InvalidEventType` for these), `InvalidCursor` for a cursor that is not of this search.
    """
    chosen = kind(filters, kind._meta.model._base_manager.using(using))
    values = chosen.checked()
    order = _known_order(orders, order_by)
    listing = Listing(kind._meta.model._meta.db_table, order_by, values)
    return Search(
        chosen.qs,
        order,
        listing,
        clean_limit(limit),
        None if cursor is None else listing.position(cursor),
    )


def _known_order(orders: Mapping[str, Order], name: object) -> Order:
    if isinstance(name, str) and name in orders:
        return orders[name]
    raise QueryError(f"order_by: unknown order {shown(name)}; known are {', '.join(orders)}.")


def matching(kind: type[StrictFilterSet], filters: Mapping[str, Any], using: str) -> QuerySet[Any]:
    """The rows that match checked filters, in no order; errors are as for `search()`."""
    chosen = kind(filters, kind._meta.model._base_manager.using(using))
    chosen.checked()
    rows: QuerySet[Any] = chosen.qs
    return rows


def pages(rows: QuerySet[Any], order: Order, size: int) -> Iterator[list[Any]]:
    """All rows, page by page; nothing is kept open between the pages."""
    position: tuple[Any, ...] | None = None
    while True:
        wanted = rows if position is None else order.after(rows, position)
        page: list[Any] = ask(rows.db, partial(list, order.of(wanted)[:size]))
        if page:
            yield page
        if len(page) < size:
            return
        position = order.position(page[-1])


def checked_id(value: object, name: str = "session_id") -> str:
    """`value` if it can be an id, else `QueryError`."""
    try:
        return clean_id(value, name)
    except ValidationError as error:
        raise QueryError(str(error)) from None


def clean_limit(value: object) -> int:
    try:
        return clean_whole_number(value, "limit", 1, conf.max_query_limit())
    except ValidationError as error:
        raise QueryError(str(error)) from None


def database(using: str | None) -> str:
    """The alias to work on: without one, the default store's database."""
    if using is not None:
        if not isinstance(using, str):
            raise QueryError(f"using: expected an alias of DATABASES, got {shown(using)}.")
        return using
    alias: str | None = getattr(default_store, "using", None)
    if alias is None:
        raise ImproperlyConfigured(
            "The default store has no database to read from: say which by `using`."
        )
    return alias


def reader(using: str | None) -> str:
    """The alias that a query reads: without one, where `DATABASE_ROUTERS` read sessions.

    A router that has no answer leaves it to the default store's database, and not to "default".
    """
    alias = database(using)
    if using is not None:
        return alias
    for each in router.routers:
        if find := getattr(each, "db_for_read", None):
            chosen: str | None = find(Session)
            if chosen:
                return chosen
    return alias


def ask(using: str, body: Callable[[], R]) -> R:
    """`body()`, again when a connection broke, with plans for the values that were asked for."""

    def planned() -> R:
        with get_operations(using).planned_anew():
            return body()

    return transactions.read(using, planned)


def async_twin(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """The `a` function for `function`: the same call, in the thread that Django's ORM runs in."""

    async def twin(*args: P.args, **kwargs: P.kwargs) -> R:
        return await sync_to_async(function)(*args, **kwargs)

    twin.__name__ = twin.__qualname__ = f"a{function.__name__}"
    twin.__module__ = function.__module__
    twin.__doc__ = f"The async twin of `{function.__name__}()`."
    twin.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return twin
