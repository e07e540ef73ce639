"""Settings of the tests. Importing them finds or starts the database servers, once a test run."""

from __future__ import annotations

from tests import databases, servers
from tests.project import *  # noqa: F403  (settings; and of these all are to be had from here)

SECRET_KEY = "only for tests"
USE_TZ = True
DATABASES = databases.configure(servers.obtain())
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Their tables are made without running their migrations: that is most of the set-up's time.
MIGRATION_MODULES = {"admin": None, "auth": None, "contenttypes": None, "sessions": None}
