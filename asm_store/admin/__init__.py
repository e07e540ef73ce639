"""Sessions, runs, events and artifacts to browse in the admin. Writing goes through a store."""

from __future__ import annotations

from django.contrib import admin

from ..models import Artifact, Event, Run, Session
from .records import ArtifactAdmin, EventAdmin, RunAdmin
from .sessions import SessionAdmin

__all__ = ["ArtifactAdmin", "EventAdmin", "RunAdmin", "SessionAdmin"]

if admin.site.index_template is None:
    # A link to the dashboard; a project's own index has it by `admin:asm_store_dashboard`.
    admin.site.index_template = "admin/asm_store/index.html"

admin.site.register(Session, SessionAdmin)
admin.site.register(Run, RunAdmin)
admin.site.register(Event, EventAdmin)
admin.site.register(Artifact, ArtifactAdmin)
