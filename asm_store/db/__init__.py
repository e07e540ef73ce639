"""What differs between database vendors: the only SQL that is not Django's own."""

from __future__ import annotations

from django.db import connections

from .base import BaseOperations, Failure, Locker
from .channels import Channel
from .mysql import MySQLOperations
from .postgresql import NoFunction, PostgreSQLOperations
from .sqlite import SQLiteOperations

__all__ = ["BaseOperations", "Channel", "Failure", "Locker", "NoFunction", "get_operations"]

OPERATIONS: dict[str, type[BaseOperations]] = {
    "mysql": MySQLOperations,
    "postgresql": PostgreSQLOperations,
    "sqlite": SQLiteOperations,
}


def get_operations(using: str) -> BaseOperations:
    """The operations for the database of the alias `using`."""
    connection = connections[using]
    return OPERATIONS.get(connection.vendor, BaseOperations)(connection)
