"""The addresses of the admin's pages, and what a browser gets there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.contrib.admin.utils import quote
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

MOST_QUERIES = 15


def address(name: str, *arguments: str) -> str:
    """`address("session_change", pk)`."""
    return reverse(f"admin:asm_store_{name}", args=[quote(part) for part in arguments])


def get(client: Client, url: str, **query: Any) -> str:
    response = client.get(url, query)
    assert response.status_code == 200, (response.status_code, response.headers)
    return response.content.decode()


@contextmanager
def queries(using: str) -> Iterator[list[str]]:
    """The statements that are executed there and on the users' database."""
    found: list[str] = []
    with ExitStack() as stack:
        contexts = [
            stack.enter_context(CaptureQueriesContext(connections[alias]))
            for alias in dict.fromkeys(["default", using])
        ]
        yield found
        for context in contexts:
            found += [query["sql"] for query in context.captured_queries]
