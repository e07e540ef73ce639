from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AsmStoreConfig(AppConfig):
    name = "asm_store"
    verbose_name = _("agent sessions")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, receivers  # noqa: F401  (registered by being imported)
