"""Settings of the admin's measurement: the benchmarks', and a project's with an admin."""

from __future__ import annotations

from tests.project import INSTALLED_APPS, MIDDLEWARE, ROOT_URLCONF, STATIC_URL, TEMPLATES

from .settings import DATABASES, FOUND, SECRET_KEY, USE_TZ

__all__ = [
    "DATABASES",
    "FOUND",
    "INSTALLED_APPS",
    "MIDDLEWARE",
    "ROOT_URLCONF",
    "SECRET_KEY",
    "STATIC_URL",
    "TEMPLATES",
    "USE_TZ",
]

# The users are in a small database of their own, in memory.
DATABASES["default"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
