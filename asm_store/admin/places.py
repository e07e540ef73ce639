"""Where the admin's records and pages are: the default store's database, this site's addresses."""

from __future__ import annotations

from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.urls import reverse

from ..queries import paging


def database() -> str:
    """The alias of the default store; `ImproperlyConfigured` for a store that has none."""
    return paging.database(None)


def address(site: str | HttpRequest, name: str, *ids: str) -> str:
    """`address(site, "session_change", pk)`: a page of the admin site that has this name.

    Of a request: of the site that it came to.
    """
    if isinstance(site, HttpRequest):
        site = site.resolver_match.namespace if site.resolver_match else ""
    return reverse(f"admin:asm_store_{name}", args=list(map(quote, ids)), current_app=site)
