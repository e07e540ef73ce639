"""The ASGI application for servers in processes of their own."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.live.settings"

application = get_asgi_application()
