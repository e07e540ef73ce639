"""Conditions that each database is asked for in its own words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from functools import cached_property
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    BooleanField,
    Case,
    CharField,
    F,
    Field,
    FloatField,
    Func,
    IntegerField,
    Lookup,
    Model,
    Value,
    When,
)
from django.db.models.functions import TruncHour
from django.db.models.sql.compiler import SQLCompiler

from .events.sanitizing import ENCODER
from .fields import MAX_GENERATED_LENGTH

Sql = tuple[str, Sequence[Any]]


class Row(Func):
    """Columns, or values, side by side."""

    # Nobody selects one; without it Django looks for the type that they have in common.
    output_field = BooleanField()
    template = "(%(expressions)s)"


class Beyond(Lookup):
    """Rows that come after a position, in the order of some columns, ascending or descending.

    PostgreSQL and SQLite walk an index of those columns from there on when rows are compared as
    a whole; MySQL and MariaDB do it when the cases are written out. A lookup: of a function Django
    would make `(...) = 1` for these, which no index serves.
    """

    prepare_rhs = False
    lhs: Row
    rhs: Row

    def __init__(self, columns: Row, position: Row, *, descending: bool = False) -> None:
        super().__init__(columns, position)
        self.operator = "<" if descending else ">"

    @classmethod
    def of(
        cls,
        model: type[Model],
        columns: Sequence[str],
        position: Sequence[Any],
        *,
        descending: bool,
    ) -> Beyond:
        """Beyond the row whose `columns` are `position`."""
        fields = {field.name: field for field in model._meta.concrete_fields}
        values = (
            Value(value, output_field=fields[column])
            for column, value in zip(columns, position, strict=True)
        )
        return cls(Row(*map(F, columns)), Row(*values), descending=descending)

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        columns, values = compiler.compile(self.lhs), compiler.compile(self.rhs)
        return f"{columns[0]} {self.operator} {values[0]}", [*columns[1], *values[1]]

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        pairs = self._pairs(compiler)
        (column, bound), *_ = [(c, v) for (c, _), (v, _) in pairs]
        # Without a bound of its own for the first column they read the index from its beginning.
        sql, parameters = f"{column} {self.operator}= {bound}", _parameters(pairs[0])
        cases = []
        for last in range(len(pairs)):
            operators = ["="] * last + [self.operator]
            tests = zip(pairs, operators, strict=False)
            cases.append(
                " AND ".join(f"{c} {operator} {v}" for ((c, _), (v, _)), operator in tests)
            )
            parameters += _parameters(side for pair in pairs[: last + 1] for side in pair)
        return f"({sql} AND (({') OR ('.join(cases)})))", parameters

    def _pairs(self, compiler: SQLCompiler) -> list[tuple[Sql, Sql]]:
        """Each column with its value, compiled."""
        columns, values = (
            map(compiler.compile, side.get_source_expressions()) for side in (self.lhs, self.rhs)
        )
        return list(zip(columns, values, strict=True))


def _parameters(compiled: Any) -> list[Any]:
    return [parameter for _, parameters in compiled for parameter in parameters]


class Texts(list[str]):
    """Values that several statements ask for, which stay as they are; encoded once for all."""

    @cached_property
    def json(self) -> str:
        return ENCODER.encode(self)


class OneOf(Lookup):
    """Whether a column of text has one of many values: an `IN` whose list is one parameter.

    A thousand parameters take the database, the driver and Django longer than the rows do.
    """

    prepare_rhs = False
    rhs: Texts

    def __init__(self, column: str, values: Iterable[str]) -> None:
        super().__init__(F(column), values if isinstance(values, Texts) else Texts(values))

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        column, parameters = self._column(compiler)
        return f"{column} IN ({', '.join(['%s'] * len(self.rhs))})", [*parameters, *self.rhs]

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Sql:
        column, parameters = self._column(compiler)
        # JSON, which drivers send as it is: they look at each text of an array.
        values = "ARRAY(SELECT jsonb_array_elements_text(%s::jsonb))"
        return f"{column} = ANY({values})", [*parameters, self.rhs.json]

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Sql:
        column, parameters = self._column(compiler)
        values = "SELECT value FROM json_each(%s)"
        return f"{column} IN ({values})", [*parameters, self.rhs.json]

    def _column(self, compiler: SQLCompiler) -> Sql:
        if not self.rhs:
            raise EmptyResultSet  # Django asks the database nothing then
        return compiler.compile(self.lhs)


class HasTags(Lookup):
    """Whether a column of tags has all of some tags, at least one, compared exactly."""

    lookup_name = "has"
    prepare_rhs = False
    rhs: Sequence[str]

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Sql:
        column, parameters = self.process_lhs(compiler, connection)
        return f"{column} @> %s::jsonb", [*parameters, ENCODER.encode(list(self.rhs))]

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Sql:
        # MariaDB compares the text: the tags are to be escaped as they are in the column.
        column, parameters = self.process_lhs(compiler, connection)
        return f"JSON_CONTAINS({column}, %s)", [*parameters, ENCODER.encode(list(self.rhs))]

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Sql:
        column, parameters = self.process_lhs(compiler, connection)
        one = f"EXISTS (SELECT 1 FROM json_each({column}) WHERE json_each.value = %s)"  # noqa: S608
        repeated = [value for tag in self.rhs for value in (*parameters, tag)]
        return _all([one] * len(self.rhs)), repeated


def _all(conditions: Sequence[str]) -> str:
    """All of them, none within more than a few others: SQLite takes 1,000 levels at most."""
    groups = [conditions[start : start + 50] for start in range(0, len(conditions), 50)]
    together = " AND ".join(f"({' AND '.join(group)})" for group in groups)
    return f"({together})"


class Looked(Func):
    """A column that SQLite, MariaDB and MySQL look at in a row, and never look for in an index.

    Without statistics they take an index of it for as good as one of the row's owner, and read
    all of the table for each owner. PostgreSQL estimates, and may use either.
    """

    arity = 1
    template = "coalesce(%(expressions)s, NULL)"

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        return compiler.compile(self.get_source_expressions()[0])


class Version(Func):
    """One value that tells whether a row, of which it has the key first, was changed meanwhile."""

    function = "JSON_ARRAY"
    output_field = CharField()

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        """The transaction that has written it: so a change that changes nothing is one, too."""
        key = compiler.compile(self.get_source_expressions()[0])[0]
        return f"{key.rpartition('.')[0]}.xmin", ()


class HourOf(TruncHour):
    """When the hour of UTC began that a column's moment belongs to."""

    def __init__(self, expression: Any, **extra: Any) -> None:
        super().__init__(expression, **{"tzinfo": UTC, **extra})

    def as_sqlite(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        """By its text: Django's way is a function in Python, called for each row."""
        if connection.timezone is not UTC:
            return self.as_sql(compiler, connection)
        column, parameters = compiler.compile(self.lhs)
        return f"substr({column}, 1, 13) || ':00:00'", parameters


class StoredSize(Func):
    """About how many bytes a column's value takes where it is, without reading a long one."""

    arity = 1
    function = "length"
    output_field = IntegerField()

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        return self.as_sql(compiler, connection, function="pg_column_size")


class JSONMember(Func):
    """A member of a column that holds a JSON mapping, in each database's own words.

    The words have `{value}` for it and, where they need them, `{kind}` for its type and `{column}`.
    """

    postgresql: str
    sqlite: str
    mysql: str

    def __init__(self, column: Any, name: str) -> None:
        super().__init__(column)
        self.name = name

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        column = self._column(compiler)
        return self.postgresql.format(value=f"{column} -> '{self.name}'"), ()

    def as_sqlite(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        arguments = f"({self._column(compiler)}, '$.{self.name}')"
        return self.sqlite.format(
            kind=f"json_type{arguments}", value=f"json_extract{arguments}"
        ), ()

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Sql:
        column = self._column(compiler)
        value = f"json_extract({column}, '$.{self.name}')"
        return self.mysql.format(column=column, value=value), ()

    def _column(self, compiler: SQLCompiler) -> str:
        [column] = self.get_source_expressions()
        return compiler.compile(column)[0]


class JSONText(JSONMember):
    """The first 255 characters of a text in a column that holds a mapping; null when it is none.

    The generated columns of runs are made of it, and of counts: another SQL here needs a migration
    that makes them anew.
    """

    output_field = CharField(max_length=MAX_GENERATED_LENGTH)
    postgresql = "CASE WHEN jsonb_typeof({value}) = 'string' THEN left({value} #>> '{{}}', 255) END"
    # Not `, 1, 255`: Django's introspection of SQLite takes the commas of a table's columns apart.
    sqlite = "CASE WHEN {kind} = 'text' THEN substr({value},1,255) END"
    mysql = (
        "CASE WHEN json_valid({column}) AND json_type({value}) = 'STRING' "
        "THEN left(json_unquote({value}), 255) END"
    )


class TokenCount(JSONMember):
    """A count in a column of token usage, as a float; what is no finite number >= 0 counts as 0.

    A count beyond 1e100 is 1e100, so that no sum of counts is too large for a float; whole
    numbers up to 2**53 are exact.
    """

    output_field: Field[Any, Any] = FloatField()
    postgresql = (
        "CASE WHEN jsonb_typeof({value}) IS DISTINCT FROM 'number' THEN 0 "
        "WHEN ({value})::numeric < 1e-100 THEN 0 "
        "ELSE least(({value})::numeric, 1e100)::double precision END"
    )
    sqlite = (
        "CASE WHEN {kind} IN ('integer', 'real') "
        "THEN max(0.0, min({value} + 0.0, 1e100)) ELSE 0.0 END"
    )
    # MariaDB's functions fail at the 32nd level, and JSON_VALID says so beforehand: such a count
    # is 0 there. A number of more than 100 characters is an integer, and perhaps no double.
    mysql = (
        "CASE WHEN NOT json_valid({column}) THEN 0e0 "
        "WHEN coalesce(json_type({value}), '') "
        "NOT IN ('INTEGER', 'UNSIGNED INTEGER', 'DOUBLE', 'DECIMAL') THEN 0e0 "
        "WHEN left({value}, 1) = '-' THEN 0e0 "
        "WHEN char_length({value}) > 100 THEN 1e100 "
        "ELSE least({value} + 0e0, 1e100) END"
    )


class HasTokenCount(TokenCount):
    """Whether a column of token usage has that count, be it a nonsense; null is none."""

    output_field = BooleanField()
    postgresql = "coalesce(jsonb_typeof({value}), 'null') <> 'null'"
    sqlite = "coalesce({kind}, 'null') <> 'null'"
    mysql = "json_valid({column}) AND coalesce(json_type({value}), 'NULL') <> 'NULL'"


def total_tokens(column: str) -> Case:
    """The total of a column of token usage: input and output where it does not say it."""
    sides = TokenCount(column, "input_tokens") + TokenCount(column, "output_tokens")
    return Case(
        When(HasTokenCount(column, "total_tokens"), then=TokenCount(column, "total_tokens")),
        default=sides,
    )
